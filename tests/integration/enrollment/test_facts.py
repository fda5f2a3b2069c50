"""Facts into entities on a real database: copies, ids that are used twice, two workers at once, a restored database."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.enrollment.handlers import on_platform_facts
from services.enrollment.persons.domain import Pseudonyms
from shared.chassis.database import Pool, transaction
from shared.chassis.decode import Received, Refused
from shared.chassis.errors import is_transient
from shared.contracts import platform
from shared.contracts.envelope import EventType

pytestmark = pytest.mark.service("enrollment")

NOW = datetime(2026, 11, 24, tzinfo=UTC)
KEY = b"k" * 32


def told(known: EventType[Any], number: int, account: str = "lan", event_id: str | None = None, **fields: Any) -> Received[Any]:
    data = {"account": account, "enrollment": f"{account}-1", "occurred_at": "2026-06-01T00:00:00Z", "course": "AAA", **fields}
    return Received(known.name, event_id or f"{known.name}-{account}-{number}", "/p", known.decode(json.dumps(data).encode()), "t", 0, number)


async def handle(pool: Pool, records: Sequence[Received[Any]], at: datetime = NOW) -> Sequence[Refused]:
    """One batch, tried again as the chassis does when the error passes."""
    handler = on_platform_facts(Pseudonyms(KEY), (), lambda: at)
    while True:
        try:
            async with transaction(pool) as tx:
                return await handler(records, tx)
        except Exception as error:
            if not is_transient(error):
                raise
            await asyncio.sleep(0.01)


def story(account: str = "lan") -> list[Received[Any]]:
    return [
        told(platform.LEARNER_REGISTERED, 0, account, residences=[{"code": "23377", "valid_from": "2025-07-01"}]),
        told(platform.ENROLLMENT_STARTED, 1, account, occurred_at="2026-06-02T00:00:00Z"),
        told(platform.ENROLLMENT_REGISTERED, 2, account),
        told(platform.COMPLETION_RECORDED, 3, account, occurred_at="2026-08-01T00:00:00Z"),
    ]


async def announced(pool: Pool) -> list[dict[str, Any]]:
    async with pool.acquire() as connection:
        return [json.loads(row[0]) for row in await connection.fetch("SELECT value FROM outbox ORDER BY seq")]


async def test_a_story_becomes_a_person_an_enrollment_and_an_outcome(pool: Pool) -> None:
    assert await handle(pool, story()) == []
    person, enrollment, outcome = await announced(pool)
    assert person["residences"] == [{"code": "23377", "valid_from": "2025-07-01", "valid_to": None}]
    assert (enrollment["status"], enrollment["course"], enrollment["started_at"]) == ("ACTIVE", "AAA", "2026-06-02T00:00:00Z")
    assert (outcome["course"], outcome["enrollment_id"], outcome["person_ref"]) == ("AAA", enrollment["enrollment_id"], person["person_ref"])


async def test_copies_in_any_batch_announce_nothing_again(pool: Pool) -> None:
    await handle(pool, story() + story())
    first = await announced(pool)
    for record in reversed(story()):
        await handle(pool, [record, record])
    assert await announced(pool) == first


async def test_facts_one_by_one_in_any_order_end_as_the_same_entity(pool: Pool) -> None:
    for record in (story()[1], story()[3], story()[2], story()[0]):
        await handle(pool, [record])
    async with pool.acquire() as connection:
        row = await connection.fetchrow("SELECT course, status, registered_at, started_at FROM enrollment")
    assert row is not None
    assert tuple(row) == ("AAA", "ACTIVE", datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC))
    versions = [event["version"] for event in await announced(pool) if "status" in event]
    assert versions == sorted(set(versions))


async def test_the_same_id_with_other_content_is_refused_in_one_batch_and_across(pool: Pool) -> None:
    first = told(platform.ENROLLMENT_REGISTERED, 1, event_id="x")
    other = told(platform.ENROLLMENT_REGISTERED, 2, event_id="x", enrollment="lan-2")
    assert [refused.reason for refused in await handle(pool, [first, other])] == ["id_reused"]
    assert [refused.reason for refused in await handle(pool, [told(platform.ENROLLMENT_STARTED, 3, event_id="x")])] == ["id_reused"]
    assert await handle(pool, [first]) == []
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM enrollment") == 1


async def test_a_time_that_cannot_be_right_is_refused_and_its_neighbours_are_taken(pool: Pool) -> None:
    records = [
        told(platform.ENROLLMENT_REGISTERED, 1),
        told(platform.ENROLLMENT_STARTED, 2, occurred_at="2038-01-01T00:00:00Z"),
        told(platform.ENROLLMENT_STARTED, 3, occurred_at="1970-01-01T00:00:00Z"),
    ]
    assert [refused.reason for refused in await handle(pool, records)] == ["time_in_future", "time_before_movement"]
    assert len(await announced(pool)) == 1


async def test_two_workers_on_the_same_accounts_lose_nothing(pool: Pool) -> None:
    accounts = [f"a{number}" for number in range(60)]
    stories = [record for account in accounts for record in story(account)]
    halves = [stories[::2], list(reversed(stories[1::2]))]
    await asyncio.gather(*(handle(pool, half[at : at + 40]) for at in range(0, 120, 40) for half in halves))
    async with pool.acquire() as connection:
        facts = await connection.fetchval("SELECT count(*) FROM fact")
        enrollments = await connection.fetchval("SELECT count(*) FROM enrollment WHERE status = 'ACTIVE' AND started_at IS NOT NULL")
        persons = await connection.fetchval("SELECT count(*) FROM person")
    assert (facts, enrollments, persons) == (240, 60, 60)


async def test_a_database_restored_to_the_past_announces_the_same_ids_with_higher_versions(pool: Pool) -> None:
    await handle(pool, story())
    before = await announced(pool)
    async with pool.acquire() as connection:
        await connection.execute("TRUNCATE fact, person, enrollment, outbox")
    await handle(pool, story(), NOW + timedelta(hours=1))
    after = await announced(pool)
    ids = ("person_ref", "enrollment_id", "fact_id")
    assert [[event.get(name) for name in ids] for event in before] == [[event.get(name) for name in ids] for event in after]
    assert all(a["version"] > b["version"] for a, b in zip(after, before, strict=True) if "version" in a)


def changed_and_back() -> list[Received[Any]]:
    """Withdrawn, and the withdrawal taken back: as a whole they change nothing."""
    return [
        told(platform.ENROLLMENT_WITHDRAWN, 4, occurred_at="2026-06-03T00:00:00Z"),
        told(platform.ENROLLMENT_REINSTATED, 5, occurred_at="2026-06-04T00:00:00Z"),
    ]


@pytest.mark.parametrize("guarded", [True, False])
async def test_what_a_lost_database_announced_is_put_right_although_the_restored_one_sees_no_change(pool: Pool, guarded: bool) -> None:
    await handle(pool, story())
    withdrawal, reinstatement = changed_and_back()
    # The lost database announced the withdrawal as well; readers hold that. The restored one reads both facts together.
    version_of_the_lost_one = int((NOW + timedelta(hours=1)).timestamp() * 1_000_000)
    taken_over_at = version_of_the_lost_one + 1 if guarded else 0
    again = [replace(record, taken_over_at=taken_over_at) for record in (withdrawal, reinstatement)]
    await handle(pool, again, NOW + timedelta(hours=2))
    said = [event for event in await announced(pool) if event.get("version", 0) > version_of_the_lost_one]
    assert [event["status"] for event in said] == (["ACTIVE"] if guarded else [])
    await handle(pool, [replace(told(platform.ENROLLMENT_STARTED, 6), taken_over_at=taken_over_at)], NOW + timedelta(hours=3))
    assert len([event for event in await announced(pool) if event.get("version", 0) > version_of_the_lost_one]) <= 2, "once per takeover"
