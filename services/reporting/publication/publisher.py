"""Bring the `figures` topic up to date: absolute values of nation and provinces, coalesced, with a version that only rises.

Publication is not part of the fold: the fold marks cells, one process at a time turns marks into announcements.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime

import msgspec

from services.reporting import metrics
from services.reporting.periods.domain import VIET_NAM_OFFSET, FigureRow, Period, quarter_of, quarters
from services.reporting.periods.store import hold
from services.reporting.publication import store
from services.reporting.publication.read_back import Seen
from services.reporting.publication.store import Marked
from shared.chassis.clock import Clock, next_version
from shared.chassis.database import TAKEOVER_S, Pool, Tx, connection, transaction
from shared.chassis.errors import is_transient
from shared.chassis.lease import Lease
from shared.chassis.outbox import Announcement, announce, waits
from shared.contracts.reporting import FIGURE_PUBLISHED
from shared.contracts.topics import FIGURES

log = logging.getLogger(__name__)

EVERY_S = 2.0
"""Pause between two rounds, seconds: a cell is published at most this often."""

_encode = msgspec.json.Encoder().encode

ReadBack = Callable[[datetime], Awaitable[Mapping[str, Seen]]]
"""Gives the cells that were published since about a moment."""


class Publisher:
    """The publishing loop of one worker; of all workers one publishes at a time."""

    def __init__(self, pool: Pool, clock: Clock, wake_relay: Callable[[], None], read_back: ReadBack, takeover_s: float = TAKEOVER_S) -> None:
        self._pool = pool
        self._clock = clock
        self._wake_relay = wake_relay
        self._lease = Lease(pool, "publisher", takeover_s)
        self._open: Period | None = None
        self._read_back = read_back
        self._knows = False

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set."""
        while not stop.is_set():
            try:
                if await self._lease.acquire():
                    await self.publish()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("publication is tried again", extra={"error": type(error).__name__})
                self._knows = False  # the database that comes back may be an earlier one
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY_S)

    async def publish(self) -> int:
        """Announce every marked cell whose value is another than was published; returns how many.

        The first round after a start, or after the database was away, begins with reading back what subscribers hold: what
        the tables believe to be published may be what was, before they were restored to an earlier moment (decision 0011).
        """
        seen = {} if self._knows else await self._look_back()
        if seen is None:
            return 0
        now = self._clock()
        current = quarter_of((now + VIET_NAM_OFFSET).date())
        # One snapshot for marks and figures. A publisher that was frozen and lost its lease fails here, because the rows
        # it would write have been written since its snapshot: an old value never follows a new one.
        async with transaction(self._pool, "repeatable_read") as tx:
            await hold(tx)
            if current != self._open:
                await store.open_quarter(tx, current)
            await store.adopt(tx, seen)
            marked = await store.take_marks(tx)
            events = await _events(tx, marked, now, current, await store.frozen_periods(tx)) if marked else []
            await announce(tx, events)
        self._open, self._knows = current, True
        if not events:
            return 0
        self._wake_relay()
        metrics.PUBLISHED.inc(len(events))
        return len(events)

    async def _look_back(self) -> Mapping[str, Seen] | None:
        """What subscribers hold that the tables may not know of; None while the outbox still holds cells from before."""
        async with connection(self._pool) as tx:
            if await waits(tx, FIGURES):
                return None
            since = await store.newest(tx)
        return await self._read_back(since)


async def _events(tx: Tx, marked: list[Marked], now: datetime, current: Period, frozen: frozenset[str]) -> list[Announcement]:
    # What will be true on a later day is published when the quarter of that day opens.
    since = {(mark.indicator, mark.course_set, mark.node): mark.day for mark in marked if mark.day <= current.last_day}
    if not since:
        return []
    over = quarters(min(since.values()), current.last_day)
    values: dict[str, tuple[FigureRow, Period]] = {}
    for row, period in await store.values(tx, list(since), over):
        if period.last_day >= since[row[:3]]:
            values["/".join((*row[:3], period.code))] = row, period
    known = await store.known(tx, list(values))
    changed: list[tuple[str, bytes, int]] = []
    events: list[Announcement] = []
    for cell, (row, period) in values.items():
        provisional = period.code not in frozen
        digest = hashlib.sha256(f"{row}{provisional}".encode()).digest()[:16]
        before = known.get(cell)
        if before is None or before[0] != digest:
            version = next_version(before[1] if before else None, now)
            changed.append((cell, digest, version))
            events.append(_event(cell, row, period, now, provisional=provisional, version=version))
    await store.remember(tx, changed)
    return events


def _event(cell: str, row: FigureRow, period: Period, now: datetime, *, provisional: bool, version: int) -> Announcement:
    indicator, course_set, node, *counts = row
    data = {
        "cell": cell,
        "indicator": indicator,
        "course_set": course_set,
        "scope": node,
        "period": period.code,
        "period_from": period.first_day,
        "period_to": period.last_day,
        "counts": dict(zip(("all", "cit", "stu", "pub", "ent", "ungrouped"), counts, strict=True)),
        "as_of": now,
        "provisional": provisional,
        "version": version,
    }
    return Announcement(FIGURES, FIGURE_PUBLISHED.name, f"{cell}:{version}", "/services/reporting", cell, cell, _encode(data), now, cell)
