"""Whether records in hand may still be applied: the pure part of the fence, which the consumer and its model share."""

from shared.chassis.errors import Fenced


def follows(first: int, standing: int | None, position: int | None) -> bool:
    """Whether records that came from the broker may be tried.

    Args:
        first: offset of the first of them. A hole before it is lawful (compaction, markers) once the log was looked at.
        standing: where the partition stood when the batch was begun; None: not known.
        position: where it stands by now.
    """
    return standing is not None and first >= standing and standing == position


def row_before(first: int, standing: int, position: int | None) -> int:
    """Where the offset row must stand for records of the batch at work.

    Not where the partition stands by now: a rebalance may have read the row again since the records were fetched, and with
    the row's own value whatever is in hand would pass the fence, applied by another before or out of its place.

    Args:
        first: offset of the first record that is still to be applied.
        standing: where the batch stands; only its own commits move it.
        position: where the partition stands by now; None: it is not ours, or the row was not read again.

    Raises:
        Fenced: the partition was given up, or the records were applied.
    """
    if position is None:
        raise Fenced("the partition is no longer ours")
    if first < standing:
        raise Fenced("the records were applied already")
    return standing


def moved(position: int | None, before: int, after: int) -> int | None:
    """Where the partition stands after a commit from `before` to `after`.

    A rebalance may have set another position meanwhile, and told the client to fetch from there: that one stays.
    """
    return after if position == before else position
