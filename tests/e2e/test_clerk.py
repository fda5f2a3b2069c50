"""A clerk and the whole system: what was set aside comes into the figures once, and audit and rebuild agree."""

import json
import subprocess
import sys
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer

from deploy.demo.pipeline import System
from deploy.local import secrets as stack_secrets
from deploy.local.layout import REPOSITORY, Layout
from deploy.local.services import service_env
from tests.support.letters import hocvu_async
from tests.support.waiting import eventually

NODE = "VN/01/00004"


def _record(kind: str, number: int, **data: Any) -> tuple[str, list[tuple[str, bytes]], bytes]:
    headers = {"specversion": "1.0", "id": f"clerk-{number}", "source": "/platforms/clerk", "type": f"vn.hocvu.platform.{kind}.v1"}
    value = {"account": "hoa", "occurred_at": "2026-05-20T08:00:00+07:00", **data}
    return "platform-events", [(f"ce_{name}", text.encode()) for name, text in headers.items()], json.dumps(value).encode()


async def test_what_was_set_aside_comes_into_the_figures_once(whole: Layout) -> None:
    # The stack remembers its ports, so its folder is all that must be said.
    env = {"STACK_DIR": str(whole.root)}
    report = [("ce_specversion", b"1.0"), ("ce_id", b"clerk"), ("ce_source", b"/x"), ("ce_type", b"vn.hocvu.reporting.report.frozen.v1")]
    producer = AIOKafkaProducer(bootstrap_servers=whole.bootstrap_servers(1))
    await producer.start()
    for topic, headers, value in (
        _record("learner.registered", 1, residences=[{"code": "00004", "valid_from": "2025-07-01"}]),
        _record("enrollment.registred", 2, enrollment="h1", course="CLERK-1"),
        _record("enrollment.registered", 3, enrollment="h2", course="CLERK-1", occurred_at="2038-01-01T00:00:00Z"),
        ("report-events", report, b"{"),
    ):
        await producer.send_and_wait(topic, key=b"/platforms/clerk|hoa", value=value, headers=headers)
    await producer.stop()

    async def mine() -> list[dict[str, Any]]:
        """The letters of this test, over all services."""
        done = await hocvu_async("dead-letters", "list", "--json", "--limit", "1000", env=env)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["dead_letters"]
        types = ("vn.hocvu.platform.enrollment.registred.v1", "vn.hocvu.reporting.report.frozen.v1")
        return [one for one in found if one["type"] in types or one["reason"] == "time_in_future"]

    async def three() -> bool:
        return len({one["reason"] for one in await mine()}) == 3

    await eventually(three, within=60)
    await eventually(lambda: _gauge_tells(whole))
    letters = {one["reason"]: f"{one['service']}-{one['id']}" for one in await mine()}
    assert letters["not_json"].startswith("notifications-")
    system = System(whole)
    await system.until_through(lambda done, there: None)
    assert await _registered(whole) == 0

    for words in (
        ["edit", letters["unknown_type"], "--header", "ce_type=vn.hocvu.platform.enrollment.registered.v1", "--why", "một chữ thiếu"],
        ["edit", letters["time_in_future"], "--set", "occurred_at=2026-05-21T08:00:00+07:00", "--why", "nguồn xác nhận"],
        ["redrive", letters["unknown_type"], letters["time_in_future"]],
        ["drop", letters["not_json"], "--why", "thử nghiệm"],
    ):
        done = await hocvu_async("dead-letters", *words, "--by", "lan", env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    await eventually(lambda: _is(whole, 2))
    again = await hocvu_async("dead-letters", "redrive", letters["unknown_type"], "--lang", "en", env=env)
    assert (again.returncode, "by lan; nothing was done" in again.stderr) == (1, True)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {stack_secrets.of(whole).api_key}"}, timeout=30) as client:
        number = letters["unknown_type"].rpartition("-")[2]
        url = f"http://127.0.0.1:{whole.api_port('enrollment')}/v1/dead-letters/{number}"
        assert (await client.post(f"{url}/redrive")).status_code == 409
        assert [one["act"] for one in (await client.get(url)).json()["acts"]] == ["edit", "redrive"]
    await system.until_through(lambda done, there: None)
    await system.close()
    assert await _registered(whole) == 2
    for command in ("audit", "rebuild"):
        done = subprocess.run(
            [sys.executable, "-m", "services.reporting.main", command], cwd=REPOSITORY,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), **service_env(whole, "reporting", "worker")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


async def _gauge_tells(layout: Layout) -> bool:
    async with httpx.AsyncClient(timeout=30) as client:
        told = (await client.get(f"http://127.0.0.1:{layout.worker_port('enrollment')}/metrics")).text
    return 'dead_letters_open{group="enrollment",reason="unknown_type"} ' in told


async def _registered(layout: Layout) -> int:
    """The figure of enrollments in the commune of this test's person."""
    query = {"period": "2026Q2", "scope": NODE, "indicator": "I-02"}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {stack_secrets.of(layout).api_key}"}, timeout=30) as client:
        answer = await client.get(f"http://127.0.0.1:{layout.api_port('reporting')}/v1/figures", params=query)
    return int(answer.json()["figures"][0]["counts"]["all"])


async def _is(layout: Layout, value: int) -> bool:
    return await _registered(layout) == value
