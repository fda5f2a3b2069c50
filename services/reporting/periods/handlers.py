"""Freeze a period: copy the figures, keep their digest, announce it; the second time nothing happens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from services.reporting import metrics
from services.reporting.periods import store
from services.reporting.periods.domain import MOVEMENT_BEGAN, FigureRow, Period, canonical, report_id
from services.reporting.periods.places import Places
from services.reporting.periods.store import FrozenReport
from shared.chassis.database import Tx
from shared.chassis.outbox import Announcement, announce
from shared.contracts.reporting import REPORT_FROZEN
from shared.contracts.topics import REPORT_EVENTS

DEFINITION = "REP-QUARTER"
"""The only report definition so far: all figures of a scope over a period."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class NotOver:
    """The period has not ended; it can be frozen from `ends_at` on."""

    ends_at: datetime


@dataclass(frozen=True, slots=True)
class BeforeMovement:
    """The period was over before the movement began; there is nothing to report on it."""


@dataclass(frozen=True, slots=True)
class UnknownNode:
    """The territory has no such node, or its register has not arrived yet."""


NotFrozen = NotOver | BeforeMovement | UnknownNode
"""Why nothing was frozen."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """The report, and whether it was frozen before."""

    report: FrozenReport
    already: bool


async def freeze(tx: Tx, scope: str, over: Period, at: datetime) -> Frozen | NotFrozen:
    """Freeze the figures of a scope over a period. Whoever asks, this is where scope and period are judged.

    Args:
        tx: a transaction of isolation level repeatable read, so that figures and offsets are of one moment.
        scope: node of the territory, as whoever asked wrote it.
        over: the period.
        at: now.
    """
    await store.freeze_alone(tx)
    wanted = report_id(DEFINITION, scope, over.code)
    known = await store.report(tx, wanted)
    if known is not None:
        return Frozen(known, already=True)
    if over.last_day < MOVEMENT_BEGAN:
        return BeforeMovement()
    places = Places(await store.places(tx))
    if not places.knows(scope):
        return UnknownNode()
    if at < over.ends_at:
        return NotOver(over.ends_at)
    rows = await store.figures(tx, scope, over)
    new = FrozenReport(
        wanted, DEFINITION, scope, over.code, over.first_day, over.last_day, at.astimezone(UTC), await store.data_as_of(tx),
        len(rows), hashlib.sha256(canonical(rows)).hexdigest(), 1,
    )  # fmt: skip
    if not await store.add(tx, new, rows, {row[2]: places.name(row[2]) for row in rows}):
        stored = await store.report(tx, wanted)
        return Frozen(stored or new, already=True)
    await announce(tx, [_event(new, at)])
    await store.mark_for_publication(tx, over.first_day)
    return Frozen(new, already=False)


def is_intact(found: FrozenReport, rows: Sequence[FigureRow]) -> bool:
    """Whether the copied figures still have the digest that was taken when they were frozen; judged whenever they are read."""
    intact = hashlib.sha256(canonical(rows)).hexdigest() == found.sha256
    if not intact:
        metrics.NOT_INTACT.inc()
    return intact


def _event(new: FrozenReport, at: datetime) -> Announcement:
    key = str(new.report_id)
    data = {
        "report_id": key,
        "definition": new.definition,
        "scope": new.scope,
        "period": new.period,
        "period_from": new.first_day,
        "period_to": new.last_day,
        "frozen_at": new.frozen_at,
        "rows": new.figures,
        "sha256": new.sha256,
        "version": new.version,
    }
    return Announcement(REPORT_EVENTS, REPORT_FROZEN.name, f"{key}:{new.version}", "/services/reporting", key, key, _encode(data), at, key)
