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
