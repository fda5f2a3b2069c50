"""Bring enrollments up to date with their facts and announce those that are different now or may have been told otherwise (decision 0011)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from services.enrollment.enrollments import store
from services.enrollment.enrollments.domain import change, merge
from services.enrollment.enrollments.store import StoredEnrollment
from services.enrollment.facts import store as fact_store
from services.enrollment.facts.domain import ABOUT_ENROLLMENTS, Fact
from shared.chassis.clock import version_due
from shared.chassis.database import Tx
from shared.chassis.outbox import Announcement
from shared.contracts import enrollment as contracts
from shared.contracts.topics import ENROLLMENT_EVENTS

_encode = msgspec.json.Encoder().encode

_TYPES = {
    "awaited": contracts.ENROLLMENT_AWAITED.name,
    "registered": contracts.ENROLLMENT_REGISTERED.name,
    "started": contracts.ENROLLMENT_STARTED.name,
    "withdrawn": contracts.ENROLLMENT_WITHDRAWN.name,
    "voided": contracts.ENROLLMENT_VOIDED.name,
    "reinstated": contracts.ENROLLMENT_REINSTATED.name,
}


async def settle(tx: Tx, fresh: Sequence[Fact], at: datetime, since: int = 0) -> list[Announcement]:
    """Fold the enrollments that new facts tell of; store and return what is different.

    Args:
        tx: the transaction that stored the facts.
        fresh: facts that are new, all about enrollments.
        at: now.
        since: what was announced before this version is announced again when a new fact touches it, even unchanged: a
            database that is lost may have announced something else meanwhile (decision 0011).
    """
    by_enrollment: dict[UUID, list[Fact]] = {}
    for fact in fresh:
        by_enrollment.setdefault(fact.entity_id, []).append(fact)
    known = await store.lock(tx, by_enrollment)
    by_enrollment.update(await fact_store.of_entities(tx, known, ABOUT_ENROLLMENTS))
    added: list[StoredEnrollment] = []
    updated: list[StoredEnrollment] = []
    events: list[Announcement] = []
    for enrollment_id, facts in by_enrollment.items():
        before, state = known.get(enrollment_id), merge(facts)
        changed = before is None or before.state != state
        version = version_due(before.version if before else None, changed=changed, since=since, at=at)
        if version is None:
            continue
        enrollment = StoredEnrollment(enrollment_id, state, version)
        (added if before is None else updated).append(enrollment)
        events.append(_event(enrollment, _TYPES[change(before.state if before and changed else None, state)], at))
    await store.add(tx, added)
    await store.update(tx, updated)
    return events


def _event(enrollment: StoredEnrollment, event_type: str, at: datetime) -> Announcement:
    key, state = str(enrollment.enrollment_id), enrollment.state
    person_ref = str(state.person_ref)
    data = {
        "enrollment_id": key,
        "person_ref": person_ref,
        "course": state.course,
        "status": state.status,
        "registered_at": state.registered_at,
        "started_at": state.started_at,
        "withdrawn_at": state.withdrawn_at,
        "version": enrollment.version,
    }
    return Announcement(ENROLLMENT_EVENTS, event_type, f"{key}:{enrollment.version}", "/services/enrollment", key, person_ref, _encode(data), at, key)
