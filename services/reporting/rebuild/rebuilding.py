"""Make all figures again from the topics, beside live traffic, compare them with those that stand, and switch in one transaction.

The handlers that run live run on tables of their own (schema `rebuild`) while folds and readers go on with the old ones
(decision 0015). At the end folds wait for a moment: the last records are read, so that both sides contain the same ones,
and the tables are exchanged. The live consumers' offset rows are true of the new tables then, so they are not touched.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import asyncpg

from services.reporting.figures.store import alone
from services.reporting.rebuild import store
from services.reporting.rebuild.reading import Making, Tell, create_consumer
from services.reporting.rebuild.store import CannotRebuild, Compared
from shared.chassis.database import Pool, Tx

CLOSE = 1000
"""Folds may be kept waiting once the rebuild is at most this many records behind them."""

SWITCH_S = 10.0
"""Longest time folds are kept waiting in one attempt to switch, seconds."""

ATTEMPTS = 60
"""How often the switch is tried while somebody reads figures all the time or a register is being applied."""

PAUSE_S = 2.0
"""Pause between two attempts, seconds: time for those who queued behind the last one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found.

    Attributes:
        compared: every table as it stood and as it was made, at one moment shortly before the switch.
        figures_differing: rows of figures that differed.
        examples: some of them: indicator, course set, node, day, what stood, what was made.
        records: records folded, redriven ones included as often as they were looked at.
        meanwhile: offsets by which the live figures went on during the rebuild.
        seconds: how long it took.
        switch_seconds: how long folds waited for the switch.
        attempts: how often the switch was tried.
    """

    compared: tuple[Compared, ...]
    figures_differing: int
    examples: tuple[tuple[str, ...], ...]
    records: int
    meanwhile: int
    seconds: float
    switch_seconds: float
    attempts: int

    @property
    def equal(self) -> bool:
        """Whether what stood was byte for byte what comes from the topics."""
        return all(one.equal for one in self.compared)


def _tell_nobody(stage: str, done: int, there: int) -> None:
    pass


async def rebuild(pool: Pool, bootstrap_servers: Sequence[str], tell: Tell = _tell_nobody) -> Rebuilt:
    """Make everything again and switch to it. Killed at any moment it has changed nothing, and can be begun again.

    Raises:
        CannotRebuild: with the reason; nothing was changed.
        Transient: broker or database do not answer; nothing was changed.
    """
    started = time.monotonic()
    consumer = create_consumer(bootstrap_servers)
    await consumer.start()
    try:
        async with pool.acquire() as connection:
            await store.begin(connection)
            try:
                return await _carry_out(Making(consumer, connection, tell), connection, tell, started)
            finally:
                # After the switch there is nothing left to remove; what cannot be removed now is when a rebuild begins.
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await store.drop(connection)
    finally:
        await consumer.stop()


async def _carry_out(making: Making, connection: Tx, tell: Tell, started: float) -> Rebuilt:
    await making.look()
    before = await making.live()
    log.info("rebuild began", extra={"offsets": before})
    await _come_close(making)
    live = await making.live()
    tell("comparing", live, live)
    compared, differing, examples = await _compare(making, connection)
    await store.prepare_exchange(connection)
    # Records may have been deleted since the first look. Where the log then begins is behind us, or reading has failed there.
    await making.look()
    waited, attempts = await _switch(making, connection, tell, [one.table for one in compared if not one.equal], differing, started)
    done = Rebuilt(tuple(compared), differing, examples, making.records, await making.live() - before, time.monotonic() - started, waited, attempts)
    log.info("rebuild ended", extra={"equal": done.equal, "records": done.records, "switch_seconds": round(waited, 3)})
    return done


async def _come_close(making: Making) -> None:
    """Catch up with the live figures until little is left; they go on meanwhile."""
    close, before = CLOSE, None
    while (left := await making.behind()) > close:
        if before is not None and left > before / 2:
            close *= 2  # they go on nearly as fast as we come after them: a longer wait is better than none to an end
        before = left
        await making.catch_up()


async def _compare(making: Making, connection: Tx) -> tuple[list[Compared], int, tuple[tuple[str, ...], ...]]:
    """Compare what stands with what was made, as of one snapshot, to whose offsets the rebuild is brought. Nobody waits for it."""
    async with connection.transaction(isolation="repeatable_read"):
        await store.at_leisure(connection)
        await making.catch_up()
        await making.apply_redriven()
        compared = await store.compare(connection)
        equal = all(one.equal for one in compared if one.table == "figure")
        differing, examples = (0, ()) if equal else await store.note_differing(connection)
    return compared, differing, examples


async def _switch(making: Making, connection: Tx, tell: Tell, differing: Sequence[str], figures_differing: int, started: float) -> tuple[float, int]:
    """Switch as soon as nobody is in the way; how long folds waited, and at which attempt it was.

    Raises:
        CannotRebuild: somebody was in the way all the time.
    """
    for attempt in range(1, ATTEMPTS + 1):
        await _come_close(making)
        live = await making.live()
        tell("switching", live, live)
        began, standing, ready = time.monotonic(), making.standing(), False
        try:
            async with connection.transaction():
                async with asyncio.timeout(SWITCH_S):
                    await store.briefly(connection, SWITCH_S)
                    await _last_records(making, connection)
                    await store.remember(connection, making.records, differing, figures_differing, began - started, time.monotonic() - began)
                    await store.exchange(connection)
                ready = True
            return time.monotonic() - began, attempt
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, TimeoutError) as error:
            if ready:  # the commit was not answered, so nobody knows whether there is anything left to try
                raise
            log.info("the switch is tried again", extra={"error": type(error).__name__, "attempt": attempt})
            making.go_back(standing)
            await asyncio.sleep(PAUSE_S)
    raise CannotRebuild(f"figures were being read or registers applied at each of {ATTEMPTS} attempts to switch; begin again when it is quieter")


async def _last_records(making: Making, connection: Tx) -> None:
    """Keep folds waiting from here to the end of the transaction, and bring both sides to the same records."""
    await alone(connection)
    await making.catch_up()
    await making.apply_redriven()
