"""What `assessment` announces: completions, whole, with version."""

from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.decoding import decoder
from shared.contracts.envelope import Contract, EventType
from shared.contracts.platform import CourseCode
from shared.contracts.topics import ASSESSMENT_EVENTS


class Completion(Contract):
    """What is true of one enrollment's completion. Whether it counts also depends on the enrollment, which readers hold."""

    enrollment_id: UUID = Field(description="The enrollment it completes; also the id of this entity")
    person_ref: UUID = Field(description="Pseudonym")
    course: CourseCode = Field(description="Course in the register")
    completed_at: AwareDatetime | None = Field(default=None, description="First completion that is not revoked; absent while none stands")
    version: int = Field(ge=1, description="Hybrid logical clock, microseconds; rises with every change")


COMPLETION_RECORDED = EventType(
    "vn.hocvu.assessment.completion.recorded.v1", Completion, ASSESSMENT_EVENTS.name, "A completion stands.", decoder(Completion)
)
COMPLETION_REVOKED = EventType(
    "vn.hocvu.assessment.completion.revoked.v1", Completion, ASSESSMENT_EVENTS.name, "No completion stands any more.", decoder(Completion)
)

ENTITIES: tuple[EventType[object], ...] = (COMPLETION_RECORDED, COMPLETION_REVOKED)
"""Entities on `assessment-events`."""
