"""The time, as a value that can be handed in, and the versions that are made of it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the present instant, aware, UTC. Tests hand in one that they hold."""

_MICROSECONDS = 1_000_000


def now() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC)


def next_version(previous: int | None, at: datetime) -> int:
    """The version that follows `previous`: a hybrid logical clock in microseconds since 1970.

    It always rises, and it is never below the wall clock, so an entity of a database that was restored to an earlier
    moment still announces higher versions than it announced before (decision 0002).
    """
    wall = int(at.timestamp() * _MICROSECONDS)
    return wall if previous is None or wall > previous else previous + 1


def version_due(previous: int | None, *, changed: bool, since: int, at: datetime) -> int | None:
    """The version under which an entity is to be announced now; None when readers hold what is true.

    Args:
        previous: the version it was announced under last; None for an entity that is new.
        changed: whether it is other than it was stored.
        since: what was announced before this version is announced again though it has not changed: a database that is lost
            may have announced something else meanwhile (decision 0011).
        at: now.
    """
    if previous is not None and not changed and previous >= since:
        return None
    return next_version(previous, at)
