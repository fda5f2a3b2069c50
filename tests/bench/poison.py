"""What poison costs: one bad record in a thousand, of every kind in turn, against the same traffic without.

A part of `make bench`; alone, and with as many records as are wanted, it is `make bench only=poison events=1000000`.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

from aiokafka import AIOKafkaProducer

from deploy.demo.facts import Told
from deploy.local import kafka
from deploy.local.layout import REPOSITORY, Layout
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import PLATFORM_EVENTS, RECORD_BYTES, Topic
from tests.bench import alone
from tests.bench.consuming import ROUNDS, drive
from tests.bench.load import communes, life_stories

RECORDS = 100_000
"""Records of each of the two topics, unless told otherwise."""

ONE_IN = 1000
"""Every so many records one is bad."""

LIVE_S = 20
"""Length of the run at half load, seconds."""

Bad = tuple[bytes, list[tuple[str, bytes]]]

POISONS: dict[str, Callable[[Told], Bad]] = {
    "not_utf8": lambda told: (b"\xff\xfe" + told.data, told.headers),
    "not_json": lambda told: (told.data[:-1], told.headers),
    "nested too deeply": lambda told: (b"[" * 10_000 + b"]" * 10_000, told.headers),
    "schema_violation": lambda told: (told.data.replace(b'"account": "', b'"account": 7, "was": "', 1), told.headers),
    "unknown_type": lambda told: (told.data, [*(one for one in told.headers if one[0] != "ce_type"), ("ce_type", b"vn.hocvu.nobody.knows.v1")]),
    "missing_attribute": lambda told: (told.data, [one for one in told.headers if one[0] != "ce_id"]),
    "header_not_utf8": lambda told: (told.data, [*told.headers, ("trace", b"\xff")]),
    "time_in_future": lambda told: (told.data.replace(b'"occurred_at": "2026', b'"occurred_at": "2038', 1), told.headers),
    "too_large": lambda told: (told.data[:-1] + b', "more": "' + b"x" * RECORD_BYTES + b'"}', told.headers),
}
"""Ways to be bad: a record as it was meant gives the bad value and headers."""


FILE = REPOSITORY / ".stack" / "poison.json"


async def bench(records: int) -> int:
    """Measure it on a stack of its own; 0."""
    async with alone.servers() as layout:
        told = json.dumps(await cost_of_poison(layout, records), indent=2)
    FILE.write_text(told)
    print(f"{told}\nthe same in {FILE.relative_to(REPOSITORY)}")
    return 0


async def cost_of_poison(layout: Layout, records: int = RECORDS) -> dict[str, Any]:
    """Events per second with and without poison, what that costs in percent, and the dead letters.

    Args:
        layout: a running broker and database; the services may be stopped.
        records: how many, of each of the two kinds of traffic.
    """
    servers = layout.bootstrap_servers(kafka.nodes(layout))
    clean, poisoned = (replace(PLATFORM_EVENTS, name=f"bench-{kind}", readers=()) for kind in ("clean", "poisoned"))
    await ensure_topics(servers, [clean, poisoned], 1)
    stories = life_stories(records // 4, communes(), prefix="poison")[:records]
    await _send(servers, clean, [(told.key, told.data, told.headers) for told in stories])
    await _send(servers, poisoned, with_poison(stories))
    rates: dict[str, list[float]] = {clean.name: [], poisoned.name: []}
    for _ in range(ROUNDS):
        for topic in (clean, poisoned):
            driven = await drive(layout, topic, records)
            rates[topic.name].append(records / driven.seconds)
    dead_letters = driven.dead_letters
    without, rate = statistics.median(rates[clean.name]), statistics.median(rates[poisoned.name])
    live = replace(PLATFORM_EVENTS, name="bench-live", readers=())
    await ensure_topics(servers, [live], 1)
    some = with_poison(stories[: int(rate / 2 * LIVE_S)])
    joined = asyncio.Event()
    driving = asyncio.create_task(drive(layout, live, len(some), joined=joined))
    await joined.wait()
    await _send(servers, live, some, rate / 2)
    driven = await driving
    return {
        "records": records,
        "clean_events_per_second": round(without),
        "poisoned_events_per_second": round(rate),
        "cost_percent": round((1 - rate / without) * 100, 1),
        "dead_letters": dead_letters,
        "oldest_event_at_commit_seconds_at_half_load": round(driven.oldest_s, 2),
    }


def with_poison(stories: Sequence[Told]) -> list[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    """The records (key, value, headers), one in ONE_IN of them bad, all kinds in turn."""
    kinds = cycle(POISONS.values())
    sent = []
    for number, told in enumerate(stories, start=1):
        value, headers = next(kinds)(told) if number % ONE_IN == 0 else (told.data, told.headers)
        sent.append((told.key, value, headers))
    return sent


async def _send(
    servers: Sequence[str], topic: Topic, records: Sequence[tuple[bytes, bytes, list[tuple[str, bytes]]]], rate: float | None = None
) -> None:
    """Send records, as fast as it goes or at a rate (records per second)."""
    producer = AIOKafkaProducer(
        bootstrap_servers=list(servers), acks="all", enable_idempotence=True, compression_type="lz4", max_batch_size=262_144,
        linger_ms=5, max_request_size=topic.max_bytes,
    )  # fmt: skip
    await producer.start()
    started = time.monotonic()
    for number, (key, value, headers) in enumerate(records):
        while rate is not None and number > (time.monotonic() - started) * rate:  # noqa: ASYNC110  (what is waited for is the time)
            await asyncio.sleep(0.01)
        await producer.send(topic.name, key=key, value=value, headers=headers)
    await producer.flush()
    await producer.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(bench(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)))
