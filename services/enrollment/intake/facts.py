"""From a platform's words to a fact: the time window, the pseudonyms, and only the fields that are needed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import cast

from services.enrollment.facts.domain import Fact, Kind
from services.enrollment.persons.domain import Pseudonyms
from shared.contracts import platform
from shared.contracts.platform import EnrollmentFact, EnrollmentRegistered, EnrollmentVoided, LearnerRegistered

FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far a source's clock may run ahead (docs/indicators.md)."""

MOVEMENT_BEGAN = datetime(2025, 3, 25, 17, tzinfo=UTC)
"""26 March 2025, 00:00 Viet Nam time: the platform's launch. Earlier facts are believed only from sources named for history."""


@dataclass(frozen=True, slots=True)
class OutOfWindow:
    """A fact whose time cannot be right."""

    reason: str
    detail: str


def check_time(occurred_at: datetime, source: str, now: datetime, history_sources: tuple[str, ...]) -> OutOfWindow | None:
    """Whether a fact's time can be right; None when it can."""
    if occurred_at > now + FUTURE_TOLERANCE:
        return OutOfWindow("time_in_future", "occurred_at lies more than 5 minutes in the future; mend the source's clock or time zone")
    if occurred_at < MOVEMENT_BEGAN and source not in history_sources:
        return OutOfWindow("time_before_movement", "occurred_at lies before 2025-03-26 and the source is not named for history")
    return None


def to_fact(event_type: str, event_id: str, source: str, data: LearnerRegistered | EnrollmentFact, pseudonyms: Pseudonyms) -> Fact:
    """Put a platform's fact under pseudonyms. A voiding's reason is kept, so that two reasons are two tellings."""
    kind, content = _READ[event_type]
    person_ref = pseudonyms.person(source, data.account)
    if kind is Kind.LEARNER_REGISTERED:
        entity_id = person_ref
    else:
        entity_id = pseudonyms.enrollment(source, data.account, cast("EnrollmentFact", data).enrollment)
    # In UTC, so that the same instant gives the same bytes whatever offset its source writes.
    occurred_at = data.occurred_at.astimezone(UTC)
    return Fact(pseudonyms.fact(source, event_id), kind, entity_id, person_ref, occurred_at, content(data))


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _learner(told: LearnerRegistered) -> bytes:
    residences = [[one.code, _day(one.valid_from), _day(one.valid_to)] for one in told.residences]
    groups = [[one.group, _day(one.valid_from), _day(one.valid_to)] for one in told.groups]
    return json.dumps({"assurance": told.assurance, "groups": groups, "residences": residences}).encode()


def _course(told: EnrollmentRegistered) -> bytes:
    return json.dumps({"course": told.course}).encode()


def _reason(told: EnrollmentVoided) -> bytes:
    return json.dumps({"reason": told.reason}).encode()


def _nothing(_: EnrollmentFact) -> bytes:
    return b"{}"


_READ: Mapping[str, tuple[Kind, Callable[..., bytes]]] = {
    platform.LEARNER_REGISTERED.name: (Kind.LEARNER_REGISTERED, _learner),
    platform.ENROLLMENT_REGISTERED.name: (Kind.ENROLLMENT_REGISTERED, _course),
    platform.ENROLLMENT_STARTED.name: (Kind.ENROLLMENT_STARTED, _nothing),
    platform.ENROLLMENT_WITHDRAWN.name: (Kind.ENROLLMENT_WITHDRAWN, _nothing),
    platform.ENROLLMENT_VOIDED.name: (Kind.ENROLLMENT_VOIDED, _reason),
    platform.ENROLLMENT_REINSTATED.name: (Kind.ENROLLMENT_REINSTATED, _nothing),
    platform.COMPLETION_RECORDED.name: (Kind.COMPLETION_RECORDED, _course),
    platform.COMPLETION_REVOKED.name: (Kind.COMPLETION_REVOKED, _course),
}
"""How each type is read; a type that is missing here fails the test that walks the catalogue."""
