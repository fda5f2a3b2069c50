"""Keep the gauge of open dead letters at what the database says."""

from shared.chassis import telemetry
from shared.chassis.database import Pool, connection
from shared.chassis.letters import store
from shared.chassis.letters.store import Filter

COUNTED_EVERY_S = 15.0
"""Pause between two counts, seconds."""


async def measure_open(pool: Pool, group: str) -> None:
    """Count once. A reason that nothing waits for any more has no value; every worker of a service tells the same."""
    async with connection(pool) as link:
        waiting = await store.count(link, group, Filter())
    telemetry.DEAD_LETTERS_OPEN.clear()
    for reason, letters in waiting.items():
        telemetry.DEAD_LETTERS_OPEN.labels(group, reason).set(letters)
