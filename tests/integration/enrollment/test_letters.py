"""Dead letters of enrollment on the real broker and database: a fact that is redriven is the fact it was, and counts once."""

import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.enrollment.handlers import on_platform_facts
from services.enrollment.persons.domain import Pseudonyms
from services.enrollment.reasons import REASONS
from shared.chassis.consume import Subscription
from shared.chassis.database import Pool
from shared.chassis.letters import store
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.mending import Mending
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.letters.store import Filter
from shared.chassis.topics import ensure_topics
from shared.contracts import platform
from shared.contracts.topics import ENROLLMENT_EVENTS, OUTCOME_FACTS, PLATFORM_EVENTS, Topic
from tests.support.bakery import bake
from tests.support.infrastructure import Infrastructure
from tests.support.letters import acts, clerk, hocvu_async, set_aside, states, with_new_id
from tests.support.processes import PSEUDONYM_KEY, service_env
from tests.support.running import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("enrollment")

GROUP = "enrollment"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass
class Office:
    """Enrollment with a topic of this test alone, and the time it believes it is."""

    infra: Infrastructure
    pool: Pool
    topic: Topic
    now: datetime = NOW

    @property
    def subscription(self) -> Subscription:
        handler = on_platform_facts(Pseudonyms(bytes.fromhex(PSEUDONYM_KEY)), (), lambda: self.now)
        return Subscription(self.topic, dict.fromkeys(platform.FACTS, handler))

    @property
    def desk(self) -> Desk:
        return Desk(self.pool, GROUP, [self.subscription], ReasonBook(REASONS))

    async def offer(self, *records: tuple[list[tuple[str, bytes]], bytes]) -> None:
        """Put records on the topic, behind those that are there, and consume all."""
        await bake(self.infra.bootstrap_servers, self.topic, records, partition=0)
        stands = await self.consumed()
        async with running(self.infra.bootstrap_servers, self.pool, self.subscription, GROUP):
            await eventually(lambda: self._through(stands + len(records)))

    async def consumed(self) -> int:
        return int(await self.pool.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed_offset"))

    async def _through(self, offset: int) -> bool:
        return await self.consumed() >= offset

    async def facts(self) -> list[tuple[Any, ...]]:
        """Every fact: its id and where it stood."""
        return [tuple(row) for row in await self.pool.fetch("SELECT fact_id, record_offset FROM fact ORDER BY record_offset, fact_id")]

    async def figures(self) -> dict[str, int]:
        """What the entities add up to."""
        return {
            "registered": int(await self.pool.fetchval("SELECT count(*) FROM enrollment WHERE registered_at IS NOT NULL")),
            "started": int(await self.pool.fetchval("SELECT count(*) FROM enrollment WHERE started_at IS NOT NULL")),
            "outcomes": int(await self.pool.fetchval("SELECT count(*) FROM fact WHERE kind = 6")),
        }


@pytest.fixture
async def office(infra: Infrastructure, pool: Pool) -> Office:
    topic = replace(PLATFORM_EVENTS, name=f"platform-events-{secrets.token_hex(3)}", partitions=1)
    await ensure_topics(infra.bootstrap_servers, [topic, topic.dead_letters(GROUP), ENROLLMENT_EVENTS, OUTCOME_FACTS], 1)
    return Office(infra, pool, topic)


def told(kind: str, number: int, at: str = "2026-06-01T00:00:00Z", event_id: str | None = None, **data: Any) -> tuple[list[tuple[str, bytes]], bytes]:
    """A platform's fact about the enrollment of one account."""
    headers = {"specversion": "1.0", "id": event_id or f"{kind}-{number}", "source": "/p", "type": f"vn.hocvu.platform.{kind}.v1"}
    value = {"account": f"a-{number}", "enrollment": f"e-{number}", "occurred_at": at, "course": "AAA", **data}
    return [(f"ce_{name}", text.encode()) for name, text in headers.items()], json.dumps(value).encode()


EARLY = "2026-11-25T00:00:00Z"
"""A day after NOW: a source whose clock is wrong, or a clock of ours that is."""


async def test_a_redriven_fact_is_the_fact_it_was_and_twice_changes_nothing(office: Office) -> None:
    await office.offer(told("enrollment.registered", 1), told("enrollment.started", 1, EARLY), told("completion.recorded", 1))
    before = await office.figures()
    assert (before["started"], len(await office.facts())) == (0, 2)
    office.now = NOW + timedelta(days=2)
    done = await office.desk.redrive(Filter(reason="time_in_future"), "lan")
    assert done.done == 1
    once = await office.facts(), await office.figures()
    # The id that the fact would have had, had it never been set aside; and it says where it stood.
    expected = Pseudonyms(bytes.fromhex(PSEUDONYM_KEY)).fact("/p", "enrollment.started-1")
    assert (expected, 1) in once[0]
    assert once[1] == {"registered": 1, "started": 1, "outcomes": 1}
    assert (await office.desk.redrive(Filter(), "minh")).done == 0
    await office.offer(told("enrollment.started", 1, EARLY))  # and the platform sends it once more itself
    assert (await office.facts(), await office.figures()) == once


async def _redrive_what_also_came_by_itself(office: Office) -> int:
    """A fact is set aside, the platform sends it again when it is right, and the clerk redrives what was set aside; facts there are then."""
    await office.offer(told("enrollment.started", 1, EARLY))
    office.now = NOW + timedelta(days=2)
    await office.offer(told("enrollment.started", 1, EARLY))
    assert (await office.desk.redrive(Filter(), "lan")).done == 1
    return len(await office.facts())


async def test_what_came_again_by_itself_is_a_copy_when_it_is_redriven(office: Office) -> None:
    assert await _redrive_what_also_came_by_itself(office) == 1


async def test_control_a_redrive_under_a_new_id_makes_two_facts_of_one(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "lock_open", with_new_id(store.lock_open))
    assert await _redrive_what_also_came_by_itself(office) == 2


async def test_a_mended_fact_keeps_its_identity_and_the_original_is_refused_as_another(office: Office) -> None:
    await office.offer(told("enrollment.registered", 1), told("enrollment.started", 1, "2038-01-01T00:00:00Z"), told("enrollment.registered", 2))
    (letter,) = await office.desk.page(Filter())
    assert await office.desk.edit(letter.letter_id, Mending(fields={"occurred_at": "2026-06-02T00:00:00Z"}), "lan", "the platform confirmed") is None
    assert (await office.desk.redrive(Filter(), "lan")).done == 1
    facts = await office.facts()
    assert (Pseudonyms(bytes.fromhex(PSEUDONYM_KEY)).fact("/p", "enrollment.started-1"), 1) in facts
    assert (await office.figures())["started"] == 1
    await office.offer(told("enrollment.started", 1, "2026-06-03T00:00:00Z"))
    assert [entry.reason for entry in await office.desk.page(Filter())] == ["id_reused"]
    assert await office.facts() == facts


async def test_a_batch_with_bad_letters_among_good_ones_changes_only_what_is_good(office: Office) -> None:
    await office.offer(told("enrollment.registered", 100))
    neighbour = await office.pool.fetchrow("SELECT * FROM enrollment")
    records = [told("enrollment.registered", n, "1970-01-01T00:00:00Z" if n % 10 == 0 else "2026-06-01T00:00:00Z") for n in range(40)]
    await set_aside(office.pool, office.topic, GROUP, records, "unknown_type")
    done = await office.desk.redrive(Filter(), "lan")
    assert (done.done, done.refused) == (36, {"time_before_movement": 4})
    assert (await office.figures())["registered"] == 37
    assert await office.pool.fetchrow("SELECT * FROM enrollment WHERE enrollment_id = $1", neighbour["enrollment_id"]) == neighbour  # type: ignore[index]


async def test_killed_in_the_middle_a_batch_is_there_as_a_whole_or_not_at_all(office: Office, infra: Infrastructure, dsn: str) -> None:
    env = {**service_env(infra, "enrollment", dsn), "ENROLLMENT_HTTP_PORT": "1"}
    records = [told("enrollment.registered", n) for n in range(1100)]
    await set_aside(office.pool, PLATFORM_EVENTS, GROUP, records, "unknown_type")
    # Another worker is at the enrollment of a letter of the second batch: there the clerk must wait.
    held = Pseudonyms(bytes.fromhex(PSEUDONYM_KEY)).enrollment("/p", "a-700", "e-700")
    await office.pool.execute(
        "INSERT INTO enrollment (enrollment_id, person_ref, status, version) VALUES ($1, $2, 'AWAITING', 1)",
        held, Pseudonyms(bytes.fromhex(PSEUDONYM_KEY)).person("/p", "a-700"),
    )  # fmt: skip
    async with office.pool.acquire() as worker, worker.transaction():
        await worker.execute("SELECT 1 FROM enrollment WHERE enrollment_id = $1 FOR UPDATE", held)
        with clerk("enrollment", "redrive", "--all", "--yes", "--by", "lan", env=env) as child:
            await eventually(lambda: _somebody_waits(office.pool), within=60)
            child.kill()
            child.wait(10)
    await eventually(lambda: _nobody_else_is_there(office.pool))
    redriven = [number for number, state, _ in await states(office.pool) if state == "redriven"]
    assert len(redriven) == 500
    assert len(await office.facts()) == len(await acts(office.pool)) == 500
    done = await hocvu_async("dead-letters", "redrive", "--all", "--yes", "--by", "minh", "--lang", "en", env=env)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["600 open letters: unknown_type 600", "600 redriven."]), done.stderr
    assert len(await office.facts()) == len(await acts(office.pool)) == 1100
    assert (await office.figures())["registered"] == 1100


async def _somebody_waits(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))


async def _nobody_else_is_there(pool: Pool) -> bool:
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
    return not await pool.fetchval(others)
