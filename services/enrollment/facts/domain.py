"""A fact: what a source says happened to one thing, under pseudonyms, with the order in which such things are true."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import cached_property
from uuid import UUID


class Kind(IntEnum):
    """What is told. The number is the rank among facts of the same instant."""

    LEARNER_REGISTERED = 0
    ENROLLMENT_REGISTERED = 1
    ENROLLMENT_STARTED = 2
    ENROLLMENT_WITHDRAWN = 3
    ENROLLMENT_VOIDED = 4
    ENROLLMENT_REINSTATED = 5
    COMPLETION_RECORDED = 6
    COMPLETION_REVOKED = 7


ABOUT_PERSONS = frozenset({Kind.LEARNER_REGISTERED})
"""Facts that a person is folded from."""

ABOUT_ENROLLMENTS = frozenset(
    {Kind.ENROLLMENT_REGISTERED, Kind.ENROLLMENT_STARTED, Kind.ENROLLMENT_WITHDRAWN, Kind.ENROLLMENT_VOIDED, Kind.ENROLLMENT_REINSTATED}
)
"""Facts that an enrollment is folded from."""

OUTCOMES = frozenset({Kind.COMPLETION_RECORDED, Kind.COMPLETION_REVOKED})
"""Facts that are handed on to who decides what they mean."""


@dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes:
        fact_id: the same for every copy.
        kind: what is told.
        entity_id: the person or enrollment it is about, pseudonymous.
        person_ref: the person, pseudonymous.
        occurred_at: when it was true in the world, aware.
        content: canonical JSON of what the fold needs besides; no ids of the platform.
    """

    fact_id: UUID
    kind: Kind
    entity_id: UUID
    person_ref: UUID
    occurred_at: datetime
    content: bytes

    @cached_property
    def digest(self) -> bytes:
        """Sixteen bytes that differ when what is told differs; spacing, headers and unknown fields do not matter."""
        told = hashlib.sha256(self.content)
        told.update(f"\0{self.kind:d}\0{self.entity_id}\0{self.person_ref}\0{self.occurred_at.astimezone(UTC).isoformat()}".encode())
        return told.digest()[:16]


def true_order(fact: Fact) -> tuple[datetime, Kind, UUID]:
    """Sort key of the order in which facts were true in the world; total, so arrival cannot matter."""
    return fact.occurred_at, fact.kind, fact.fact_id


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of a batch of facts, by their index in it."""

    new: tuple[int, ...]
    copies: tuple[int, ...]
    reused: tuple[int, ...]


def judge(facts: "list[Fact]", stored: dict[UUID, bytes]) -> Verdicts:
    """Tell new facts from copies and from other facts under a known id.

    Args:
        facts: a batch, in order of arrival.
        stored: digests of the facts that were known before the batch, by id.
    """
    known = dict(stored)
    new, copies, reused = [], [], []
    for index, fact in enumerate(facts):
        digest = fact.digest
        before = known.get(fact.fact_id)
        if before is None:
            known[fact.fact_id] = digest
            new.append(index)
        elif before == digest:
            copies.append(index)
        else:
            reused.append(index)
    return Verdicts(tuple(new), tuple(copies), tuple(reused))
