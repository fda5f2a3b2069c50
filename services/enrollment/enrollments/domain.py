"""What is true of an enrollment, folded from the set of its facts in the order in which they were true in the world."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from services.enrollment.facts.domain import Fact, Kind, true_order

Status = Literal["AWAITING", "ACTIVE", "CANCELLED", "VOIDED"]


@dataclass(frozen=True, slots=True)
class EnrollmentState:
    """One enrollment.

    Attributes:
        person_ref: whose it is.
        course: None until the registration itself is known.
        status: AWAITING before that; CANCELLED while withdrawn; VOIDED while it should never have been.
        registered_at: when the registration was made.
        started_at: earliest activity, unless it came after the withdrawal in force.
        withdrawn_at: since when withdrawn, while that is in force.
    """

    person_ref: UUID
    course: str | None
    status: Status
    registered_at: datetime | None
    started_at: datetime | None
    withdrawn_at: datetime | None


def merge(facts: Iterable[Fact]) -> EnrollmentState:
    """Fold the set of an enrollment's facts; copies, order of arrival and splits into batches cannot matter.

    First it is found which withdrawals and voidings stand: a reinstatement takes back those before it, as if they had not
    been. The earliest registration counts. The earliest activity starts participation, unless it comes after a withdrawal
    that stands; it may be earlier than the registration, which offices often enter late. Source: the corrections in
    docs/indicators.md.
    """
    ordered = sorted(facts, key=true_order)
    taken_back = max((at for at, fact in enumerate(ordered) if fact.kind is Kind.ENROLLMENT_REINSTATED), default=-1)
    course: str | None = None
    registered_at = started_at = withdrawn_at = None
    voided = False
    for at, fact in enumerate(ordered):
        match fact.kind:
            case Kind.ENROLLMENT_REGISTERED:
                if registered_at is None:
                    course, registered_at = json.loads(fact.content)["course"], fact.occurred_at
            case Kind.ENROLLMENT_STARTED:
                if started_at is None and withdrawn_at is None:
                    started_at = fact.occurred_at
            case Kind.ENROLLMENT_WITHDRAWN:
                if at > taken_back:
                    withdrawn_at = withdrawn_at or fact.occurred_at
            case Kind.ENROLLMENT_VOIDED:
                voided = voided or at > taken_back
            case Kind.ENROLLMENT_REINSTATED:
                pass
            case _:
                raise ValueError(f"{fact.kind.name} is no fact about an enrollment")
    return EnrollmentState(ordered[0].person_ref, course, _status(registered_at, withdrawn_at, voided), registered_at, started_at, withdrawn_at)


def _status(registered_at: datetime | None, withdrawn_at: datetime | None, voided: bool) -> Status:
    if voided:
        return "VOIDED"
    if registered_at is None:
        return "AWAITING"
    return "ACTIVE" if withdrawn_at is None else "CANCELLED"


Change = Literal["awaited", "registered", "started", "withdrawn", "voided", "reinstated"]


def change(old: EnrollmentState | None, new: EnrollmentState) -> Change:
    """Name what happened between two states; the most consequential change gives the name."""
    if new.status == "VOIDED" and (old is None or old.status != "VOIDED"):
        return "voided"
    if new.withdrawn_at is not None and (old is None or old.withdrawn_at != new.withdrawn_at):
        return "withdrawn"
    if old is not None and (old.status == "VOIDED" or old.withdrawn_at is not None) and new.status in ("ACTIVE", "AWAITING"):
        return "reinstated"
    if new.started_at is not None and (old is None or old.started_at != new.started_at):
        return "started"
    return "awaited" if new.status == "AWAITING" else "registered"
