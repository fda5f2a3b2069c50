"""Outcome facts over a real Kafka to completions on `assessment-events`, and what HTTP tells of them."""

import dataclasses
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from services.assessment.main import SERVICE
from services.assessment.settings import AssessmentSettings
from shared.chassis import health
from shared.chassis.clock import now
from shared.chassis.consume import Subscription
from shared.chassis.database import Pool, transaction
from shared.chassis.http import create_api
from shared.chassis.service import Runtime
from shared.chassis.settings import ApiKey
from shared.chassis.topics import ensure_topics
from shared.contracts import envelope
from shared.contracts.assessment import Completion
from shared.contracts.topics import ASSESSMENT_EVENTS
from tests.integration.assessment.telling import Told
from tests.support.bakery import read
from tests.support.infrastructure import Infrastructure
from tests.support.running import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("assessment")

BEGIN = datetime(2026, 6, 15, tzinfo=UTC)


def _runtime(infra: Infrastructure, pool: Pool, dsn: str) -> Runtime:
    settings = AssessmentSettings(kafka_bootstrap_servers=tuple(infra.bootstrap_servers), database_url=dsn, http_port=1)
    return Runtime(pool, settings)


async def test_facts_become_completions_and_a_bad_record_a_dead_letter(infra: Infrastructure, pool: Pool, dsn: str) -> None:
    run = secrets.token_hex(4)
    (subscription,) = SERVICE.subscriptions(_runtime(infra, pool, dsn))
    topic = dataclasses.replace(subscription.topic, name=f"outcome-facts-{run}")
    group = f"assessment-{run}"
    await ensure_topics(infra.bootstrap_servers, [topic, topic.dead_letters(group), ASSESSMENT_EVENTS], 1)
    first = secrets.randbits(60)
    story = [Told(first + n, "completed", first + n, BEGIN + timedelta(minutes=n)) for n in range(500)]
    story.append(Told(first + 500, "revoked", first, BEGIN + timedelta(days=1)))

    producer = AIOKafkaProducer(bootstrap_servers=infra.bootstrap_servers)
    await producer.start()
    for copy in range(2):
        for one in story:
            headers = envelope.headers(one.type, event_id=str(one.number), source="/services/enrollment", time=now())
            value = b"{not json" if copy and one is story[7] else one.outcome().model_dump_json().encode()
            await producer.send(topic.name, value=value, headers=[(name, text.encode()) for name, text in headers.items()])
    await producer.stop()

    async with running(infra.bootstrap_servers, pool, Subscription(topic, subscription.handlers), group):

        async def through() -> bool:
            async with pool.acquire() as connection:
                done = await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed_offset") == 2 * len(story)
                return done and not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM outbox)")

        await eventually(through)

    keys = {str(UUID(int=first + n)).encode() for n in range(500)}
    kept = {
        record.key: record
        for record in await read(infra.bootstrap_servers, ASSESSMENT_EVENTS.name, ASSESSMENT_EVENTS.partitions)
        if record.key in keys
    }
    found = {key: Completion.model_validate_json(record.value) for key, record in kept.items()}
    assert len(found) == 500
    assert sum(one.completed_at is None for one in found.values()) == 1
    async with pool.acquire() as connection:
        assert [tuple(row) for row in await connection.fetch("SELECT reason FROM dead_letter")] == [("not_json",)]
        assert await connection.fetchval("SELECT count(*) FROM outcome_fact") == len(story)


@pytest.fixture
def client(infra: Infrastructure, pool: Pool, dsn: str) -> httpx.AsyncClient:
    keys = [
        ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes)
        for name, scopes in (("reader", ("completions:read",)), ("guest", ()))
    ]
    app = create_api("assessment", "", keys=keys, health=health.Health())
    SERVICE.routes(app, _runtime(infra, pool, dsn))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://assessment")


async def test_a_completion_is_told_with_its_facts_in_true_order(client: httpx.AsyncClient, pool: Pool) -> None:
    handler = next(iter(SERVICE.subscriptions(Runtime(pool, None))[0].handlers.values()))
    story = [Told(3, "completed", 1, BEGIN + timedelta(days=2)), Told(1, "completed", 1, BEGIN), Told(2, "revoked", 1, BEGIN + timedelta(days=1))]
    async with transaction(pool) as tx:
        await handler([one.received() for one in story], tx)
    async with client:
        answer = await client.get(f"/v1/completions/{UUID(int=1)}", headers={"x-api-key": "reader"})
    told = answer.json()
    assert answer.status_code == 200
    assert told["completed_at"] == "2026-06-17T00:00:00Z"
    assert [fact["said"] for fact in told["facts"]] == ["COMPLETED", "REVOKED", "COMPLETED"]


@pytest.mark.parametrize(
    ("key", "enrollment", "status"),
    [("", str(UUID(int=5)), 401), ("guest", str(UUID(int=5)), 403), ("reader", str(UUID(int=5)), 404), ("reader", "5", 422)],
)
async def test_http_says_no_as_a_problem_document(client: httpx.AsyncClient, key: str, enrollment: str, status: int) -> None:
    async with client:
        answer = await client.get(f"/v1/completions/{enrollment}", headers={"x-api-key": key})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
