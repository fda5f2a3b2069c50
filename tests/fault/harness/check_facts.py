"""I1, nothing lost: what was offered is a fact or a dead letter with the right reason. I2, nothing twice."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

import asyncpg

from tests.fault.harness.books import Books
from tests.fault.harness.findings import Finding, finding
from tests.fault.harness.ledger import LEDGER_HEADER, Offer
from tests.fault.harness.recount import RANKS
from tests.fault.harness.stories import Fact
from tests.fault.harness.system import System
from tests.fault.harness.topic_reader import TopicReader

_FACTS = "SELECT fact_id, kind, occurred_at FROM fact"

_OUTCOME_FACTS = "SELECT fact_id FROM outcome_fact"

_LETTERS = "SELECT topic, partition, record_offset, reason, header_names, header_values FROM dead_letter"

_MESSAGES = "SELECT rule, subject, recipient FROM message"

_REPORTS = "SELECT report_id, version, scope FROM report"

_RECIPIENTS = "SELECT recipient, scope FROM recipient"


async def check_facts(system: System, reader: TopicReader, books: Books) -> list[Finding]:
    """Facts, outcome facts and dead letters against the ledgers."""
    async with system.database("enrollment") as connection:
        rows = await connection.fetch(_FACTS)
        letters = await connection.fetch(_LETTERS)
    async with system.database("assessment") as connection:
        outcomes = [row[0] for row in await connection.fetch(_OUTCOME_FACTS)]
    stored = {row["fact_id"]: row for row in rows}
    wanted = {known for known, (_, fact) in books.facts.items() if fact.kind.startswith("completion.")}
    other = {known for known in stored.keys() & books.facts.keys() if _differs(books.facts[known][1], stored[known])}
    return [
        *finding("I1", "lost", "fact was offered and is not stored", _named(books, books.facts.keys() - stored.keys())),
        *finding("I1", "other", "fact is stored and was never offered", stored.keys() - books.facts.keys()),
        *finding("I1", "other", "fact is stored with another kind or time than was offered", _named(books, other)),
        *finding("I1", "lost", "outcome was offered and assessment does not have it", _named(books, wanted - set(outcomes))),
        *finding("I1", "other", "outcome is stored and was never offered", set(outcomes) - wanted),
        *finding("I2", "double", "fact is stored more than once", _twice(row["fact_id"] for row in rows)),
        *finding("I2", "double", "outcome is stored more than once", _twice(outcomes)),
        *_set_aside(reader, books, letters),
        *await _other_letters(system),
    ]


def _named(books: Books, ids: set[UUID]) -> list[str]:
    return [f"{books.facts[known][0]} {books.facts[known][1].kind} {books.facts[known][1].id}" for known in ids]


def _differs(fact: Fact, row: asyncpg.Record) -> bool:
    return (RANKS[fact.kind], fact.occurred_at) != (row["kind"], row["occurred_at"])


def _twice(found: Iterable[object]) -> list[str]:
    return [f"{key} ({times} times)" for key, times in Counter(found).items() if times > 1]


def _set_aside(reader: TopicReader, books: Books, rows: Sequence[asyncpg.Record]) -> list[Finding]:
    """Every bad offer has its dead letter with its reason, no good one has any, and each was published."""
    reasons: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        reasons[_mark(row)].add(row["reason"])
    offers: dict[str, Offer] = {offer.mark.decode(): offer for ledger in books.ledgers for offer in ledger.offers}
    must = {mark: offer.refused_as for mark, offer in offers.items() if offer.refused_as is not None and offer.way == "kafka"}
    wrong = [f"{mark} {reasons[mark]} instead of {reason}" for mark, reason in must.items() if mark in reasons and reasons[mark] != {reason}]
    strange = [f"{_place(row)} {row['reason']}" for row in rows if not _mark(row)]
    unpublished = [
        f"{_place(row)} {row['reason']}" for row in rows if reader.dead_letters.get((row["partition"], row["record_offset"])) != row["reason"]
    ]
    answered = [offer for offer in offers.values() if offer.way != "kafka" and offer.answer != offer.refused_as]
    return [
        *finding("I1", "lost", "bad record has no dead letter", (f"{mark} {must[mark]}" for mark in must.keys() - reasons.keys())),
        *finding("I1", "other", "bad record has another reason than it must", wrong),
        *finding("I1", "lost", "good record was set aside", (f"{mark} {reasons[mark]}" for mark in reasons.keys() - must.keys() - {""})),
        *finding("I1", "other", "dead letter of a record that nobody offered on Kafka", strange),
        *finding("I1", "lost", "dead letter stands in the table and not on its topic", unpublished),
        *finding("I1", "other", "the API answered wrongly", (f"{one.mark.decode()}: {one.answer} instead of {one.refused_as}" for one in answered)),
        *finding("I2", "double", "record was set aside more than once", _twice(_place(row) for row in rows)),
    ]


def _mark(row: asyncpg.Record) -> str:
    headers: dict[str, bytes] = dict(zip(row["header_names"], row["header_values"], strict=True))
    return headers.get(LEDGER_HEADER, b"").decode("utf-8", "replace")


def _place(row: asyncpg.Record) -> str:
    return f"{row['topic']}/{row['partition']}/{row['record_offset']}"


async def _other_letters(system: System) -> list[Finding]:
    """What services tell one another is never set aside."""
    found: list[Finding] = []
    for service in ("assessment", "reporting", "notifications"):
        async with system.database(service) as connection:
            rows = await connection.fetch(_LETTERS)
        found += finding("I1", "lost", f"event was set aside by {service}", (f"{_place(row)} {row['reason']}" for row in rows))
    return found


async def check_messages(system: System, reader: TopicReader) -> list[Finding]:
    """One message per rule, subject and recipient for every frozen report, and no other."""
    async with system.database("reporting") as connection:
        reports = await connection.fetch(_REPORTS)
    async with system.database("notifications") as connection:
        messages = [tuple(row) for row in await connection.fetch(_MESSAGES)]
        offices = await connection.fetch(_RECIPIENTS)
    wanted = {
        (f"{report['report_id']}:{report['version']}", office["recipient"])
        for report in reports
        for office in offices
        if _above_or_below(report["scope"], office["scope"])
    }
    have = {(subject, recipient) for _, subject, recipient in messages}
    announced = {(str(report["report_id"]), report["version"]) for report in reports}
    return [
        *finding("I1", "lost", "office was not told of a report", wanted - have),
        *finding("I2", "double", "office was told more than once", _twice(messages)),
        *finding("I9", "other", "office was told of a report that is not frozen", have - wanted),
        *finding("I1", "lost", "report was not announced", announced - reader.reports),
        *finding("I9", "other", "report was announced and is not frozen", reader.reports - announced),
    ]


def _above_or_below(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
