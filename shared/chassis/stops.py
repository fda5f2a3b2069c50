"""When a partition must stand still: what its offset row says, against what the broker has. Told in words for who must decide."""

from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

from shared.chassis.fuse import MOST_IN_A_ROW, MOST_IN_WINDOW, WINDOW

Reason: TypeAlias = Literal["records_lost_to_retention", "topic_was_recreated", "topic_was_cut_back", "topic_is_gone", "fuse_blown"]
"""Why a partition stands still; also a label of `consume_halted_partitions`."""

REASONS: tuple[Reason, ...] = ("records_lost_to_retention", "topic_was_recreated", "topic_was_cut_back", "topic_is_gone", "fuse_blown")
"""Every reason, for the metric."""

RUNBOOK = "docs/runbook/partition-stands-still.md"
"""Where a person reads what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the offset row of a partition says.

    Attributes:
        next_offset: the next offset to apply.
        topic_id: the topic it was begun on; None in rows from before ids were noted.
        cut_back_to: where the log once ended although more had been applied; None: never.
        bad_until: a person lets all bad records before this offset be set aside.
    """

    next_offset: int
    topic_id: UUID | None = None
    cut_back_to: int | None = None
    bad_until: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """What the broker has of a partition: the first offset, and the one after the last."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a partition stands still, as a code and as a sentence."""

    reason: Reason
    sentence: str


def lost(topic: str, partition: int, place: Place, topic_id: UUID, extent: Extent) -> Stop | None:
    """Why nothing may be applied from here on; None when the log still goes on where we stand.

    The order matters: on another topic the offsets mean nothing, and behind the end of a log its beginning means nothing.

    Args:
        topic: name of the topic.
        partition: the partition.
        place: its offset row.
        topic_id: the topic that has this name now.
        extent: what the broker has of the partition.
    """
    where = f"partition {partition} of {topic}"
    if place.topic_id is not None and place.topic_id != topic_id:
        return Stop(
            "topic_was_recreated",
            f"{where}: the topic was deleted and made again ({place.topic_id} before, {topic_id} now), so its offsets are others' offsets",
        )
    end = extent.end if place.cut_back_to is None else min(extent.end, place.cut_back_to)
    if end < place.next_offset:
        return Stop(
            "topic_was_cut_back",
            f"{where}: the log ended at offset {end} although everything before {place.next_offset} was applied; "
            "the broker has lost records, or the topic was deleted and made again",
        )
    if extent.begin > place.next_offset:
        return Stop(
            "records_lost_to_retention",
            f"{where}: the broker has deleted offsets {place.next_offset} to {extent.begin - 1} before they were applied",
        )
    return None


def gone(topic: str) -> Stop:
    """The name stands for no topic at all."""
    return Stop("topic_is_gone", f"the topic {topic} does not exist on the broker")


def fuse_blown(topic: str, partition: int) -> Stop:
    """Too much of what comes is bad."""
    return Stop(
        "fuse_blown",
        f"partition {partition} of {topic}: more than {MOST_IN_WINDOW} of {WINDOW} records, or {MOST_IN_A_ROW} in a row, cannot be used; "
        "something is wrong with whoever writes them",
    )
