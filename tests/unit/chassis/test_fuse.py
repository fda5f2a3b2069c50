"""When too much is bad."""

from shared.chassis.fuse import Fuse


def test_fifty_bad_in_a_row_blow_it_and_forty_nine_do_not() -> None:
    assert not Fuse().would_blow([True] * 49)
    assert Fuse().would_blow([True] * 50)


def test_fifty_one_bad_of_a_thousand_blow_it_and_fifty_do_not() -> None:
    fifty = ([True] + [False] * 19) * 50
    assert not Fuse().would_blow(fifty)
    assert Fuse().would_blow([*fifty[:-1], True])


def test_what_would_be_is_not_remembered_and_what_was_is() -> None:
    fuse = Fuse()
    fuse.would_blow([True] * 49)
    assert not fuse.would_blow([True])
    fuse.add([True] * 49)
    assert fuse.would_blow([True])
    fuse.add([False])
    assert not fuse.would_blow([True])


def test_bad_ones_of_long_ago_are_forgotten() -> None:
    fuse = Fuse()
    fuse.add([True, False] * 40)
    fuse.add([False] * 1000)
    assert not fuse.would_blow([True, False] * 40)


def test_a_fuse_that_is_read_back_blows_as_the_one_that_was_lost() -> None:
    lived = Fuse()
    lived.add(number % 20 == 0 for number in range(1500))
    recalled = Fuse.recall(0, 1500, {number for number in range(1500) if number % 20 == 0})
    assert (recalled.bad, recalled.run, list(recalled.recent)) == (lived.bad, lived.run, list(lived.recent))
    assert recalled.would_blow([True, True])
    assert not Fuse.recall(1500, 1500, set()).would_blow([True])
