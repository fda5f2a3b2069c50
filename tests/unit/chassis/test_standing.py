"""Whether records in hand may still be applied."""

import pytest

from shared.chassis.errors import Fenced
from shared.chassis.standing import follows, moved, row_before


@pytest.mark.parametrize(
    ("first", "standing", "position", "may"),
    [(5, 5, 5, True), (7, 5, 5, True), (4, 5, 5, False), (5, None, None, False), (5, 5, None, False), (5, 5, 3, False)],
)
def test_records_are_tried_that_do_not_begin_before_our_place(first: int, standing: int | None, position: int | None, may: bool) -> None:
    assert follows(first, standing, position) is may


def test_the_row_must_stand_where_the_batch_stands_and_not_where_the_partition_does_by_now() -> None:
    assert row_before(5, 5, 9) == 5


@pytest.mark.parametrize(("first", "position"), [(5, None), (4, 5)])
def test_what_was_given_up_or_applied_is_fenced(first: int, position: int | None) -> None:
    with pytest.raises(Fenced):
        row_before(first, 5, position)


@pytest.mark.parametrize(("position", "after"), [(5, 8), (3, 3), (None, None)])
def test_a_commit_moves_only_the_position_it_began_at(position: int | None, after: int | None) -> None:
    assert moved(position, 5, 8) == after
