"""When too much is bad."""

from shared.chassis.fuse import Fuse


def test_fifty_bad_in_a_row_blow_it_and_forty_nine_do_not() -> None:
    assert Fuse().blows_at([True] * 49) is None
    assert Fuse().blows_at([False, *[True] * 50]) == 50


def test_fifty_one_bad_of_a_thousand_blow_it_and_fifty_do_not() -> None:
    fifty = ([True] + [False] * 19) * 50
    assert Fuse().blows_at(fifty) is None
    assert Fuse().blows_at([*fifty[:-1], True]) == 999


def test_what_would_be_is_not_remembered_and_what_was_is() -> None:
    fuse = Fuse()
    fuse.blows_at([True] * 49)
    assert fuse.blows_at([True]) is None
    fuse.add([True] * 49)
    assert fuse.blows_at([True]) == 0
    fuse.add([False])
    assert fuse.blows_at([True]) is None


def test_bad_ones_of_long_ago_are_forgotten() -> None:
    fuse = Fuse()
    fuse.add([True, False] * 40)
    fuse.add([False] * 1000)
    assert fuse.blows_at([True, False] * 40) is None


def test_a_fuse_that_is_read_back_blows_as_the_one_that_was_lost() -> None:
    lived = Fuse()
    lived.add(number % 20 == 0 for number in range(1500))
    recalled = Fuse.recall(0, 1500, {number for number in range(1500) if number % 20 == 0})
    assert (recalled.bad, recalled.run, list(recalled.recent)) == (lived.bad, lived.run, list(lived.recent))
    # The first pushes out the bad one at 500; the second is the fifty-first.
    assert recalled.blows_at([True, True]) == 1
    assert Fuse.recall(1500, 1500, set()).blows_at([True]) is None
