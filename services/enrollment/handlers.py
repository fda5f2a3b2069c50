"""The way of a batch of facts: read, tell copies from new, settle persons and enrollments, hand outcomes on, announce."""

import json
from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.enrollment import metrics
from services.enrollment.enrollments import handlers as enrollments
from services.enrollment.facts import store
from services.enrollment.facts.domain import ABOUT_ENROLLMENTS, ABOUT_PERSONS, OUTCOMES, Fact, Kind, judge
from services.enrollment.facts.store import Position
from services.enrollment.intake.facts import check_time, to_fact
from services.enrollment.persons import handlers as persons
from services.enrollment.persons.domain import Pseudonyms
from shared.chassis.clock import Clock
from shared.chassis.consume import Handler
from shared.chassis.database import Tx
from shared.chassis.decode import Received, Refused
from shared.chassis.outbox import Announcement, announce
from shared.contracts.enrollment import OUTCOME_COMPLETED, OUTCOME_REVOKED
from shared.contracts.platform import EnrollmentFact, LearnerRegistered
from shared.contracts.topics import OUTCOME_FACTS

_encode = msgspec.json.Encoder().encode

_OUTCOMES = {Kind.COMPLETION_RECORDED: OUTCOME_COMPLETED.name, Kind.COMPLETION_REVOKED: OUTCOME_REVOKED.name}


def on_platform_facts(pseudonyms: Pseudonyms, history_sources: tuple[str, ...], clock: Clock) -> Handler:
    """Make the handler of `platform-events`."""

    async def handle(records: Sequence[Received[LearnerRegistered | EnrollmentFact]], tx: Tx) -> Sequence[Refused]:
        now = clock()
        refused: list[Refused] = []
        told: list[tuple[Received[LearnerRegistered | EnrollmentFact], Fact]] = []
        for record in records:
            wrong = check_time(record.data.occurred_at, record.source, now, history_sources)
            if wrong is None:
                told.append((record, to_fact(record.type, record.id, record.source, record.data, pseudonyms)))
            else:
                refused.append(Refused(record, wrong.reason, wrong.detail))
        facts = [fact for _, fact in told]
        verdicts = judge(facts, await store.digests(tx, (fact.fact_id for fact in facts)))
        refused.extend(
            Refused(told[index][0], "id_reused", "this source used this id for another fact; what came first stays") for index in verdicts.reused
        )
        new = [told[index] for index in verdicts.new]
        await store.add(tx, [(fact, Position(record.topic, record.partition, record.offset)) for record, fact in new])
        fresh = [fact for _, fact in new]
        since = max((record.taken_over_at for record in records), default=0)
        events = await persons.settle(tx, [fact for fact in fresh if fact.kind in ABOUT_PERSONS], now, since)
        events += await enrollments.settle(tx, [fact for fact in fresh if fact.kind in ABOUT_ENROLLMENTS], now, since)
        events += [_outcome(record.source, fact, now) for record, fact in new if fact.kind in OUTCOMES]
        await announce(tx, events)
        _count(len(new), len(verdicts.copies), len(refused), len(verdicts.reused))
        return refused

    return handle


def _outcome(source: str, fact: Fact, now: datetime) -> Announcement:
    """An outcome is not merged here: each new fact is handed on once to who decides what it means."""
    key, person_ref = str(fact.fact_id), str(fact.person_ref)
    data = {
        "fact_id": key,
        "person_ref": person_ref,
        "enrollment_id": str(fact.entity_id),
        "course": json.loads(fact.content)["course"],
        "source": source,
        "occurred_at": fact.occurred_at,
    }
    return Announcement(OUTCOME_FACTS, _OUTCOMES[fact.kind], key, "/services/enrollment", key, person_ref, _encode(data), now, key)


def _count(new: int, copies: int, refused: int, reused: int) -> None:
    metrics.FACTS.labels("new").inc(new)
    metrics.FACTS.labels("copy").inc(copies)
    metrics.FACTS.labels("refused").inc(refused)
    metrics.IDS_REUSED.inc(reused)
