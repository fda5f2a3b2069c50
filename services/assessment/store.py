"""The tables of assessment: outcome facts, every one once, and completions folded from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from services.assessment.domain import CompletionState, Kind, OutcomeFact
from shared.chassis.database import Tx
from shared.chassis.errors import Transient


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A completion as stored, with the version that was announced."""

    enrollment_id: UUID
    state: CompletionState
    version: int


_KNOWN = """
SELECT fact_id, kind, enrollment_id, person_ref, course, source, occurred_at FROM outcome_fact WHERE fact_id = ANY($1::uuid[])
"""


async def known(tx: Tx, facts: Iterable[UUID]) -> dict[UUID, OutcomeFact]:
    """Those of these facts that are known, whole, so that a copy can be told from another fact under the same id."""
    return {row[0]: _fact(row) for row in await tx.fetch(_KNOWN, list(set(facts)))}


def _fact(row: asyncpg.Record) -> OutcomeFact:
    fact_id, kind, *rest = row
    return OutcomeFact(fact_id, Kind(kind), *rest)


_ADD_FACTS = """
INSERT INTO outcome_fact (fact_id, kind, enrollment_id, person_ref, course, source, occurred_at, topic, partition, record_offset)
SELECT * FROM unnest(
    $1::uuid[], $2::smallint[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[], $8::text[], $9::int[], $10::bigint[]
) AS told (fact_id, kind, enrollment_id, person_ref, course, source, occurred_at, topic, partition, record_offset)
ORDER BY fact_id
ON CONFLICT (fact_id) DO NOTHING
"""


async def add_facts(tx: Tx, facts: Sequence[tuple[OutcomeFact, str, int, int]]) -> None:
    """Store new facts, each with topic, partition and offset.

    Raises:
        Transient: another process stored one of them meanwhile; try the batch again, it will be a copy then.
    """
    if not facts:
        return
    done = await tx.execute(
        _ADD_FACTS,
        [fact.fact_id for fact, *_ in facts],
        [int(fact.kind) for fact, *_ in facts],
        [fact.enrollment_id for fact, *_ in facts],
        [fact.person_ref for fact, *_ in facts],
        [fact.course for fact, *_ in facts],
        [fact.source for fact, *_ in facts],
        [fact.occurred_at for fact, *_ in facts],
        [topic for _, topic, _, _ in facts],
        [partition for _, _, partition, _ in facts],
        [offset for _, _, _, offset in facts],
    )
    if int(done.rpartition(" ")[2]) != len(facts):
        raise Transient("another process stored some of these facts meanwhile")


_FACTS_OF = """
SELECT fact_id, kind, enrollment_id, person_ref, course, source, occurred_at FROM outcome_fact WHERE enrollment_id = ANY($1::uuid[])
"""


async def facts_of(tx: Tx, enrollments: Iterable[UUID]) -> dict[UUID, list[OutcomeFact]]:
    """All facts about these enrollments. Lock their completions first."""
    found: dict[UUID, list[OutcomeFact]] = {}
    for row in await tx.fetch(_FACTS_OF, list(enrollments)):
        found.setdefault(row["enrollment_id"], []).append(_fact(row))
    return found


_LOCK = """
SELECT enrollment_id, person_ref, course, completed_at, version FROM completion
WHERE enrollment_id = ANY($1::uuid[]) ORDER BY enrollment_id FOR UPDATE
"""

_FIND = "SELECT enrollment_id, person_ref, course, completed_at, version FROM completion WHERE enrollment_id = $1"


async def lock(tx: Tx, enrollments: Iterable[UUID]) -> dict[UUID, StoredCompletion]:
    """Those of these completions that are known; their rows are locked in key order until the transaction ends."""
    return {row[0]: StoredCompletion(row[0], CompletionState(*row[1:4]), row[4]) for row in await tx.fetch(_LOCK, list(enrollments))}


async def find(tx: Tx, enrollment_id: UUID) -> StoredCompletion | None:
    """The completion of one enrollment."""
    row = await tx.fetchrow(_FIND, enrollment_id)
    return StoredCompletion(row[0], CompletionState(*row[1:4]), row[4]) if row else None


_ADD = """
INSERT INTO completion (enrollment_id, person_ref, course, completed_at, version)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::bigint[])
    AS told (enrollment_id, person_ref, course, completed_at, version)
ORDER BY enrollment_id
ON CONFLICT (enrollment_id) DO NOTHING
"""

_UPDATE = """
UPDATE completion
SET person_ref = told.person_ref, course = told.course, completed_at = told.completed_at, version = told.version
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::bigint[])
    AS told (enrollment_id, person_ref, course, completed_at, version)
WHERE completion.enrollment_id = told.enrollment_id
"""


async def add(tx: Tx, completions: Sequence[StoredCompletion]) -> None:
    """Store new completions.

    Raises:
        Transient: another process added one of them meanwhile; try the batch again.
    """
    if completions and int((await tx.execute(_ADD, *_columns(completions))).rpartition(" ")[2]) != len(completions):
        raise Transient("another process added some of these completions meanwhile")


async def update(tx: Tx, completions: Sequence[StoredCompletion]) -> None:
    """Store what is different of completions that were locked before."""
    if completions:
        await tx.execute(_UPDATE, *_columns(completions))


def _columns(completions: Sequence[StoredCompletion]) -> tuple[list[object], ...]:
    return (
        [completion.enrollment_id for completion in completions],
        [completion.state.person_ref for completion in completions],
        [completion.state.course for completion in completions],
        [completion.state.completed_at for completion in completions],
        [completion.version for completion in completions],
    )
