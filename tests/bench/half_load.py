"""How long a fact takes from accepted by the broker to a committed figure, at half of the rate the system can bear."""

import asyncio
import time

import asyncpg
from aiokafka import AIOKafkaProducer

from deploy.demo.pipeline import System
from deploy.local import postgres
from deploy.local.layout import Layout
from shared.contracts.topics import PLATFORM_EVENTS
from tests.bench.load import communes, life_stories

SECONDS = 20
"""Length of the run."""

# Probes enroll in a course set of their own, so that each can be seen to arrive.
_ARRIVED = """
SELECT coalesce(sum(n_all), 0) FROM figure WHERE indicator = 'I-02' AND node = 'VN' AND course_set = 'PROBE'
"""


async def latencies(system: System, layout: Layout, rate: float) -> tuple[float, float]:
    """Pace the load and ask the reporting database for each probe's figure; median and 99th percentile in seconds."""
    producer = AIOKafkaProducer(bootstrap_servers=system.bootstrap_servers, acks="all", compression_type="lz4", linger_ms=2, max_batch_size=262_144)
    await producer.start()
    connection = await asyncpg.connect(postgres.dsn(layout, "reporting"))
    load = iter(life_stories(int(rate * SECONDS / 4), communes(), prefix="half"))
    started = time.monotonic()
    sent = 0
    found: list[float] = []

    async def probe() -> None:
        """One enrollment after the other: accepted by the broker, then watched until the nation's figure has moved."""
        number = 0
        while time.monotonic() - started < SECONDS:
            before = await connection.fetchval(_ARRIVED)
            data = f'{{"account": "probe-{number}", "enrollment": "probe-{number}", "occurred_at": "2026-06-01T00:00:00Z", "course": "PROBE"}}'
            headers = [
                ("ce_specversion", b"1.0"), ("ce_id", f"probe-{number}".encode()), ("ce_source", b"/platforms/probe"),
                ("ce_type", b"vn.hocvu.platform.enrollment.registered.v1"), ("content-type", b"application/json"),
            ]  # fmt: skip
            await producer.send_and_wait(PLATFORM_EVENTS.name, key=f"probe-{number}".encode(), value=data.encode(), headers=headers)
            accepted = time.monotonic()
            while await connection.fetchval(_ARRIVED) == before:  # noqa: ASYNC110  # the figure is in another process
                await asyncio.sleep(0.002)
            found.append(time.monotonic() - accepted)
            number += 1

    await system.put_course("PROBE", "Đo thời gian", ["PROBE"])
    watching = asyncio.create_task(probe())
    while (elapsed := time.monotonic() - started) < SECONDS:
        while sent < elapsed * rate:
            fact = next(load, None)
            if fact is None:
                break
            await producer.send(PLATFORM_EVENTS.name, key=fact.key, value=fact.data, headers=fact.headers)
            sent += 1
        await asyncio.sleep(0.01)
    await watching
    await producer.stop()
    await connection.close()
    found.sort()
    return found[len(found) // 2], found[min(len(found) - 1, int(len(found) * 0.99))]
