"""Frozen reports over a real Kafka to messages; replays; the ledger over HTTP; the operator's commands."""

import asyncio
import dataclasses
import hashlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from deploy.local.layout import REPOSITORY
from services.notifications.main import SERVICE, create_deliverer
from shared.chassis import health
from shared.chassis.clock import now
from shared.chassis.consume import Subscription
from shared.chassis.database import Pool
from shared.chassis.http import create_api
from shared.chassis.service import Runtime
from shared.chassis.settings import ApiKey
from shared.chassis.topics import ensure_topics
from shared.contracts import envelope
from shared.contracts.reporting import REPORT_FROZEN
from tests.integration.notifications.post import open_post
from tests.integration.notifications.reports import freeze, load, report, settings_for, states
from tests.support.infrastructure import Infrastructure
from tests.support.processes import service_env
from tests.support.running import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("notifications")


async def test_event_ten_times_replay_from_zero_and_two_replicas_send_each_mail_once(infra: Infrastructure, pool: Pool, dsn: str) -> None:
    run = secrets.token_hex(4)
    async with open_post() as post:
        settings = settings_for(post.port, dsn)
        (found,) = SERVICE.subscriptions(Runtime(pool, settings))
        topic = dataclasses.replace(found.topic, name=f"report-events-{run}")
        subscription, group = Subscription(topic, found.handlers), f"notifications-{run}"
        await ensure_topics(infra.bootstrap_servers, [topic, topic.dead_letters(group)], 1)
        await load(pool)

        producer = AIOKafkaProducer(bootstrap_servers=infra.bootstrap_servers)
        await producer.start()
        headers = envelope.headers(REPORT_FROZEN.name, event_id="7:1", source="/services/reporting", time=now())
        for copy in range(10):
            wire = [(name, text.encode()) for name, text in headers.items()]
            await producer.send(topic.name, value=report().model_dump_json().encode(), headers=wire, partition=copy % topic.partitions)
        await producer.stop()

        async def through() -> bool:
            async with pool.acquire() as connection:
                return bool(await connection.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed_offset") == 10)

        stop = asyncio.Event()
        delivering = [asyncio.create_task(create_deliverer(pool, settings).run(stop)) for _ in range(2)]
        for _ in range(2):
            async with running(infra.bootstrap_servers, pool, subscription, group), running(infra.bootstrap_servers, pool, subscription, group):
                await eventually(through)
            async with pool.acquire() as connection:
                await connection.execute("DELETE FROM consumed_offset")

        async def all_sent() -> bool:
            return set((await states(pool)).values()) == {"sent"}

        await eventually(all_sent)
        stop.set()
        await asyncio.gather(*delivering)
    assert sorted(post.repeats.values()) == [1, 1, 1]
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM message") == 3


def _client(pool: Pool, dsn: str) -> httpx.AsyncClient:
    def key(name: str, *scopes: str) -> ApiKey:
        return ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes)

    app = create_api(
        "notifications", "", keys=[key("reader", "messages:read"), key("office", "messages:read", "messages:write")], health=health.Health()
    )
    SERVICE.routes(app, Runtime(pool, settings_for(1, dsn)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://notifications")


async def test_the_ledger_tells_an_office_its_messages_and_what_became_of_them(pool: Pool, dsn: str) -> None:
    await load(pool)
    await freeze(pool, report(), times=10)
    async with _client(pool, dsn) as client:
        told = (await client.get("/v1/messages?recipient=so-51", headers={"x-api-key": "reader"})).json()
        (message,) = told["messages"]
        assert (message["rule"], message["state"], message["read_at"]) == ("report-frozen", "pending", None)
        assert told["deliveries"] == {"pending": 3}
        url = f"/v1/messages/{message['message_id']}/read"
        assert (await client.post(url, headers={"x-api-key": "reader"})).status_code == 403
        first = await client.post(url, headers={"x-api-key": "office"})
        assert first.status_code == 200
        read_at = (await client.get("/v1/messages?recipient=so-51", headers={"x-api-key": "reader"})).json()["messages"][0]["read_at"]
        await client.post(url, headers={"x-api-key": "office"})
        again = (await client.get("/v1/messages?recipient=so-51", headers={"x-api-key": "reader"})).json()["messages"][0]["read_at"]
        assert read_at == again != None  # noqa: E711  # a chain reads better here


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/v1/messages", "", 401),
        ("GET", "/v1/messages?limit=501", "reader", 422),
        ("GET", "/v1/messages?recipient=%00", "reader", 422),
        ("GET", "/v1/messages?subject=%00", "reader", 422),
        ("POST", "/v1/messages/7/read", "office", 422),
        ("POST", "/v1/messages/00000000-0000-0000-0000-000000000007/read", "office", 404),
    ],
)
async def test_http_says_no_as_a_problem_document(pool: Pool, dsn: str, method: str, path: str, key: str, status: int) -> None:
    async with _client(pool, dsn) as client:
        answer = await client.request(method, path, headers={"x-api-key": key})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def _command(infra: Infrastructure, dsn: str, *words: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | service_env(infra, "notifications", dsn) | {"NOTIFICATIONS_HTTP_PORT": "1"}
    command = [sys.executable, "-m", "services.notifications.main", *words]
    return await asyncio.to_thread(subprocess.run, command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)


async def test_loading_recipients_twice_changes_nothing_and_another_file_replaces_them(
    infra: Infrastructure, pool: Pool, dsn: str, tmp_path: Path
) -> None:
    assert "36 of 36 offices were new or different, 0 were removed" in (await _command(infra, dsn, "load-recipients")).stdout
    assert "0 of 36 offices were new or different, 0 were removed" in (await _command(infra, dsn, "load-recipients")).stdout
    file = tmp_path / "ours.csv"
    file.write_text("recipient,name_vi,scope,address\nndta,Cục Chuyển đổi số quốc gia,VN,chung@ndta.example\n", "utf-8-sig")
    assert "1 of 1 offices were new or different, 35 were removed" in (await _command(infra, dsn, "load-recipients", str(file))).stdout
    async with pool.acquire() as connection:
        assert [tuple(row) for row in await connection.fetch("SELECT recipient, address FROM recipient")] == [("ndta", "chung@ndta.example")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("recipient,name_vi,scope\na,Sở,VN\n", "the column address is missing"),
        ("recipient,name_vi,scope,address\n", "the list names no office"),
        ("recipient,name_vi,scope,address\na,Sở,Hà Nội,a@b.example\n", "office 1: scope cannot be used"),
        ('recipient,name_vi,scope,address\na,Sở,VN,"a@b.example\nBcc: x@y.example"\n', "office 1: address is not a mail address"),
        ("recipient,name_vi,scope,address\na,Sở,VN,a@b.example\na,Sở,VN,a@b.example\n", "recipient a stands 2 times"),
    ],
)
async def test_a_list_that_cannot_be_used_changes_nothing(
    infra: Infrastructure, pool: Pool, dsn: str, tmp_path: Path, text: str, reason: str
) -> None:
    await load(pool)
    file = tmp_path / "bad.csv"
    file.write_text(text, "utf-8")
    done = await _command(infra, dsn, "load-recipients", str(file))
    assert done.returncode == 2
    assert reason in done.stderr
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM recipient") == 3
