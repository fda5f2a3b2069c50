"""The table of persons."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import asyncpg

from services.enrollment.persons.domain import Membership, PersonState, Residence
from shared.chassis.database import Tx
from shared.chassis.errors import Transient


@dataclass(frozen=True, slots=True)
class StoredPerson:
    """A person as stored, with the version that was announced."""

    person_ref: UUID
    state: PersonState
    version: int


_LOCK = """
SELECT person_ref, assurance, residences, groups, version FROM person
WHERE person_ref = ANY($1::uuid[]) ORDER BY person_ref FOR UPDATE
"""

_FIND = "SELECT person_ref, assurance, residences, groups, version FROM person WHERE person_ref = $1"


async def lock(tx: Tx, persons: Iterable[UUID]) -> dict[UUID, StoredPerson]:
    """Those of these persons that are known; their rows are locked in key order until the transaction ends."""
    rows = await tx.fetch(_LOCK, list(persons))
    return {row["person_ref"]: _person(row) for row in rows}


async def find(tx: Tx, person_ref: UUID) -> StoredPerson | None:
    """One person."""
    row = await tx.fetchrow(_FIND, person_ref)
    return _person(row) if row else None


def _person(row: asyncpg.Record) -> StoredPerson:
    residences = tuple(Residence(**residence) for residence in json.loads(row["residences"]))
    groups = tuple(Membership(**group) for group in json.loads(row["groups"]))
    return StoredPerson(row["person_ref"], PersonState(row["assurance"], residences, groups), row["version"])


_ADD = """
INSERT INTO person (person_ref, assurance, residences, groups, version)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[]::jsonb[], $4::text[]::jsonb[], $5::bigint[])
    AS told (person_ref, assurance, residences, groups, version)
ORDER BY person_ref
ON CONFLICT (person_ref) DO NOTHING
"""

_UPDATE = """
UPDATE person SET assurance = told.assurance, residences = told.residences, groups = told.groups, version = told.version
FROM unnest($1::uuid[], $2::smallint[], $3::text[]::jsonb[], $4::text[]::jsonb[], $5::bigint[])
    AS told (person_ref, assurance, residences, groups, version)
WHERE person.person_ref = told.person_ref
"""


async def add(tx: Tx, persons: Sequence[StoredPerson]) -> None:
    """Store new persons.

    Raises:
        Transient: another process added one of them meanwhile; try the batch again.
    """
    if persons and int((await tx.execute(_ADD, *_columns(persons))).rpartition(" ")[2]) != len(persons):
        raise Transient("another process added some of these persons meanwhile")


async def update(tx: Tx, persons: Sequence[StoredPerson]) -> None:
    """Store what is different of persons that were locked before."""
    if persons:
        await tx.execute(_UPDATE, *_columns(persons))


def _columns(persons: Sequence[StoredPerson]) -> tuple[list[object], ...]:
    return (
        [person.person_ref for person in persons],
        [person.state.assurance for person in persons],
        [json.dumps([asdict(residence) for residence in person.state.residences]) for person in persons],
        [json.dumps([asdict(group) for group in person.state.groups]) for person in persons],
        [person.version for person in persons],
    )
