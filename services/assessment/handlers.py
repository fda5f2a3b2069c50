"""The way of a batch of outcome facts: tell copies from new, settle and announce completions (decision 0011 says which)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from services.assessment import metrics, store
from services.assessment.domain import Kind, OutcomeFact, merge
from services.assessment.store import StoredCompletion
from shared.chassis.clock import Clock, version_due
from shared.chassis.consume import Handler
from shared.chassis.database import Tx
from shared.chassis.decode import Received, Refused
from shared.chassis.outbox import Announcement, announce
from shared.contracts.assessment import COMPLETION_RECORDED, COMPLETION_REVOKED
from shared.contracts.enrollment import OUTCOME_COMPLETED, Outcome
from shared.contracts.topics import ASSESSMENT_EVENTS

_encode = msgspec.json.Encoder().encode


def on_outcome_facts(clock: Clock) -> Handler:
    """Make the handler of `outcome-facts`."""

    async def handle(records: Sequence[Received[Outcome]], tx: Tx) -> Sequence[Refused]:
        now = clock()
        known = await store.known(tx, (record.data.fact_id for record in records))
        new: list[tuple[Received[Outcome], OutcomeFact]] = []
        refused: list[Refused] = []
        for record in records:
            fact = _fact(record)
            before = known.setdefault(fact.fact_id, fact)
            if before is fact:
                new.append((record, fact))
            elif before != fact:
                refused.append(Refused(record, "id_reused", "another fact came with this id before; what came first stays"))
        await store.add_facts(tx, [(fact, record.topic, record.partition, record.offset) for record, fact in new])
        since = max((record.taken_over_at for record in records), default=0)
        await announce(tx, await _settle(tx, [fact for _, fact in new], now, since))
        metrics.OUTCOMES.labels("new").inc(len(new))
        metrics.OUTCOMES.labels("refused").inc(len(refused))
        metrics.OUTCOMES.labels("copy").inc(len(records) - len(new) - len(refused))
        return refused

    return handle


async def _settle(tx: Tx, fresh: Sequence[OutcomeFact], at: datetime, since: int) -> list[Announcement]:
    """Fold the completions that new facts tell of; store and return what is different.

    What was announced before the version `since` is announced again when a new fact touches it, even unchanged: a database
    that is lost may have announced something else meanwhile (decision 0011).
    """
    by_enrollment: dict[UUID, list[OutcomeFact]] = {}
    for fact in fresh:
        by_enrollment.setdefault(fact.enrollment_id, []).append(fact)
    known = await store.lock(tx, by_enrollment)
    by_enrollment.update(await store.facts_of(tx, known))
    added: list[StoredCompletion] = []
    updated: list[StoredCompletion] = []
    for enrollment_id, facts in by_enrollment.items():
        before, state = known.get(enrollment_id), merge(facts)
        changed = before is None or before.state != state
        version = version_due(before.version if before else None, changed=changed, since=since, at=at)
        if version is not None:
            (added if before is None else updated).append(StoredCompletion(enrollment_id, state, version))
    await store.add(tx, added)
    await store.update(tx, updated)
    return [_event(completion, at) for completion in (*added, *updated)]


def _fact(record: Received[Outcome]) -> OutcomeFact:
    kind = Kind.COMPLETED if record.type == OUTCOME_COMPLETED.name else Kind.REVOKED
    told = record.data
    # One instant has one spelling: what is announced must not depend on whether the fact came fresh or from the table.
    occurred_at = told.occurred_at.astimezone(UTC)
    return OutcomeFact(told.fact_id, kind, told.enrollment_id, told.person_ref, told.course, told.source, occurred_at)


def _event(completion: StoredCompletion, at: datetime) -> Announcement:
    key, state = str(completion.enrollment_id), completion.state
    person_ref = str(state.person_ref)
    data = {
        "enrollment_id": key,
        "person_ref": person_ref,
        "course": state.course,
        "completed_at": state.completed_at,
        "version": completion.version,
    }
    event_type = COMPLETION_REVOKED.name if state.completed_at is None else COMPLETION_RECORDED.name
    return Announcement(ASSESSMENT_EVENTS, event_type, f"{key}:{completion.version}", "/services/assessment", key, person_ref, _encode(data), at, key)
