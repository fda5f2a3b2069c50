"""The table of dead letters and of what was done to them: every statement of the clerk's work.

The columns a letter came with are never written again; what was mended stands beside them and is what is read
(`coalesce`). Whoever decides on a letter locks its row first, in the order of ids.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import asyncpg

from shared.chassis.database import Tx

State = Literal["open", "redriven", "dropped"]
"""open: waits for a clerk. redriven: applied after all. dropped: a clerk said why it never will be."""

Act = Literal["edit", "redrive", "drop"]
"""What is done to a letter."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; what is None does not matter.

    Attributes:
        reason: reason code.
        topic: topic name.
        event_type: CloudEvents `type`, as mended.
        since: set aside at this moment or later, aware.
        until: set aside before this moment, aware.
        state: what has become of them.
        ids: these only.
    """

    reason: str | None = None
    topic: str | None = None
    event_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: State | None = "open"
    ids: tuple[int, ...] | None = None


@dataclass(slots=True)
class Record:
    """A record as it is to be applied, mended where it was mended. It stands where it stood on its topic (a `RawRecord`)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What may be listed of a letter: no value of a field."""

    letter_id: int
    set_aside_at: datetime
    topic: str
    partition: int
    offset: int
    event_type: str | None
    reason: str
    detail: str
    state: State
    edited: bool
    settled_at: datetime | None
    settled_by: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A whole letter.

    Attributes:
        entry: what may be listed.
        record: as it is to be applied.
        original: as it came.
    """

    entry: Entry
    record: Record
    original: Record


@dataclass(frozen=True, slots=True)
class Done:
    """One line of the journal."""

    act: Act
    by: str
    at: datetime
    why: str | None
    changed: tuple[str, ...]
    outcome: str


_LIST = """
SELECT dead_letter_id, recorded_at, topic, partition, record_offset, event_type, reason, detail, state, edited_at IS NOT NULL AS edited,
    settled_at, settled_by
FROM dead_letter
WHERE consumer_group = $1 AND ($2::text IS NULL OR reason = $2) AND ($3::text IS NULL OR topic = $3) AND ($4::text IS NULL OR event_type = $4)
  AND ($5::timestamptz IS NULL OR recorded_at >= $5) AND ($6::timestamptz IS NULL OR recorded_at < $6) AND ($7::text IS NULL OR state = $7)
  AND ($8::bigint[] IS NULL OR dead_letter_id = ANY($8)) AND dead_letter_id > $9
ORDER BY dead_letter_id LIMIT $10
"""


async def entries(tx: Tx, group: str, chosen: Filter, after: int, limit: int) -> list[Entry]:
    """Letters in the order in which they were set aside, beginning behind the id `after`."""
    return [_entry(row) for row in await tx.fetch(_LIST, group, *_terms(chosen), after, limit)]


_COUNT = """
SELECT reason, count(*) AS letters FROM dead_letter
WHERE consumer_group = $1 AND ($2::text IS NULL OR reason = $2) AND ($3::text IS NULL OR topic = $3) AND ($4::text IS NULL OR event_type = $4)
  AND ($5::timestamptz IS NULL OR recorded_at >= $5) AND ($6::timestamptz IS NULL OR recorded_at < $6) AND ($7::text IS NULL OR state = $7)
  AND ($8::bigint[] IS NULL OR dead_letter_id = ANY($8))
GROUP BY reason ORDER BY letters DESC, reason
"""


async def count(tx: Tx, group: str, chosen: Filter) -> dict[str, int]:
    """How many letters are meant, by reason, most first."""
    return {row["reason"]: row["letters"] for row in await tx.fetch(_COUNT, group, *_terms(chosen))}


_SIZES = """
SELECT dead_letter_id, topic, coalesce(octet_length(coalesce(edited_value, value)), 0) AS bytes FROM dead_letter
WHERE consumer_group = $1 AND ($2::text IS NULL OR reason = $2) AND ($3::text IS NULL OR topic = $3) AND ($4::text IS NULL OR event_type = $4)
  AND ($5::timestamptz IS NULL OR recorded_at >= $5) AND ($6::timestamptz IS NULL OR recorded_at < $6) AND ($7::text IS NULL OR state = $7)
  AND ($8::bigint[] IS NULL OR dead_letter_id = ANY($8)) AND dead_letter_id > $9
ORDER BY dead_letter_id LIMIT $10
"""


async def sizes(tx: Tx, group: str, chosen: Filter, after: int, limit: int) -> list[tuple[int, str, int]]:
    """Id, topic and bytes of the letters that come next, so that a batch can be cut to what fits into memory."""
    rows = await tx.fetch(_SIZES, group, *_terms(chosen), after, limit)
    return [(row["dead_letter_id"], row["topic"], row["bytes"]) for row in rows]


_FIND = """
SELECT dead_letter_id, recorded_at, topic, partition, record_offset, event_type, reason, detail, state, edited_at IS NOT NULL AS edited,
    settled_at, settled_by, key, value, header_names, header_values, edited_value, edited_header_names, edited_header_values
FROM dead_letter WHERE consumer_group = $1 AND dead_letter_id = $2
"""


async def find(tx: Tx, group: str, letter_id: int) -> Letter | None:
    """One letter, whole."""
    row = await tx.fetchrow(_FIND, group, letter_id)
    return _letter(row) if row is not None else None


_LOCK = """
SELECT dead_letter_id, recorded_at, topic, partition, record_offset, event_type, reason, detail, state, edited_at IS NOT NULL AS edited,
    settled_at, settled_by, key, value, header_names, header_values, edited_value, edited_header_names, edited_header_values
FROM dead_letter WHERE consumer_group = $1 AND dead_letter_id = ANY($2::bigint[]) AND state = 'open'
ORDER BY dead_letter_id FOR UPDATE
"""


async def lock_open(tx: Tx, group: str, letter_ids: Sequence[int]) -> list[Letter]:
    """Those of these letters that are open, in the order of ids; nobody else can settle or edit them until `tx` ends.

    Whoever comes second waits here, and then does not find what the first has settled.
    """
    return [_letter(row) for row in await tx.fetch(_LOCK, group, list(letter_ids))]


_SETTLE = """
UPDATE dead_letter SET state = $2, settled_at = now(), settled_by = $3 WHERE dead_letter_id = ANY($1::bigint[])
"""


async def settle(tx: Tx, letter_ids: Sequence[int], state: State, by: str) -> None:
    """Say what has become of letters. Lock them first."""
    await tx.execute(_SETTLE, list(letter_ids), state, by)


_REFUSED = """
UPDATE dead_letter SET reason = told.reason, detail = told.detail
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS told (dead_letter_id, reason, detail)
WHERE dead_letter.dead_letter_id = told.dead_letter_id
"""


async def refused(tx: Tx, verdicts: Mapping[int, tuple[str, str]]) -> None:
    """Note the reason and detail with which letters were refused again; they stay open. Lock them first."""
    if verdicts:
        await tx.execute(_REFUSED, list(verdicts), [reason for reason, _ in verdicts.values()], [detail for _, detail in verdicts.values()])


_MEND = """
UPDATE dead_letter
SET edited_at = now(), edited_by = $2, edited_value = $3, edited_header_names = $4, edited_header_values = $5, event_type = $6
WHERE dead_letter_id = $1
"""


async def mend(tx: Tx, letter_id: int, by: str, value: bytes | None, headers: Sequence[tuple[str, bytes]], event_type: str | None) -> None:
    """Put what is to be applied beside what came. Lock the letter first."""
    await tx.execute(_MEND, letter_id, by, value, [name for name, _ in headers], [text for _, text in headers], event_type)


_NOTE = """
INSERT INTO dead_letter_act (dead_letter_id, act, done_by, why, changed, outcome)
SELECT told.dead_letter_id, $3, $4, $5, $6, told.outcome FROM unnest($1::bigint[], $2::text[]) AS told (dead_letter_id, outcome)
ORDER BY told.dead_letter_id
"""


async def note(tx: Tx, act: Act, by: str, outcomes: Mapping[int, str], *, why: str | None = None, changed: Sequence[str] | None = None) -> None:
    """Write the journal, in the transaction of what it tells.

    Args:
        tx: that transaction.
        act: what was done.
        by: who did it.
        outcomes: what came of it, by letter: a state, or the reason code of a refusal.
        why: in the clerk's words.
        changed: names of what an edit changed; never values.
    """
    await tx.execute(_NOTE, list(outcomes), list(outcomes.values()), act, by, why, changed)


_JOURNAL = """
SELECT act, done_by, done_at, why, changed, outcome FROM dead_letter_act WHERE dead_letter_id = $1 ORDER BY act_id
"""


async def journal(tx: Tx, letter_id: int) -> list[Done]:
    """Everything that was done to a letter, oldest first."""
    rows = await tx.fetch(_JOURNAL, letter_id)
    return [Done(row["act"], row["done_by"], row["done_at"], row["why"], tuple(row["changed"] or ()), row["outcome"]) for row in rows]


_REDRIVEN = """
SELECT dead_letter_id, recorded_at, topic, partition, record_offset, key, coalesce(edited_value, value) AS value,
    coalesce(edited_header_names, header_names) AS header_names, coalesce(edited_header_values, header_values) AS header_values
FROM dead_letter WHERE consumer_group = $1 AND topic = ANY($2::text[]) AND state = 'redriven' AND dead_letter_id > $3
ORDER BY dead_letter_id LIMIT 100
"""


async def redriven(tx: Tx, group: str, topics: Sequence[str]) -> AsyncIterator[list[Record]]:
    """The records that were applied after all, as they were applied, some at a time: for whoever makes everything again."""
    after = 0
    while rows := await tx.fetch(_REDRIVEN, group, list(topics), after):
        yield [_record(row, row["value"], row["header_names"], row["header_values"]) for row in rows]
        after = rows[-1]["dead_letter_id"]


def _terms(chosen: Filter) -> tuple[object, ...]:
    ids = None if chosen.ids is None else list(chosen.ids)
    return chosen.reason, chosen.topic, chosen.event_type, chosen.since, chosen.until, chosen.state, ids


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(
        row["dead_letter_id"], row["recorded_at"], row["topic"], row["partition"], row["record_offset"], row["event_type"],
        row["reason"], row["detail"], row["state"], row["edited"], row["settled_at"], row["settled_by"],
    )  # fmt: skip


def _letter(row: asyncpg.Record) -> Letter:
    original = _record(row, row["value"], row["header_names"], row["header_values"])
    if not row["edited"]:
        return Letter(_entry(row), original, original)
    return Letter(_entry(row), _record(row, row["edited_value"], row["edited_header_names"], row["edited_header_values"]), original)


def _record(row: asyncpg.Record, value: bytes | None, names: Sequence[str], values: Sequence[bytes]) -> Record:
    set_aside = int(row["recorded_at"].timestamp() * 1000)
    return Record(row["topic"], row["partition"], row["record_offset"], set_aside, row["key"], value, tuple(zip(names, values, strict=True)))
