"""Unsafe settings and taken names, on real servers: the process lives, works not, says why, and begins when it is mended."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from shared.chassis import database
from shared.chassis.admission import RUNBOOK, Admission, Look
from shared.chassis.database import Pool, look_at_settings, open_pool
from shared.chassis.errors import UnsafeSettings
from shared.chassis.topics import ensure_topics, insist_on_topics, touched
from shared.contracts.topics import OUTCOME_FACTS
from tests.support.bakery import open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.processes import ServiceProcess, service_env, service_process
from tests.support.tampering import configure
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("assessment")


@pytest.fixture
async def env(infra: Infrastructure, dsn: str, pool: Pool) -> dict[str, str]:
    """What a worker of assessment is told; its schema and topics are there."""
    await ensure_topics(infra.bootstrap_servers, touched("assessment", [OUTCOME_FACTS]), 1)
    return service_env(infra, "assessment", dsn)


@pytest.fixture
async def server(dsn: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def _readiness(process: ServiceProcess) -> tuple[int, dict[str, str]]:
    async with httpx.AsyncClient() as http:
        try:
            answer = await http.get(f"{process.url}/readyz", timeout=10)
        except httpx.HTTPError:
            return 0, {}
    return answer.status_code, answer.json()["checks"]


async def _refuses(process: ServiceProcess, words: str) -> bool:
    status, checks = await _readiness(process)
    return status == 503 and words in (checks["admission"])


async def _metric(process: ServiceProcess, reason: str) -> str:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{process.url}/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith(f'service_refused{{reason="{reason}"}}')]
    return line.rpartition(" ")[2]


def _critical(process: ServiceProcess) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in process.log.read_text("utf-8").splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] == "CRITICAL"]


async def test_a_worker_refuses_a_database_that_may_lose_rows_and_begins_when_it_is_mended(
    env: dict[str, str], server: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    name = await server.fetchval("SELECT current_database()")
    await server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit TO off')
    async with service_process("assessment", "worker", env, tmp_path, wait=False) as process:
        await eventually(lambda: _refuses(process, "the PostgreSQL server runs with synchronous_commit=off"))
        _, checks = await _readiness(process)
        assert RUNBOOK in checks["admission"]
        assert "has not joined" in checks[OUTCOME_FACTS.name]
        assert await _metric(process, "database_settings") == "1.0"
        assert [line["reason"] for line in _critical(process)] == ["database_settings"], "said once"
        assert await server.fetchval("SELECT count(*) FROM consumed_offset") == 0
        await server.execute(f'ALTER DATABASE "{name}" RESET synchronous_commit')
        await process.wait_ready()
        assert await _metric(process, "database_settings") == "0.0"


async def test_an_api_refuses_it_too_and_answers_not_now(env: dict[str, str], server: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path) -> None:
    key = {"ASSESSMENT_API_KEYS": json.dumps([{"name": "t", "sha256": hashlib.sha256(b"bread").hexdigest(), "scopes": ["*"]}])}
    name = await server.fetchval("SELECT current_database()")
    await server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit TO off')
    async with service_process("assessment", "api", env | key, tmp_path, wait=False) as process:
        await eventually(lambda: _refuses(process, "synchronous_commit=off"))
        async with httpx.AsyncClient(headers={"Authorization": "Bearer bread"}) as http:
            answer = await http.get(f"{process.url}/v1/completions/00000000-0000-0000-0000-000000000001")
        assert answer.status_code == 503


async def test_a_pool_gives_up_connections_whose_settings_have_become_unsafe(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = await open_pool(dsn, size=1)
    await look_at_settings(pool)
    before = await pool.fetchval("SELECT pg_backend_pid()")
    assert await pool.fetchval("SELECT pg_backend_pid()") == before
    # As if somebody had changed the server: what a connection began with and what a session sets, RESET ALL takes back.
    with monkeypatch.context() as patched:
        patched.setattr(database, "_SETTINGS", "SELECT 'on' AS fsync, 'on' AS full_page_writes, 'off' AS synchronous_commit")
        with pytest.raises(UnsafeSettings, match="synchronous_commit=off"):
            await look_at_settings(pool)
        with pytest.raises(UnsafeSettings):
            await pool.fetchval("SELECT 1")
    assert await pool.fetchval("SELECT pg_backend_pid()") != before
    pool.terminate()


async def test_topics_that_are_not_as_the_contract_says_are_refused(infra: Infrastructure) -> None:
    bakery = await open_bakery(infra.bootstrap_servers)
    topics = [bakery.loaves, bakery.sales]
    await insist_on_topics(infra.bootstrap_servers, topics, production=False)
    with pytest.raises(UnsafeSettings) as refusal:
        await insist_on_topics(infra.bootstrap_servers, topics, production=True)
    assert f"{bakery.sales.name} has 1 replicas, give it 3; {bakery.sales.name} has min.insync.replicas=1, set it to 2" in str(refusal.value)
    await configure(infra.bootstrap_servers, bakery.sales, {"cleanup.policy": "delete"})
    with pytest.raises(UnsafeSettings, match=f"{bakery.sales.name} has cleanup.policy=delete, set it to compact"):
        await insist_on_topics(infra.bootstrap_servers, topics, production=False)
    await configure(infra.bootstrap_servers, bakery.sales, bakery.sales.config() | {"unclean.leader.election.enable": "true"})
    await insist_on_topics(infra.bootstrap_servers, topics, production=False)
    with pytest.raises(UnsafeSettings, match=r"unclean.leader.election.enable=true, set it to false"):
        await insist_on_topics(infra.bootstrap_servers, topics, production=True)
    with pytest.raises(UnsafeSettings, match="topics are missing"):
        await insist_on_topics(infra.bootstrap_servers, [*topics, bakery.sales.dead_letters("nobody")], production=False)


async def test_a_worker_refuses_topics_of_one_replica_in_production(env: dict[str, str], tmp_path: Path) -> None:
    async with service_process("assessment", "worker", env | {"ASSESSMENT_PROFILE": "production"}, tmp_path, wait=False) as process:
        await eventually(lambda: _refuses(process, "assessment-events has 1 replicas, give it 3"))
        assert await _metric(process, "topic_settings") == "1.0"
        assert process.terminate() == 0


async def test_production_is_the_default(env: dict[str, str], tmp_path: Path) -> None:
    del env["ASSESSMENT_PROFILE"]
    async with service_process("assessment", "worker", env, tmp_path, wait=False) as process:
        await eventually(lambda: _refuses(process, "give it 3"))


async def test_the_second_worker_under_a_name_refuses_until_the_first_is_gone(env: dict[str, str], tmp_path: Path) -> None:
    named = env | {"ASSESSMENT_INSTANCE": "assessment-1"}
    async with (
        service_process("assessment", "worker", named, tmp_path) as first,
        service_process("assessment", "worker", named, tmp_path, wait=False) as second,
    ):
        await eventually(lambda: _refuses(second, "another process works under the name assessment-1"))
        assert await _metric(second, "instance_name") == "1.0"
        assert (await _readiness(first))[0] == 200
        first.kill()
        await second.wait_ready()
        assert await _metric(second, "instance_name") == "0.0"


async def test_work_that_is_at_it_ends_when_it_is_refused_and_begins_again() -> None:
    refusal: list[str] = []
    done: list[str] = []

    async def ask() -> None:
        if refusal:
            raise UnsafeSettings(refusal[0])

    async def begin() -> bool:
        done.append("begun")
        return True

    async def end() -> None:
        done.append("ended")

    async def says(*words: str) -> bool:
        await asyncio.sleep(0)
        return done == list(words)

    stop = asyncio.Event()
    admission = Admission(Look("oven", ask))
    task = asyncio.create_task(admission.guard(stop, begin, end))
    await eventually(lambda: says("begun"))
    refusal.append("the oven is cold")
    await eventually(lambda: says("begun", "ended"))
    assert await admission.check() == f"refuses to work: the oven is cold; see {RUNBOOK}"
    refusal.clear()
    await eventually(lambda: says("begun", "ended", "begun"))
    assert await admission.check() is None
    stop.set()
    await task


async def test_what_cannot_be_known_neither_lets_work_begin_nor_ends_it() -> None:
    answers: list[Exception | None] = [OSError("away"), None, OSError("away")]

    async def ask() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    admission = Admission(Look("oven", ask))
    await admission.look()
    assert not admission.granted
    await admission.look()
    assert admission.granted
    await admission.look()
    assert admission.granted
