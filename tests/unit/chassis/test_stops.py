"""When a partition must stand still: a row against a log, as a table."""

from uuid import UUID

import pytest

from shared.chassis.stops import Extent, Place, lost

TOPIC, OTHER = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("place", "extent", "reason"),
    [
        (Place(10, TOPIC), Extent(0, 10), None),
        (Place(10, TOPIC), Extent(0, 20), None),
        (Place(10, TOPIC), Extent(10, 20), None),
        (Place(10, TOPIC), Extent(10, 10), None),
        (Place(0, TOPIC), Extent(0, 0), None),
        (Place(10), Extent(0, 20), None),
        (Place(0, TOPIC), Extent(1, 5), "records_lost_to_retention"),
        (Place(10, TOPIC), Extent(11, 20), "records_lost_to_retention"),
        (Place(10, TOPIC), Extent(20, 20), "records_lost_to_retention"),
        (Place(10, TOPIC), Extent(0, 9), "topic_was_cut_back"),
        (Place(10), Extent(0, 9), "topic_was_cut_back"),
        (Place(10, TOPIC, cut_back_to=9), Extent(0, 20), "topic_was_cut_back"),
        (Place(9, TOPIC, cut_back_to=9), Extent(0, 20), None),
        (Place(10, OTHER), Extent(0, 5), "topic_was_recreated"),
        (Place(10, OTHER), Extent(0, 10), "topic_was_recreated"),
        (Place(10, OTHER), Extent(0, 20), "topic_was_recreated"),
        (Place(0, OTHER), Extent(0, 0), "topic_was_recreated"),
    ],
)
def test_a_row_fits_its_log_or_it_is_said_why_not(place: Place, extent: Extent, reason: str | None) -> None:
    stop = lost("loaves", 3, place, TOPIC, extent)
    assert (stop.reason if stop else None) == reason
    assert stop is None or stop.sentence.startswith("partition 3 of loaves: ")
