"""Controls of the checker itself: damage done by hand, each to what one invariant speaks of, which it must see."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from aiokafka import AIOKafkaProducer

from shared.chassis.outbox import partition_of
from shared.contracts import envelope
from shared.contracts.enrollment import PERSON_AFFILIATED
from shared.contracts.reporting import FIGURE_PUBLISHED
from shared.contracts.topics import ENROLLMENT_EVENTS, FIGURES, Topic
from tests.fault.harness.books import Books
from tests.fault.harness.checker import check
from tests.fault.harness.faults import control
from tests.fault.harness.findings import Finding
from tests.fault.harness.ledger import Ledger
from tests.fault.harness.run import Run
from tests.fault.harness.stories import stories

_BY_HAND = (
    ("figure-changed", "a commune, its province and the nation count one person too many", "I3", "reporting",
     "UPDATE figure SET n_all = n_all + 1 WHERE node IN ('VN', 'VN/51', 'VN/51/23377') AND (indicator, course_set, day) = "
     "(SELECT indicator, course_set, day FROM figure WHERE node = 'VN/51/23377' ORDER BY day LIMIT 1)"),
    ("figure-removed", "one row of figures is gone", "I3", "reporting",
     "DELETE FROM figure WHERE ctid = (SELECT ctid FROM figure WHERE n_all <> 0 LIMIT 1)"),
    ("out-of-balance", "the nation has one citizen fewer than its provinces", "I4", "reporting",
     "UPDATE figure SET n_cit = n_cit - 1 WHERE ctid = (SELECT ctid FROM figure WHERE node = 'VN' LIMIT 1)"),
    ("fact-removed", "one fact is gone", "I1", "enrollment",
     "DELETE FROM fact WHERE ctid = (SELECT ctid FROM fact LIMIT 1)"),
    ("fact-twice", "one fact is stored twice", "I2", "enrollment",
     "ALTER TABLE fact DROP CONSTRAINT fact_pk; INSERT INTO fact SELECT * FROM fact LIMIT 1"),
    ("outcome-removed", "assessment lacks one outcome", "I1", "assessment",
     "DELETE FROM outcome_fact WHERE ctid = (SELECT ctid FROM outcome_fact LIMIT 1)"),
    ("outcome-twice", "one outcome is stored twice", "I2", "assessment",
     "ALTER TABLE outcome_fact DROP CONSTRAINT outcome_fact_pk; INSERT INTO outcome_fact SELECT * FROM outcome_fact LIMIT 1"),
    ("dead-letter-removed", "one dead letter is gone", "I1", "enrollment",
     "DELETE FROM dead_letter WHERE ctid = (SELECT ctid FROM dead_letter LIMIT 1)"),
    ("dead-letter-reason", "one dead letter gives another reason", "I1", "enrollment",
     "UPDATE dead_letter SET reason = 'disliked' WHERE ctid = (SELECT ctid FROM dead_letter LIMIT 1)"),
    ("office-not-told", "one message is gone", "I1", "notifications",
     "ALTER TABLE delivery DROP CONSTRAINT delivery_message_id_fkey; DELETE FROM message WHERE ctid = (SELECT ctid FROM message LIMIT 1)"),
    ("office-told-twice", "one office has the same message twice", "I2", "notifications",
     "ALTER TABLE message DROP CONSTRAINT message_once; INSERT INTO message (message_id, rule, subject, recipient, title, body, created_at) "
     "SELECT gen_random_uuid(), rule, subject, recipient, title, body, created_at FROM message LIMIT 1"),
    ("mail-waits", "one mail still waits when everything else is through", "I10", "notifications",
     "UPDATE delivery SET state = 'pending' WHERE ctid = (SELECT ctid FROM delivery LIMIT 1)"),
    ("mail-given-up", "one mail was given up though no answer was lost", "I10", "notifications",
     "UPDATE delivery SET state = 'unknown', lost_answers = 0 WHERE ctid = (SELECT ctid FROM delivery LIMIT 1)"),
    ("applied-twice", "one record was applied twice, and its copy was known by its id", "I2", "reporting",
     "INSERT INTO witness SELECT * FROM witness LIMIT 1"),
    ("entity-changed", "an enrollment is other than its owner announced", "I8", "enrollment",
     "UPDATE enrollment SET started_at = '2025-01-01Z' WHERE ctid = (SELECT ctid FROM enrollment LIMIT 1)"),
    ("version-fell", "a person's version is below what was announced, as after a roll-back", "I9", "enrollment",
     "UPDATE person SET version = version - 1 WHERE ctid = (SELECT ctid FROM person LIMIT 1)"),
)  # fmt: skip
"""Name, what is broken, the invariant that speaks of it, service, statements that do the damage."""


async def _by_hand(run: Run, service: str, damage: str) -> Sequence[Finding]:
    async with run.system.within(service) as connection:
        await connection.execute(damage)
        return await run.check()


for _name, _what, _catches, _service, _damage in _BY_HAND:
    control(_name, _what, catches=(_catches,))(partial(_by_hand, service=_service, damage=_damage))


@control("signed-figure-changed", "one counter of a frozen report is another", catches=("I7",))
async def signed_figure_changed(run: Run) -> Sequence[Finding]:
    await run.freeze_report("2025", "VN")
    assert await run.healed() == []
    damage = "UPDATE report_figure SET n_all = n_all + 1 WHERE ctid = (SELECT ctid FROM report_figure LIMIT 1)"
    return await _by_hand(run, "reporting", damage)


@control("mailed-twice", "the mail server took one mail twice, and no answer was lost", catches=("I10",))
async def mailed_twice(run: Run) -> Sequence[Finding]:
    mail = min(run.system.mails.glob("*.eml"))
    again = mail.with_name("again.eml")
    again.write_bytes(mail.read_bytes())
    found = await run.check()
    again.unlink()
    return found


@control("mail-lost", "a mail is noted as sent, and the mail server never took it", catches=("I10",))
async def mail_lost(run: Run) -> Sequence[Finding]:
    mail = min(run.system.mails.glob("*.eml"))
    kept = mail.read_bytes()
    mail.unlink()
    found = await run.check()
    mail.write_bytes(kept)
    return found


@control("never-sent", "a platform believes that a fact was taken, and it was not", catches=("I1",))
async def never_sent(run: Run) -> Sequence[Finding]:
    books = Books([*run.lab.books.ledgers], dict(run.lab.books.facts))
    books.enter(Ledger("/platforms/never-sent", stories(757, 1)))
    return await check(run.system, run.lab.reader, books)


@control("old-version-last", "an old version of a person stands behind the newest, as after a relay that was not fenced", catches=("I8",))
async def old_version_last(run: Run) -> Sequence[Finding]:
    known = run.lab.reader.keys[ENROLLMENT_EVENTS.name]
    key, newest = next((key, seen.last) for key, seen in known.items() if "residences" in seen.last)
    await _append(run, ENROLLMENT_EVENTS, key, PERSON_AFFILIATED.name, {**newest, "version": newest["version"] - 1})
    found = await run.check()
    await _append(run, ENROLLMENT_EVENTS, key, PERSON_AFFILIATED.name, newest)
    return found


@control("never-committed", "a figure is published that no transaction ever committed", catches=("I9",))
async def never_committed(run: Run) -> Sequence[Finding]:
    seen = next(iter(run.lab.reader.keys[FIGURES.name].values()))
    await _append(run, FIGURES, "I-01/NOBODY/VN/2026Q1", FIGURE_PUBLISHED.name, {**seen.last, "course_set": "NOBODY"})
    found = await run.check()
    del run.lab.reader.keys[FIGURES.name]["I-01/NOBODY/VN/2026Q1"]
    return found


async def _append(run: Run, topic: Topic, key: str, name: str, data: Mapping[str, object]) -> None:
    partition = partition_of(str(data.get("person_ref", key)), topic.partitions)
    headers = envelope.headers(name, event_id=f"{key}:by-hand", source="/services/by-hand", time=datetime.now(UTC))
    producer = AIOKafkaProducer(bootstrap_servers=run.system.bootstrap_servers, acks="all")
    await producer.start()
    try:
        told = [(header, value.encode()) for header, value in headers.items()]
        await producer.send_and_wait(topic.name, key=key.encode(), value=json.dumps(data).encode(), partition=partition, headers=told)
    finally:
        await producer.stop()
