"""The table of facts: nothing is ever changed or deleted in it; entities are folded from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.enrollment.facts.domain import Fact, Kind
from shared.chassis.database import Tx
from shared.chassis.errors import Transient


@dataclass(frozen=True, slots=True)
class Position:
    """Where a fact stood when it came for the first time."""

    topic: str
    partition: int
    offset: int


_DIGESTS = "SELECT fact_id, digest FROM fact WHERE fact_id = ANY($1::uuid[])"


async def digests(tx: Tx, facts: Iterable[UUID]) -> dict[UUID, bytes]:
    """The digests of those of these facts that are known."""
    return {row["fact_id"]: row["digest"] for row in await tx.fetch(_DIGESTS, list(set(facts)))}


_ADD = """
INSERT INTO fact (fact_id, digest, kind, entity_id, person_ref, occurred_at, content, topic, partition, record_offset)
SELECT * FROM unnest(
    $1::uuid[], $2::bytea[], $3::smallint[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::bytea[], $8::text[], $9::int[], $10::bigint[]
) AS told (fact_id, digest, kind, entity_id, person_ref, occurred_at, content, topic, partition, record_offset)
ORDER BY fact_id
ON CONFLICT (fact_id) DO NOTHING
"""


async def add(tx: Tx, facts: Sequence[tuple[Fact, Position]]) -> None:
    """Store new facts.

    Raises:
        Transient: another process stored one of them meanwhile; try the batch again, it will be a copy then.
    """
    if not facts:
        return
    done = await tx.execute(
        _ADD,
        [fact.fact_id for fact, _ in facts],
        [fact.digest for fact, _ in facts],
        [int(fact.kind) for fact, _ in facts],
        [fact.entity_id for fact, _ in facts],
        [fact.person_ref for fact, _ in facts],
        [fact.occurred_at for fact, _ in facts],
        [fact.content for fact, _ in facts],
        [position.topic for _, position in facts],
        [position.partition for _, position in facts],
        [position.offset for _, position in facts],
    )
    if int(done.rpartition(" ")[2]) != len(facts):
        raise Transient("another process stored some of these facts meanwhile")


_OF_ENTITIES = """
SELECT fact_id, kind, entity_id, person_ref, occurred_at, content FROM fact
WHERE entity_id = ANY($1::uuid[]) AND kind = ANY($2::smallint[])
"""


async def of_entities(tx: Tx, entities: Iterable[UUID], kinds: Iterable[Kind]) -> dict[UUID, list[Fact]]:
    """All facts of these kinds about these entities, by entity. Lock the entities first."""
    found: dict[UUID, list[Fact]] = {}
    for row in await tx.fetch(_OF_ENTITIES, list(entities), list(kinds)):
        fact = Fact(row["fact_id"], Kind(row["kind"]), row["entity_id"], row["person_ref"], row["occurred_at"], row["content"])
        found.setdefault(fact.entity_id, []).append(fact)
    return found


_POSITIONS = """
SELECT kind, occurred_at, topic, partition, record_offset, recorded_at FROM fact WHERE entity_id = $1 ORDER BY occurred_at, kind, fact_id
"""


async def positions(tx: Tx, entity: UUID) -> list[dict[str, object]]:
    """The facts about one entity with where each stood, in true order, for people who ask why."""
    return [{**dict(row), "kind": Kind(row["kind"]).name} for row in await tx.fetch(_POSITIONS, entity)]
