"""What `enrollment` announces: persons and enrollments, whole, with version; and outcome facts for `assessment`.

Nothing here names a person: `person_ref` and entity ids are keyed pseudonyms (decision 0003).
"""

from typing import Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.decoding import decoder
from shared.contracts.envelope import Contract, Day, EventType, Word
from shared.contracts.platform import (
    CourseCode,
    Group,
    GroupMembership,
    PlaceCode,
    Residence,
)
from shared.contracts.topics import ENROLLMENT_EVENTS, OUTCOME_FACTS, REGISTRY_EVENTS


class Person(Contract):
    """One person as far as reporting may know them."""

    person_ref: UUID = Field(description="Pseudonym")
    assurance: int = Field(ge=0, le=3, description="Highest level of evidence: 0 attendance list to 3 VNeID level 2")
    residences: tuple[Residence, ...] = Field(default=(), description="Ordered by valid_from; the last that has begun and not ended holds")
    groups: tuple[GroupMembership, ...] = Field(
        default=(), description="Ordered by group and valid_from; within a group the last that has begun and not ended holds"
    )
    version: int = Field(ge=1, description="Hybrid logical clock, microseconds; rises with every change")


class Enrollment(Contract):
    """One registration of one person in one course run."""

    enrollment_id: UUID = Field(description="Pseudonymous id")
    person_ref: UUID = Field(description="Pseudonym of the person it was born with")
    course: CourseCode | None = Field(default=None, description="Absent until the registration itself is known")
    status: Literal["AWAITING", "ACTIVE", "CANCELLED", "VOIDED"] = Field(
        description="AWAITING: facts are known but not yet the registration; CANCELLED: withdrawn; VOIDED: never should have been"
    )
    registered_at: AwareDatetime | None = Field(default=None, description="When the registration was made")
    started_at: AwareDatetime | None = Field(default=None, description="Earliest learning activity, unless it came after the withdrawal in force")
    withdrawn_at: AwareDatetime | None = Field(default=None, description="Since when withdrawn, while the withdrawal is in force")
    version: int = Field(ge=1, description="Hybrid logical clock, microseconds; rises with every change")


class Outcome(Contract):
    """A fact about an outcome, handed on under pseudonyms."""

    fact_id: UUID = Field(description="The same fact always has the same id, however often it comes")
    person_ref: UUID = Field(description="Pseudonym")
    enrollment_id: UUID = Field(description="Pseudonymous id of the enrollment")
    course: CourseCode = Field(description="Course in the register")
    source: Word = Field(description="Which platform said it")
    occurred_at: AwareDatetime = Field(description="When it was true in the world")


class TerritoryUnit(Contract):
    """One unit of the register of territory."""

    code: PlaceCode = Field(description="Official code, string with leading zeros")
    level: Literal["province", "commune"] = Field(description="Two levels since 1 July 2025")
    name: Word = Field(description="Official name without its type, Vietnamese")
    type: Word = Field(description="Tỉnh, Thành phố, Xã, Phường, Đặc khu")
    province: PlaceCode = Field(description="Code of the province it belongs to; its own for a province")
    valid_from: Day = Field(description="First day in force")
    valid_to: Day | None = Field(default=None, description="First day no longer in force")
    version: int = Field(ge=1, description="Hybrid logical clock, microseconds")


class Course(Contract):
    """One course of the course register."""

    code: CourseCode = Field(description="Code, unique in the register")
    title: Word = Field(description="Title, Vietnamese")
    launched_by: Word = Field(description="Code of the unit that launched it; decides the targets of 440/QD-BXD")
    course_sets: tuple[CourseCode, ...] = Field(default=(), max_length=20, description="Sets it counts for besides ALL, for example a plan's courses")
    version: int = Field(ge=1, description="Hybrid logical clock, microseconds")


E = TypeVar("E", bound=Contract)


def _event(name: str, model: type[E], topic: str, meaning: str) -> EventType[E]:
    return EventType(f"vn.hocvu.enrollment.{name}.v1", model, topic, meaning, decoder(model))


PERSON_REGISTERED = _event("person.registered", Person, ENROLLMENT_EVENTS.name, "A person is known.")
PERSON_AFFILIATED = _event(
    "person.affiliated", Person, ENROLLMENT_EVENTS.name, "What is known of a person's residence, groups or evidence is different now."
)
ENROLLMENT_AWAITED = _event("enrollment.awaited", Enrollment, ENROLLMENT_EVENTS.name, "Facts came before the registration they belong to.")
ENROLLMENT_REGISTERED = _event("enrollment.registered", Enrollment, ENROLLMENT_EVENTS.name, "A registration was made or is told differently now.")
ENROLLMENT_STARTED = _event("enrollment.started", Enrollment, ENROLLMENT_EVENTS.name, "Participation began, or began earlier than was known.")
ENROLLMENT_WITHDRAWN = _event("enrollment.withdrawn", Enrollment, ENROLLMENT_EVENTS.name, "A withdrawal is in force.")
ENROLLMENT_VOIDED = _event("enrollment.voided", Enrollment, ENROLLMENT_EVENTS.name, "A voiding is in force.")
ENROLLMENT_REINSTATED = _event("enrollment.reinstated", Enrollment, ENROLLMENT_EVENTS.name, "A withdrawal or voiding is no longer in force.")
OUTCOME_COMPLETED = _event("outcome.completed", Outcome, OUTCOME_FACTS.name, "A platform said a course was completed.")
OUTCOME_REVOKED = _event("outcome.revoked", Outcome, OUTCOME_FACTS.name, "A platform said a completion was wrong.")
TERRITORY_REGISTERED = _event("territory.registered", TerritoryUnit, REGISTRY_EVENTS.name, "A unit of the territory stands in the register as told.")
COURSE_PUBLISHED = _event("course.published", Course, REGISTRY_EVENTS.name, "A course stands in the register as told.")

ENTITIES: tuple[EventType[object], ...] = (
    PERSON_REGISTERED,
    PERSON_AFFILIATED,
    ENROLLMENT_AWAITED,
    ENROLLMENT_REGISTERED,
    ENROLLMENT_STARTED,
    ENROLLMENT_WITHDRAWN,
    ENROLLMENT_VOIDED,
    ENROLLMENT_REINSTATED,
)
"""Entities on `enrollment-events`."""

OUTCOMES: tuple[EventType[object], ...] = (OUTCOME_COMPLETED, OUTCOME_REVOKED)
"""Facts on `outcome-facts`."""

REGISTERS: tuple[EventType[object], ...] = (TERRITORY_REGISTERED, COURSE_PUBLISHED)
"""Register entries on `registry-events`."""

__all__ = [
    "COURSE_PUBLISHED", "ENROLLMENT_AWAITED", "ENROLLMENT_REGISTERED", "ENROLLMENT_REINSTATED", "ENROLLMENT_STARTED",
    "ENROLLMENT_VOIDED", "ENROLLMENT_WITHDRAWN", "ENTITIES", "OUTCOMES", "OUTCOME_COMPLETED", "OUTCOME_REVOKED",
    "PERSON_AFFILIATED", "PERSON_REGISTERED", "REGISTERS", "TERRITORY_REGISTERED", "Course", "Enrollment", "Group",
    "GroupMembership", "Outcome", "Person", "Residence", "TerritoryUnit",
]  # fmt: skip
