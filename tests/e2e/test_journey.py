"""A learner's journey: from the learning platform to a frozen figure and a notice, and what bad input gets on the way."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer

from deploy.demo.pipeline import System
from deploy.local import postgres, processes
from deploy.local import secrets as stack_secrets
from deploy.local.layout import REPOSITORY, SERVICES, Layout
from deploy.local.services import service_env, table
from tests.e2e.conftest import local
from tests.support.waiting import eventually

SOURCE = "/platforms/journey"

# Dead letters hold original bytes on purpose; their listing shows reasons only.
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'dead_letter'"

SINCE = {"valid_from": "2025-07-01"}
CANARY = "Nguyen Thi Canary 079199000001 canary@example"


@pytest.fixture
async def client(whole: Layout) -> AsyncIterator[httpx.AsyncClient]:
    key = stack_secrets.of(whole).api_key
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=30) as found:
        yield found


def _api(layout: Layout, service: str, path: str) -> str:
    return f"http://127.0.0.1:{layout.api_port(service)}{path}"


async def _figure(client: httpx.AsyncClient, layout: Layout, scope: str, indicator: str, period: str = "2026Q2") -> int:
    query = {"period": period, "scope": scope, "indicator": indicator}
    answer = (await client.get(_api(layout, "reporting", "/v1/figures"), params=query)).json()
    return int(answer["figures"][0]["counts"]["all"])


def _event(kind: str, number: int, **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"{kind}-{number}", "source": SOURCE, "type": f"vn.hocvu.platform.{kind}.v1",
        "data": {"account": "lan", "occurred_at": "2026-05-20T08:00:00+07:00", "full_name": CANARY, **data},
    }  # fmt: skip


async def test_one_enrollment_travels_from_the_platform_to_a_frozen_figure_and_a_notice(whole: Layout, client: httpx.AsyncClient) -> None:
    course = {"title": "Kỹ năng số", "launched_by": "BXD", "course_sets": ["KH-440"]}
    await eventually(lambda: _register_has(client, whole, "23377"))
    assert (await client.put(_api(whole, "enrollment", "/v1/registers/courses/BXD1"), json=course)).json()["changed"] is True
    events = [
        _event(
            "learner.registered", 1, residences=[{"code": "23377", "valid_from": "2025-07-01"}], groups=[{"group": "PUB", "valid_from": "2025-07-01"}]
        ),
        _event("enrollment.started", 1, enrollment="e1"),
        _event("enrollment.registered", 1, enrollment="e1", course="BXD1"),
        _event("completion.recorded", 1, enrollment="e1", course="BXD1"),
    ]
    cells_above = [(scope, indicator) for scope in ("VN/51/23377", "VN/51", "VN") for indicator in ("I-01", "I-02", "I-04", "I-05")]
    # Other journeys on this stack count in the nation too.
    before = {cell: await _figure(client, whole, *cell) for cell in cells_above}
    batch = {"content-type": "application/cloudevents-batch+json"}
    for _ in range(2):  # and once more, as a platform that is not sure would
        answer = await client.post(_api(whole, "enrollment", "/v1/events"), content=json.dumps(events), headers=batch)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 4)
    one = await client.post(
        _api(whole, "enrollment", "/v1/events"),
        content=json.dumps({"account": "lan", "enrollment": "e1", "occurred_at": "2026-05-21T00:00:00+07:00"}),
        headers={
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": "s2",
            "ce-source": SOURCE,
            "ce-type": "vn.hocvu.platform.enrollment.started.v1",
        },
    )
    assert one.status_code == 202
    for (scope, indicator), known in before.items():
        await eventually(lambda scope=scope, indicator=indicator, known=known: _is(client, whole, scope, indicator, known + 1))  # type: ignore[misc]
    children = await client.get(
        _api(whole, "reporting", "/v1/figures"), params={"period": "2026Q2", "scope": "VN", "children": "true", "format": "csv"}
    )
    assert children.text.startswith("\ufeffindicator,")
    assert "Tỉnh Quảng Ngãi" in children.text
    assert "Chưa xác định địa bàn" in children.text

    frozen = await client.post(_api(whole, "reporting", "/v1/reports"), json={"period": "2026Q2"})
    assert frozen.status_code == 201
    again = await client.post(_api(whole, "reporting", "/v1/reports"), json={"period": "2026Q2"})
    assert (again.status_code, again.json()["already_frozen"]) == (200, True)
    report = frozen.json()["report"]

    void = _event("enrollment.voided", 1, enrollment="e1", reason="test")
    await client.post(_api(whole, "enrollment", "/v1/events"), content=json.dumps(void), headers={"content-type": "application/cloudevents+json"})
    await eventually(lambda: _is(client, whole, "VN", "I-01", before["VN", "I-01"]))
    kept = (await client.get(_api(whole, "reporting", f"/v1/reports/{report['report_id']}"))).json()
    cells = {(figure["scope"], figure["indicator"], figure["course_set"]): figure for figure in kept["figures"]}
    assert cells["VN/51/23377", "I-01", "KH-440"]["counts"] == {"all": 1, "cit": 0, "stu": 0, "pub": 1, "ent": 0, "ungrouped": 0}
    assert cells["VN", "I-01", "ALL"]["status"] == "not_measurable"
    assert kept["sha256"] == report["sha256"]

    subject = f"{report['report_id']}:1"
    await eventually(lambda: _all_sent(client, whole, subject))
    mails = [path for path in (whole.root / "mails").iterdir() if report["report_id"] in path.read_text("utf-8", "replace").replace("=\n", "")]
    assert len(mails) == 36


async def test_bad_records_over_kafka_are_set_aside_and_good_ones_go_on(whole: Layout, client: httpx.AsyncClient) -> None:
    good = {"account": "minh", "enrollment": "m1", "occurred_at": "2026-05-20T08:00:00+07:00", "course": "NOT-THERE"}
    records = [
        ("enrollment.registered", "k1", json.dumps(good).encode()),
        ("enrollment.registered", "k1", json.dumps({**good, "enrollment": "m2"}).encode()),
        ("enrollment.registered", "k2", b"\xff"),
        ("enrollment.registered", "k3", json.dumps({**good, "occurred_at": "2038-01-01T00:00:00Z"}).encode()),
        ("enrollment.registered", "k4", json.dumps({**good, "occurred_at": "1970-01-01T00:00:00Z"}).encode()),
        ("enrollment.forgotten", "k5", b"{}"),
        ("enrollment.registered", "k6", None),
    ]
    producer = AIOKafkaProducer(bootstrap_servers=whole.bootstrap_servers(1))
    await producer.start()
    for kind, number, value in records:
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", number.encode()),
            ("ce_source", b"/platforms/k"),
            ("ce_type", f"vn.hocvu.platform.{kind}.v1".encode()),
        ]
        await producer.send_and_wait("platform-events", key=b"/platforms/k|minh", value=value, headers=headers)
    await producer.stop()
    wanted = {"id_reused", "not_utf8", "time_in_future", "time_before_movement", "unknown_type"}
    connection = await asyncpg.connect(postgres.dsn(whole, "enrollment"))

    async def reasons() -> set[str]:
        return {row[0] for row in await connection.fetch("SELECT DISTINCT reason FROM dead_letter")}

    async def complete() -> bool:
        return await reasons() >= wanted

    await eventually(complete)
    details = " ".join(row[0] for row in await connection.fetch("SELECT detail FROM dead_letter"))
    await connection.close()
    assert "minh" not in details
    # Known person, unknown course, no residence: kept and counted, unattributed.
    await eventually(lambda: _is(client, whole, "VN/?", "I-02", 1))


async def test_no_name_leaves_the_topic_the_platform_wrote_itself(whole: Layout, client: httpx.AsyncClient) -> None:
    """The canary was sent as an unknown field of every event of the journey."""
    word = "079199000001"
    for service in SERVICES:
        connection = await asyncpg.connect(postgres.dsn(whole, service))
        for (name,) in await connection.fetch(_TABLES):
            # Names of tables come from the catalogue.
            query = f'SELECT EXISTS (SELECT 1 FROM "{name}" AS t WHERE t::text LIKE $1)'  # noqa: S608
            assert not await connection.fetchval(query, f"%{word}%"), name
        await connection.close()
        metrics = (await client.get(f"http://127.0.0.1:{whole.worker_port(service)}/metrics")).text
        assert word not in metrics
    for log in whole.logs.glob("*.log"):
        assert word not in log.read_text("utf-8", "replace"), log.name


async def test_the_audit_agrees_and_the_rebuild_is_equal(whole: Layout) -> None:
    system = System(whole)
    await system.until_through(lambda done, there: None)
    await system.close()
    env = service_env(whole, "reporting", "worker")
    for command in (["audit"], ["rebuild"], ["audit"]):
        words = [sys.executable, "-m", "services.reporting.main", *command]
        done = subprocess.run(words, cwd=REPOSITORY, env={**_path(), **env}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_second_up_changes_nothing_and_one_after_a_kill_repairs(whole: Layout) -> None:
    names = [process.name for process in table(whole)] + ["kafka-1", postgres.NAME]
    before = {name: processes.pid_of(whole, name) for name in names}
    assert local("up").returncode == 0
    assert {name: processes.pid_of(whole, name) for name in names} == before
    for name in ("reporting-worker", "enrollment-api", "kafka-1"):
        pid = before[name]
        assert pid is not None
        processes._signal(pid, signal.SIGKILL)
    told = local("up")
    assert told.returncode == 0, told.stdout + told.stderr
    assert local("status").returncode == 0


def test_every_worker_stops_within_ten_seconds_of_sigterm(whole: Layout) -> None:
    processes.stop(whole, ["watch"])
    for service in SERVICES:
        name = f"{service}-worker"
        pid = processes.pid_of(whole, name)
        assert pid is not None
        processes._signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while processes.pid_of(whole, name) is not None:
            assert time.monotonic() < deadline, f"{name} did not stop"
            time.sleep(0.05)
    assert local("up").returncode == 0


def _path() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(REPOSITORY))}


async def _register_has(client: httpx.AsyncClient, layout: Layout, commune: str) -> bool:
    answer = await client.get(_api(layout, "reporting", "/v1/figures"), params={"period": "2026Q2", "scope": f"VN/51/{commune}"})
    return answer.status_code == 200


async def _is(client: httpx.AsyncClient, layout: Layout, scope: str, indicator: str, value: int) -> bool:
    return await _figure(client, layout, scope, indicator) == value


async def _all_sent(client: httpx.AsyncClient, layout: Layout, subject: str) -> bool:
    answer = await client.get(_api(layout, "notifications", "/v1/messages"), params={"subject": subject, "limit": 500})
    messages = answer.json()["messages"]
    return len(messages) == 36 and all(message["state"] == "sent" for message in messages)
