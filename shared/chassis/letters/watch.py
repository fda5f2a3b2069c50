"""Keep the gauge of open dead letters at what the database says."""

import asyncio
import logging
from contextlib import suppress

from shared.chassis import telemetry
from shared.chassis.database import Pool, connection
from shared.chassis.errors import is_transient
from shared.chassis.letters import store
from shared.chassis.letters.store import Filter

log = logging.getLogger(__name__)

EVERY_S = 15.0
"""Pause between two counts, seconds."""


async def measure(pool: Pool, group: str) -> None:
    """Count once. A reason that nothing waits for any more has no value; every worker of a service tells the same."""
    async with connection(pool) as link:
        waiting = await store.count(link, group, Filter())
    telemetry.DEAD_LETTERS_OPEN.clear()
    for reason, letters in waiting.items():
        telemetry.DEAD_LETTERS_OPEN.labels(group, reason).set(letters)


async def watch_open(pool: Pool, group: str, stop: asyncio.Event) -> None:
    """Count again and again until `stop` is set."""
    while not stop.is_set():
        try:
            await measure(pool, group)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("open dead letters could not be counted", extra={"error": type(error).__name__})
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), EVERY_S)
