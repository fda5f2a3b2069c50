"""Outcome facts as records, for tests of assessment."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.chassis.decode import Received
from shared.contracts.enrollment import OUTCOME_COMPLETED, OUTCOME_REVOKED, Outcome


@dataclass(frozen=True)
class Told:
    """One outcome fact of a story; the number is its id."""

    number: int
    kind: str
    enrollment: int
    occurred_at: datetime
    course: str = "AAA"

    def outcome(self) -> Outcome:
        return Outcome(
            fact_id=UUID(int=self.number),
            person_ref=UUID(int=10**9 + self.enrollment // 3),
            enrollment_id=UUID(int=self.enrollment),
            course=self.course,
            source="/platforms/a",
            occurred_at=self.occurred_at,
        )

    @property
    def type(self) -> str:
        return OUTCOME_COMPLETED.name if self.kind == "completed" else OUTCOME_REVOKED.name

    def received(self, offset: int = 0) -> Received[Outcome]:
        return Received(self.type, str(self.number), "/services/enrollment", self.outcome(), "outcome-facts", 0, offset)
