"""Facts in the platforms' words: what a learning platform says happened. They may come in any order, late, and more than once.

Facts carry the platform's own ids; pseudonyms are made by `enrollment`. Unknown fields are
not kept, so a name or a phone number that a platform sends along goes no further than the topic it wrote itself.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints

from shared.contracts.decoding import decoder
from shared.contracts.envelope import Contract, Day, EventType, Instant, Word
from shared.contracts.topics import PLATFORM_EVENTS

CourseCode = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._:+-]*$")]
"""Code of a course in the course register."""

PlaceCode = Annotated[str, StringConstraints(min_length=2, max_length=5, pattern=r"^([0-9]{2}|[0-9]{5})$")]
"""Official code of a province (two digits) or commune (five digits), a string with its leading zeros (Decision 19/2025/QD-TTg)."""

Group = Literal["CIT", "STU", "PUB", "ENT"]
"""Audience group of the framework: citizens, pupils and students, public sector, enterprise workers (Decision 757, annexes I.1 to I.4)."""


class Residence(Contract):
    """Where the person lives, from a day on."""

    code: PlaceCode = Field(description="Commune; the province where no more is known")
    valid_from: Day = Field(description="First day, Viet Nam calendar")
    valid_to: Day | None = Field(default=None, description="First day no longer; absent while it lasts or until the next residence begins")


class GroupMembership(Contract):
    """To which audience group the person belongs, from a day on. A person may hold several at once."""

    group: Group = Field(description="Audience group")
    valid_from: Day = Field(description="First day, Viet Nam calendar")
    valid_to: Day | None = Field(default=None, description="First day no longer")


class LearnerRegistered(Contract):
    """An account exists, and this is what its platform knows of the person behind it.

    A later fact of the same account restates: of two affiliations that begin on the same day the later fact counts.
    """

    account: Word = Field(description="The account's id on the platform")
    occurred_at: Instant = Field(description="When this became known to the platform")
    assurance: int = Field(
        default=1, ge=0, le=3, description="0 attendance list, 1 platform account, 2 checked document or VNeID level 1, 3 VNeID level 2"
    )
    residences: tuple[Residence, ...] = Field(default=(), max_length=100, description="Dated residences")
    groups: tuple[GroupMembership, ...] = Field(default=(), max_length=100, description="Dated audience groups")


class EnrollmentFact(Contract):
    """Something happened to one enrollment."""

    account: Word = Field(description="The account's id on the platform")
    enrollment: Word = Field(description="The enrollment's id on the platform")
    occurred_at: Instant = Field(description="When it was true in the world")


class EnrollmentRegistered(EnrollmentFact):
    """An account registered in a course."""

    course: CourseCode = Field(description="Course in the register; may be registered there later")


class EnrollmentStarted(EnrollmentFact):
    """A learning activity took place; of several the earliest is the start of participation (tham gia)."""


class EnrollmentWithdrawn(EnrollmentFact):
    """The learner left or was taken out. Before the first activity there was no participation, after it participation stays."""


class EnrollmentVoided(EnrollmentFact):
    """The enrollment was an error, a test or a duplicate: it leaves all periods."""

    reason: Literal["error", "test", "duplicate"] = Field(default="error", description="Why it never should have been")


class EnrollmentReinstated(EnrollmentFact):
    """The withdrawal or voiding in force is taken back."""


class CompletionRecorded(EnrollmentFact):
    """The conditions of the course were met on the platform."""

    course: CourseCode = Field(description="Course in the register")


class CompletionRevoked(EnrollmentFact):
    """A recorded completion was wrong (fraud, error)."""

    course: CourseCode = Field(description="Course in the register")


F = TypeVar("F", bound=Contract)


def _fact(name: str, model: type[F], meaning: str) -> EventType[F]:
    return EventType(f"vn.hocvu.platform.{name}.v1", model, PLATFORM_EVENTS.name, meaning, decoder(model))


LEARNER_REGISTERED = _fact("learner.registered", LearnerRegistered, "An account exists; residences and groups known of it.")
ENROLLMENT_REGISTERED = _fact("enrollment.registered", EnrollmentRegistered, "An account registered in a course.")
ENROLLMENT_STARTED = _fact("enrollment.started", EnrollmentStarted, "A learning activity took place.")
ENROLLMENT_WITHDRAWN = _fact("enrollment.withdrawn", EnrollmentWithdrawn, "The learner left the course.")
ENROLLMENT_VOIDED = _fact("enrollment.voided", EnrollmentVoided, "The enrollment was an error, a test or a duplicate.")
ENROLLMENT_REINSTATED = _fact("enrollment.reinstated", EnrollmentReinstated, "A withdrawal or voiding is taken back.")
COMPLETION_RECORDED = _fact("completion.recorded", CompletionRecorded, "The course's conditions were met.")
COMPLETION_REVOKED = _fact("completion.revoked", CompletionRevoked, "A completion was wrong.")

FACTS: tuple[EventType[object], ...] = (
    LEARNER_REGISTERED,
    ENROLLMENT_REGISTERED,
    ENROLLMENT_STARTED,
    ENROLLMENT_WITHDRAWN,
    ENROLLMENT_VOIDED,
    ENROLLMENT_REINSTATED,
    COMPLETION_RECORDED,
    COMPLETION_REVOKED,
)
"""Everything a platform may say today."""
