"""Guards of figures taken away: contributions, places, days, and state that is not older than the offsets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from unittest import mock
from uuid import UUID

from services.reporting.figures import domain, handlers, store
from services.reporting.figures.domain import (
    EMPTY,
    CompletionRow,
    Document,
    EnrollmentRow,
    Register,
    Row,
    Update,
    add_difference,
    claims,
    place,
    whereabouts,
)
from shared.chassis import service
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Tx, connection
from shared.chassis.decode import Received, Refused

_EVERYBODY = 1_000_000
"""More persons than a control brings."""


def plus_one_for_each_event() -> None:
    """A counter is raised by one for each event that says so; what the person counted for before is not looked at."""

    async def on_entities(self: handlers.Folding, records: Sequence[Received[Any]], tx: Tx) -> Sequence[Refused]:
        told: dict[UUID, list[Update]] = {}
        for record in records:
            told.setdefault(record.data.person_ref, []).append(handlers._ROWS[record.type](record.data))
        await store.share(tx)
        register = await self._current(tx)
        documents = await store.lock(tx, told)
        rows: dict[Row, list[int]] = {}
        for person, updates in told.items():
            documents[person] = domain.merge(documents[person], updates)
            for update in updates:
                _count(update, documents[person], register, rows)
        await store.save(tx, documents)
        await self._add(tx, rows, len(documents))
        return ()

    mock.patch.object(handlers.Folding, "on_entities", on_entities).start()


def _count(update: Update, document: Document, register: Register, rows: dict[Row, list[int]]) -> None:
    """What one event says, at the place where the person is."""
    match update.row:
        case EnrollmentRow():
            alone = Document(document.person, {update.entity_id: update.row})
        case CompletionRow() if update.entity_id in document.enrollments:
            alone = Document(document.person, {update.entity_id: document.enrollments[update.entity_id]}, {update.entity_id: update.row})
        case _:
            return
    place(claims(alone, register), whereabouts(document.person, register), rows)


def counted_where_they_were_too() -> None:
    """Who moves is counted at the new place; nobody takes back what was counted at the old one."""

    def added(before: Document, after: Document, registers: tuple[Register, Register], rows: dict[Row, list[int]]) -> None:
        if after.person is before.person:
            add_difference(before, after, registers, rows)
        else:
            place(claims(after, registers[1]), whereabouts(after.person, registers[1]), rows)

    mock.patch.object(handlers, "add_difference", added).start()


def days_of_greenwich() -> None:
    """A day ends at midnight UTC."""
    mock.patch.object(domain, "_VIET_NAM_US", 0).start()


class ReadsStateFirst(BatchConsumer):
    """Reads what is known of everybody once, when the process first takes partitions over, and the offsets after it."""

    known: ClassVar[dict[UUID, Document] | None] = None

    async def assigned(self, partitions: Iterable[int]) -> None:
        if ReadsStateFirst.known is None:
            async with connection(self._pool) as tx:
                ReadsStateFirst.known = dict(await store.documents_after(tx, UUID(int=0), _EVERYBODY))
        await super().assigned(partitions)


def reading_state_before_offsets() -> None:
    """On takeover state is read first and offsets after it: what was applied in between is in neither."""
    lock, save = store.lock, store.save

    async def lock_and_recall(tx: Tx, persons: Iterable[UUID]) -> dict[UUID, Document]:
        found, known = await lock(tx, persons), ReadsStateFirst.known
        # Whom it did not know when it took over it takes for new.
        return found if known is None else {person: known.get(person, EMPTY) for person in found}

    async def save_and_remember(tx: Tx, documents: Mapping[UUID, Document]) -> None:
        await save(tx, documents)
        if ReadsStateFirst.known is not None:
            ReadsStateFirst.known.update(documents)

    mock.patch.object(store, "lock", lock_and_recall).start()
    mock.patch.object(store, "save", save_and_remember).start()
    mock.patch.object(service, "BatchConsumer", ReadsStateFirst).start()
