"""Outcome facts into completions on a real PostgreSQL: order, copies and splits do not matter, and nothing is lost between two workers."""

import asyncio
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from services.assessment.handlers import on_outcome_facts
from shared.chassis import outbox
from shared.chassis.clock import now
from shared.chassis.consume import Handler
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.decode import Received, Refused
from shared.chassis.errors import Transient
from shared.contracts.assessment import COMPLETION_RECORDED, COMPLETION_REVOKED, Completion
from tests.integration.assessment.telling import Told

pytestmark = pytest.mark.service("assessment")

BEGIN = datetime(2026, 6, 15, 1, tzinfo=UTC)

Row = tuple[UUID, UUID, str, datetime | None]


async def _apply(pool: Pool, told: Sequence[Told], handler: Handler | None = None) -> Sequence[Refused]:
    async with transaction(pool) as tx:
        records: Sequence[Received[object]] = [one.received(offset) for offset, one in enumerate(told)]
        return await (handler or on_outcome_facts(now))(records, tx)


async def _completions(pool: Pool) -> list[Row]:
    async with pool.acquire() as connection:
        rows = await connection.fetch("SELECT enrollment_id, person_ref, course, completed_at FROM completion ORDER BY enrollment_id")
    return [tuple(row) for row in rows]


async def _announced(pool: Pool) -> list[outbox.Pending]:
    async with pool.acquire() as connection:
        return await outbox.pending(connection, 100_000)


async def _last_announced(pool: Pool) -> dict[bytes | None, bytes]:
    """By key, the bytes of the event that a compacted topic would keep, without the version."""
    kept: dict[bytes | None, bytes] = {}
    for event in await _announced(pool):
        data = json.loads(event.value or b"")
        assert data.pop("version") > 0
        kept[event.key] = json.dumps(data).encode()
    return kept


def _stories(seed: int, enrollments: int = 60) -> list[Told]:
    """Life stories with facts of the same instant and clocks in two offsets."""
    chance = random.Random(seed)  # noqa: S311  # the same in every run
    zones = (UTC, timezone(timedelta(hours=7)))
    told: list[Told] = []
    for enrollment in range(enrollments):
        for _ in range(chance.randint(1, 6)):
            occurred_at = (BEGIN + timedelta(hours=chance.randint(0, 4))).astimezone(chance.choice(zones))
            told.append(
                Told(len(told) + 1, chance.choice(["completed", "completed", "revoked"]), enrollment, occurred_at, chance.choice(["AAA", "BBB"]))
            )
    return told


@pytest.mark.parametrize("seed", range(4))
async def test_every_order_split_and_copy_gives_the_same_completions_and_the_same_last_event(pool: Pool, seed: int) -> None:
    story = _stories(seed)
    await _apply(pool, story)
    expected, events = await _completions(pool), await _last_announced(pool)
    async with pool.acquire() as connection:
        await connection.execute("TRUNCATE outcome_fact, completion, outbox")

    chance = random.Random(seed + 100)  # noqa: S311  # the same in every run
    told = story + chance.choices(story, k=len(story))
    chance.shuffle(told)
    while told:
        size = chance.randint(1, 40)
        assert await _apply(pool, told[:size]) == []
        told = told[size:]
    assert await _completions(pool) == expected
    assert await _last_announced(pool) == events


async def test_copies_announce_nothing(pool: Pool) -> None:
    story = _stories(7)
    await _apply(pool, story)
    before = len(await _announced(pool))
    await _apply(pool, story + story)
    assert len(await _announced(pool)) == before


async def test_a_fact_that_changes_nothing_announces_nothing(pool: Pool) -> None:
    await _apply(pool, [Told(1, "completed", 1, BEGIN)])
    await _apply(pool, [Told(2, "completed", 1, BEGIN + timedelta(days=1))])
    assert len(await _announced(pool)) == 1


async def test_revoked_and_recorded_again_is_announced_each_time_with_rising_versions(pool: Pool) -> None:
    for day, kind in enumerate(["completed", "revoked", "completed"]):
        await _apply(pool, [Told(day + 1, kind, 1, BEGIN + timedelta(days=day))])
    events = await _announced(pool)
    found = [Completion.model_validate_json(event.value or b"") for event in events]
    assert [dict(event.headers)["ce_type"].decode() for event in events] == [
        COMPLETION_RECORDED.name,
        COMPLETION_REVOKED.name,
        COMPLETION_RECORDED.name,
    ]
    assert [one.completed_at for one in found] == [BEGIN, None, BEGIN + timedelta(days=2)]
    assert found[0].version < found[1].version < found[2].version
    assert {event.key for event in events} == {str(UUID(int=1)).encode()}
    assert len({dict(event.headers)["ce_id"] for event in events}) == 3


async def test_versions_rise_though_the_clock_went_back(pool: Pool) -> None:
    await _apply(pool, [Told(1, "completed", 1, BEGIN)], on_outcome_facts(lambda: datetime(2030, 1, 1, tzinfo=UTC)))
    await _apply(pool, [Told(2, "revoked", 1, BEGIN + timedelta(days=1))], on_outcome_facts(now))
    first, second = [json.loads(event.value or b"")["version"] for event in await _announced(pool)]
    assert second == first + 1


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_id_with_other_content_is_refused_and_changes_nothing(pool: Pool, *, together: bool) -> None:
    first, other, neighbour = Told(1, "completed", 1, BEGIN), Told(1, "completed", 1, BEGIN - timedelta(days=9)), Told(2, "completed", 2, BEGIN)
    if together:
        refused = await _apply(pool, [first, other, neighbour])
    else:
        await _apply(pool, [first])
        refused = await _apply(pool, [other, neighbour])
    assert [(one.record.id, one.reason) for one in refused] == [("1", "id_reused")]
    assert [row[3] for row in await _completions(pool)] == [BEGIN, BEGIN]


async def _until_applied(pool: Pool, handle: Handler, records: Sequence[Received[object]]) -> None:
    """As the consumer does it: a passing error is tried again in a new transaction."""
    while True:
        try:
            async with transaction(pool) as tx:
                assert await handle(records, tx) == []
        except Transient:
            continue
        return


async def test_two_workers_on_the_same_enrollments_lose_nothing_and_announce_in_version_order(pool: Pool) -> None:
    """Facts about a person can stand in two partitions while the pseudonym is settled, and a frozen worker may wake up."""
    story = _stories(11, 40)
    await _apply(pool, story)
    expected = await _completions(pool)
    async with pool.acquire() as connection:
        await connection.execute("TRUNCATE outcome_fact, completion, outbox")

    async def work(seed: int) -> None:
        mine = list(story)
        random.Random(seed).shuffle(mine)  # noqa: S311  # the same in every run
        handle = on_outcome_facts(now)
        for at in range(0, len(mine), 10):
            records: Sequence[Received[object]] = [one.received() for one in mine[at : at + 10]]
            await _until_applied(pool, handle, records)

    await asyncio.gather(*(work(seed) for seed in range(4)))
    assert await _completions(pool) == expected
    versions: dict[bytes | None, list[int]] = {}
    for event in await _announced(pool):
        versions.setdefault(event.key, []).append(json.loads(event.value or b"")["version"])
    assert all(told == sorted(set(told)) for told in versions.values())


async def test_without_the_lock_two_workers_do_lose_a_change(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the lock: both read the facts before either sees the other's."""
    from services.assessment import store

    await _apply(pool, [Told(1, "completed", 1, BEGIN)])
    unlocked = store._LOCK.replace("FOR UPDATE", "")
    both_have_read = asyncio.Barrier(2)
    facts_of = store.facts_of

    async def facts_of_and_wait(tx: Tx, enrollments: Sequence[UUID]) -> object:
        found = await facts_of(tx, enrollments)
        await both_have_read.wait()
        return found

    monkeypatch.setattr(store, "_LOCK", unlocked)
    monkeypatch.setattr(store, "facts_of", facts_of_and_wait)
    await asyncio.gather(
        _apply(pool, [Told(2, "revoked", 1, BEGIN + timedelta(days=1))]),
        _apply(pool, [Told(3, "completed", 1, BEGIN + timedelta(days=2))]),
    )
    assert (await _completions(pool))[0][3] != BEGIN + timedelta(days=2)
