"""The way of a batch of entities: load documents, merge, difference of contributions, figures. The one way figures change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TypeVar, cast
from uuid import UUID

from services.reporting import metrics
from services.reporting.figures import store
from services.reporting.figures.domain import (
    EVERY_COURSE,
    Affiliation,
    CompletionRow,
    Document,
    EnrollmentRow,
    PersonRow,
    Register,
    Row,
    Update,
    add_difference,
    codes,
    day_number,
    merge,
    microseconds,
    roll_up,
    unknown_codes,
)
from shared.chassis.database import Tx
from shared.chassis.decode import Received, Refused
from shared.contracts import assessment, enrollment
from shared.contracts.assessment import Completion
from shared.contracts.enrollment import COURSE_PUBLISHED, Course, Enrollment, Person, TerritoryUnit

WALK = 5000
"""Documents looked at in one step when a known register entry changed."""

Entity = Person | Enrollment | Completion

Entry = TypeVar("Entry", Course, TerritoryUnit)


class Folding:
    """Folds entities and register entries into figures; keeps the registers in memory as long as they are in force."""

    def __init__(self) -> None:
        self._register_version = -1
        self._register = Register({}, {})

    async def on_entities(self, records: Sequence[Received[Entity]], tx: Tx) -> Sequence[Refused]:
        """Persons, enrollments and completions, whole, in any order and any number of copies."""
        updates: dict[UUID, list[Update]] = {}
        for record in records:
            updates.setdefault(record.data.person_ref, []).append(_ROWS[record.type](record.data))
        await store.share(tx)
        register = await self._current(tx)
        documents = await store.lock(tx, updates)
        changed = {person: after for person, told in updates.items() if (after := merge(documents[person], told)) is not documents[person]}
        rows: dict[Row, list[int]] = {}
        for person, after in changed.items():
            add_difference(documents[person], after, (register, register), rows)
        await store.save(tx, changed)
        await store.await_codes(tx, ((code, person) for person, after in changed.items() for code in unknown_codes(after, register)))
        await self._add(tx, rows, len(changed))
        return ()

    async def on_register(self, records: Sequence[Received[TerritoryUnit | Course]], tx: Tx) -> Sequence[Refused]:
        """Register entries. Whoever they concern is computed again, on the same path as everything else."""
        await store.alone(tx)
        before = await self._current(tx)
        courses = [cast("Course", record.data) for record in records if record.type == COURSE_PUBLISHED.name]
        units = [cast("TerritoryUnit", record.data) for record in records if record.type != COURSE_PUBLISHED.name]
        await store.put_courses(tx, [course_columns(course) for course in _newest(courses)])
        await store.put_territory(tx, [territory_columns(unit) for unit in _newest(units)])
        after = await store.register(tx)
        changed, new = _difference(before, after)
        if changed or new:
            await store.raise_register_version(tx)
            await self._recompute(tx, before, after, changed, new)
        return ()

    async def _recompute(self, tx: Tx, before: Register, after: Register, changed: set[str], new: set[str]) -> None:
        """Take back under the old registers, add under the new ones, for everybody who speaks of these codes."""
        rows: dict[Row, list[int]] = {}
        persons = await store.arrived(tx, sorted(new))
        documents = await store.lock(tx, persons)
        if changed:
            documents.update(await _mentioning(tx, changed))
        for document in documents.values():
            add_difference(document, document, (before, after), rows)
        # A unit that left the register again is awaited again.
        await store.await_codes(tx, ((code, person) for person, document in documents.items() for code in unknown_codes(document, after)))
        await self._add(tx, rows, len(documents))

    async def _current(self, tx: Tx) -> Register:
        """The registers in force; read again only when their version moved."""
        version = await store.register_version(tx)
        if version != self._register_version:
            self._register, self._register_version = await store.register(tx), version
        return self._register

    async def _add(self, tx: Tx, leaves: dict[Row, list[int]], persons: int) -> None:
        rows = roll_up(leaves)
        await store.add(tx, rows)
        metrics.PERSONS.inc(persons)
        metrics.ROWS.inc(len(rows))


async def _mentioning(tx: Tx, wanted: set[str]) -> dict[UUID, Document]:
    """Every document that speaks of one of these codes; walks over all of them, which a change of a known entry is rare enough for."""
    found: dict[UUID, Document] = {}
    last = UUID(int=0)
    while page := await store.documents_after(tx, last, WALK):
        found.update({person: document for person, document in page if not wanted.isdisjoint(codes(document))})
        last = page[-1][0]
    return found


def _difference(before: Register, after: Register) -> tuple[set[str], set[str]]:
    """Codes whose meaning for figures changed, and codes that are new."""
    changed, new = set(), set()
    for kind, old, now in (("territory", before.province_of, after.province_of), ("course", before.course_sets, after.course_sets)):
        for code, meaning in now.items():
            if code not in old:
                new.add(f"{kind}:{code}")
            elif old[code] != meaning:
                changed.add(f"{kind}:{code}")
    return changed, new


def _newest(entries: Iterable[Entry]) -> list[Entry]:
    """Of several entries of one code the highest version."""
    newest: dict[str, Entry] = {}
    for entry in entries:
        if entry.code not in newest or entry.version > newest[entry.code].version:
            newest[entry.code] = entry
    return list(newest.values())


def course_columns(course: Course) -> tuple[str, str, str, str, int]:
    """A course as the store wants it; a set that is told twice, or ALL, must not count it twice."""
    sets = sorted(set(course.course_sets) - {EVERY_COURSE})
    return course.code, course.title, course.launched_by, ";".join(sets), course.version


def territory_columns(unit: TerritoryUnit) -> tuple[str, str, str, str, str, int]:
    """A unit as the store wants it."""
    return unit.code, unit.level, unit.name, unit.type, unit.province, unit.version


def _person(told: Person) -> Update:
    residences = tuple(_affiliation(one.code, one.valid_from, one.valid_to) for one in told.residences)
    groups = tuple(_affiliation(one.group, one.valid_from, one.valid_to) for one in told.groups)
    return Update(b"", PersonRow(told.version, residences, groups))


def _affiliation(code: str, valid_from: date, valid_to: date | None) -> Affiliation:
    return Affiliation(code, day_number(valid_from), None if valid_to is None else day_number(valid_to))


def _enrollment(told: Enrollment) -> Update:
    row = EnrollmentRow(told.version, told.course, told.status, _us(told.registered_at), _us(told.started_at), _us(told.withdrawn_at))
    return Update(told.enrollment_id.bytes, row)


def _completion(told: Completion) -> Update:
    return Update(told.enrollment_id.bytes, CompletionRow(told.version, _us(told.completed_at)))


def _us(instant: datetime | None) -> int | None:
    return None if instant is None else microseconds(instant)


_PERSONS = (enrollment.PERSON_REGISTERED.name, enrollment.PERSON_AFFILIATED.name)

_ROWS: Mapping[str, Callable[..., Update]] = {
    **{known.name: _enrollment for known in enrollment.ENTITIES},
    **dict.fromkeys(_PERSONS, _person),
    **{known.name: _completion for known in assessment.ENTITIES},
}
"""How each announced entity becomes a row of the document."""
