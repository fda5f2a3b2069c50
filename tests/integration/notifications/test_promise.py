"""The promise for mail (decision 0007): never lost, repeated only after a lost answer, once at most, then a person decides."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.notifications import store
from services.notifications.channels.mail import Unreachable
from services.notifications.deliver import Deliverer
from services.notifications.main import create_deliverer
from services.notifications.store import Settled
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import REPORT_EVENTS
from tests.integration.notifications.post import Post, open_post
from tests.integration.notifications.reports import OFFICES, become_due, freeze, load, report, settings_for, states
from tests.support.infrastructure import Infrastructure
from tests.support.processes import free_port, service_env, service_process
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("notifications")


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with open_post() as opened:
        yield opened


@pytest.fixture
async def deliverer(pool: Pool, post: Post, dsn: str) -> Deliverer:
    await load(pool)
    return create_deliverer(pool, settings_for(post.port, dsn, 0.5))


async def test_while_the_mail_server_is_away_nothing_is_claimed_and_nothing_is_lost(pool: Pool, dsn: str) -> None:
    port = free_port()
    await load(pool)
    await freeze(pool, report())
    deliverer = create_deliverer(pool, settings_for(port, dsn))
    for _ in range(5):
        with pytest.raises(Unreachable):
            await deliverer.deliver()
    assert set((await states(pool)).values()) == {"pending"}
    async with open_post(port) as post:
        assert await deliverer.deliver() == 3
    assert set(post.repeats.values()) == {1}
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT max(attempts) FROM delivery") == 1


async def test_the_loop_outlives_a_mail_server_that_is_away_and_stops_at_once(pool: Pool, dsn: str) -> None:
    await load(pool)
    await freeze(pool, report())
    before = REGISTRY.get_sample_value("notify_deliveries_total", {"channel": "mail", "result": "unreachable"}) or 0
    stop = asyncio.Event()
    loop = asyncio.create_task(create_deliverer(pool, settings_for(free_port(), dsn)).run(stop))

    async def tried() -> bool:
        return (REGISTRY.get_sample_value("notify_deliveries_total", {"channel": "mail", "result": "unreachable"}) or 0) > before

    await eventually(tried)
    stop.set()
    await asyncio.wait_for(loop, 2)


async def test_an_address_refused_for_good_fails_with_its_reason_and_its_neighbours_are_told(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    post.refusals["so-51@hocvu.example"] = "550 5.1.1 no such mailbox"
    await freeze(pool, report())
    await deliverer.deliver()
    await become_due(pool)
    assert await deliverer.deliver() == 0
    assert await states(pool) == {"ndta": "sent", "so-51": "failed", "so-79": "sent"}
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT reason FROM delivery WHERE state = 'failed'") == "the mail server refuses the address (550)"


async def test_an_address_deferred_is_tried_again_after_a_pause_until_it_is_taken(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    post.refusals["so-51@hocvu.example"] = "451 4.3.0 try later"
    await freeze(pool, report())
    for _ in range(5):
        await deliverer.deliver()
        assert await deliverer.deliver() == 0, "it has to wait first"
        await become_due(pool)
    post.refusals.clear()
    await deliverer.deliver()
    assert set((await states(pool)).values()) == {"sent"}
    assert set(post.repeats.values()) == {1}


async def test_a_refusal_that_is_about_us_loses_nothing(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    post.refuses_sender = True
    await freeze(pool, report())
    await deliverer.deliver()
    assert set((await states(pool)).values()) == {"pending"}
    post.refuses_sender = False
    await become_due(pool)
    await deliverer.deliver()
    assert set((await states(pool)).values()) == {"sent"}


async def test_a_connection_that_breaks_before_the_text_costs_no_repeat(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    post.breaks_before_text = 5
    await freeze(pool, report())
    for _ in range(10):
        await deliverer.deliver()
        await become_due(pool)
    assert set((await states(pool)).values()) == {"sent"}
    assert sorted(post.repeats.values()) == [1, 1, 1]


async def test_after_a_lost_answer_the_mail_comes_once_more_under_the_same_id(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    post.answers_to_lose = 1
    await freeze(pool, report())
    await deliverer.deliver()
    await become_due(pool)
    await deliverer.deliver()
    assert set((await states(pool)).values()) == {"sent"}
    assert sorted(post.repeats.values()) == [1, 1, 2]


async def test_an_answer_that_takes_too_long_is_a_lost_one(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    await load(pool, OFFICES[:1])
    post.silent = True
    await freeze(pool, report())
    await deliverer.deliver()
    async with pool.acquire() as connection:
        assert [tuple(row) for row in await connection.fetch("SELECT state, lost_answers FROM delivery")] == [("pending", 1)]


async def test_after_two_lost_answers_it_is_not_sent_again_until_a_person_decides(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    await load(pool, OFFICES[:1])
    post.answers_to_lose = 2
    await freeze(pool, report())
    for _ in range(5):
        await deliverer.deliver()
        await become_due(pool)
    assert await states(pool) == {"ndta": "unknown"}
    assert len(post.mails) == 2
    assert REGISTRY.get_sample_value("notify_unknown") == 1

    async with pool.acquire() as connection:
        message_id = await connection.fetchval("SELECT message_id FROM message")
    async with transaction(pool) as tx:
        assert await store.decide(tx, message_id, "pending", "a person decided: again")
        assert not await store.decide(tx, message_id, "sent", "too late")
    await deliverer.deliver()
    assert await states(pool) == {"ndta": "sent"}
    assert len(post.mails) == 3
    await deliverer.deliver()
    assert REGISTRY.get_sample_value("notify_unknown") == 0


async def test_died_between_sending_and_noting_it_is_repeated_once_after_the_lease(
    pool: Pool, post: Post, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await freeze(pool, report())
    note = store.settle

    async def die(tx: Tx, settled: Settled) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(store, "settle", die)
    with pytest.raises(asyncio.CancelledError):
        await deliverer.deliver()
    monkeypatch.setattr(store, "settle", note)
    assert sorted((await states(pool)).values()) == ["pending", "pending", "sending"]

    await deliverer.deliver()
    assert sorted(post.repeats.values()) == [1, 1, 1], "nobody else sends it while the lease lasts"
    await become_due(pool)
    await deliverer.deliver()
    assert set((await states(pool)).values()) == {"sent"}
    assert sorted(post.repeats.values()) == [1, 1, 2]


async def test_who_lost_its_lease_cannot_note_anything(pool: Pool, deliverer: Deliverer) -> None:
    """A frozen process wakes up after another has taken its message over."""
    await load(pool, OFFICES[:1])
    await freeze(pool, report())
    async with transaction(pool) as tx:
        old = await store.claim(tx, deliverer._lease)
    await become_due(pool)
    async with transaction(pool) as tx:
        new = await store.claim(tx, deliverer._lease)
    assert old is not None
    assert new is not None
    async with transaction(pool) as tx:
        await store.settle(tx, Settled(old, "failed", "late", deliverer._lease, 0))
    assert await states(pool) == {"ndta": "sending"}
    async with transaction(pool) as tx:
        await store.settle(tx, Settled(new, "sent", "", deliverer._lease, 1))
    assert await states(pool) == {"ndta": "sent"}


async def test_an_office_that_was_removed_is_not_written_to(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    await freeze(pool, report())
    await load(pool, OFFICES[:2])
    await deliverer.deliver()
    assert await states(pool) == {"ndta": "sent", "so-51": "sent", "so-79": "failed"}
    assert len(post.mails) == 2


async def test_killed_while_the_answer_was_on_its_way_one_mail_comes_twice_and_no_other(
    infra: Infrastructure, pool: Pool, post: Post, dsn: str, tmp_path: Path
) -> None:
    """A real worker, SIGKILL between the mail server's taking the mail and the row; then another worker."""
    await ensure_topics(infra.bootstrap_servers, [REPORT_EVENTS, REPORT_EVENTS.dead_letters("notifications")], 1)
    await load(pool)
    await freeze(pool, report(number=4711))
    env = service_env(infra, "notifications", dsn) | {"NOTIFICATIONS_SMTP_PORT": str(post.port)}
    post.silent = True
    async with service_process("notifications", "worker", env, tmp_path, wait=False) as first:
        await asyncio.wait_for(post.has_taken.wait(), 40)
        first.kill()
    assert sorted((await states(pool)).values()) == ["pending", "pending", "sending"]
    in_doubt = str(post.mails[0]["Message-ID"])
    post.silent = False
    await become_due(pool)

    async def all_sent() -> bool:
        return set((await states(pool)).values()) == {"sent"}

    async with service_process("notifications", "worker", env, tmp_path, wait=False):
        await eventually(all_sent, within=40)
    repeats = {name: times for name, times in post.repeats.items() if times > 1}
    assert repeats == {in_doubt: 2}
