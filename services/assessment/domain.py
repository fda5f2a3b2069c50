"""When a course counts as completed: folded from the set of outcome facts about one enrollment."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import UUID


class Kind(IntEnum):
    """What a platform said. The number is the rank among facts of the same instant."""

    COMPLETED = 0
    REVOKED = 1


@dataclass(frozen=True, slots=True)
class OutcomeFact:
    """One fact about one enrollment's outcome.

    Attributes:
        fact_id: the same for every copy.
        kind: what was said.
        enrollment_id: whose outcome.
        person_ref: the person, pseudonymous.
        course: code in the course register.
        source: which platform said it.
        occurred_at: when it was true in the world, aware.
    """

    fact_id: UUID
    kind: Kind
    enrollment_id: UUID
    person_ref: UUID
    course: str
    source: str
    occurred_at: datetime


def true_order(fact: OutcomeFact) -> tuple[datetime, Kind, UUID]:
    """Sort key of the order in which facts were true in the world; total, so arrival cannot matter."""
    return fact.occurred_at, fact.kind, fact.fact_id


@dataclass(frozen=True, slots=True)
class CompletionState:
    """What is true of an enrollment's completion; `completed_at` is None while none stands."""

    person_ref: UUID
    course: str
    completed_at: datetime | None


def merge(facts: Iterable[OutcomeFact]) -> CompletionState:
    """Fold the set of facts about one enrollment.

    Of several completions the first counts (docs/indicators.md); a revocation takes away what stands before it, from its
    own day on (decision 0014); the course is the enrollment's, whatever a completion names. A
    completion after a revocation stands again, with its own date.
    """
    ordered = sorted(facts, key=true_order)
    completed_at: datetime | None = None
    for fact in ordered:
        if fact.kind is Kind.REVOKED:
            completed_at = None
        elif completed_at is None:
            completed_at = fact.occurred_at
    return CompletionState(ordered[0].person_ref, ordered[0].course, completed_at)
