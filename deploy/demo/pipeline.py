"""What the demo asks of the running system: over HTTP as its users would, over Kafka as a platform would."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.asking import ask
from deploy.demo.facts import COURSES, Told
from deploy.local import kafka
from deploy.local import secrets as stack_secrets
from deploy.local.layout import SERVICES, Layout
from shared.contracts.topics import EVENT_TOPICS, PLATFORM_EVENTS

QUIET_S = 3.0
"""Nothing may be waiting anywhere for this long before the demo believes that everything is through, seconds."""

THROUGH_S = 300.0
"""Longest wait for everything to be through, seconds."""


class NotThrough(Exception):
    """The services did not finish; `make status` and `make logs` show which one stands."""


class System:
    """The stack as its users see it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.bootstrap_servers = layout.bootstrap_servers(kafka.nodes(layout))
        self._http = httpx.AsyncClient(headers={"Authorization": f"Bearer {stack_secrets.of(layout).api_key}"}, timeout=60)

    def url(self, service: str) -> str:
        """Where a service's API answers."""
        return f"http://127.0.0.1:{self.layout.api_port(service)}"

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def get(self, service: str, path: str, **query: object) -> Any:
        """Ask a service; the answer's JSON."""
        return (await self._ask(service, "GET", path, params={name: str(value) for name, value in query.items()})).json()

    async def register_courses(self) -> None:
        """Enter the demo's courses in the register."""
        for code, (title, launched_by, sets) in COURSES.items():
            await self.put_course(code, title, list(sets), launched_by)

    async def put_course(self, code: str, title: str, sets: list[str], launched_by: str = "BKHCN") -> None:
        """Enter one course in the register."""
        entry = {"title": title, "launched_by": launched_by, "course_sets": sets}
        await self._ask("enrollment", "PUT", f"/v1/registers/courses/{code}", json=entry)

    async def freeze(self, period: str) -> Any:
        """Freeze a period for the nation."""
        return (await self._ask("reporting", "POST", "/v1/reports", json={"period": period, "scope": "VN"})).json()

    async def _ask(self, service: str, method: str, path: str, **told: Any) -> httpx.Response:
        return await ask(self._http, service, method, self.url(service) + path, **told)

    async def send(self, sent: Sequence[Told], tell: Callable[[int], None]) -> None:
        """Send facts to `platform-events`, as a platform would."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap_servers, acks="all", enable_idempotence=True, compression_type="lz4", max_batch_size=262_144, linger_ms=5
        )
        await producer.start()
        try:
            for number, fact in enumerate(sent, start=1):
                await producer.send(PLATFORM_EVENTS.name, key=fact.key, value=fact.data, headers=fact.headers)
                if number % 1000 == 0:
                    tell(number)
            await producer.flush()
            tell(len(sent))
        finally:
            await producer.stop()

    async def until_through(self, tell: Callable[[int, int], None]) -> None:
        """Wait until no topic has a reader that is behind and no outbox holds an event.

        Args:
            tell: called with (records applied, records there are) over all topics and readers.

        Raises:
            NotThrough: it takes too long, or a partition stands still.
        """
        pairs = [(topic, group) for topic in EVENT_TOPICS for group in topic.readers]
        consumers = {
            group: AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, group_id=group, enable_auto_commit=False)
            for group in {group for _, group in pairs}
        }
        for consumer in consumers.values():
            await consumer.start()
        deadline, quiet_since, last = time.monotonic() + THROUGH_S, 0.0, (-1, -1)
        try:
            while time.monotonic() < deadline:
                done = there = 0
                for topic, group in pairs:
                    places = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
                    ends = await consumers[group].end_offsets(places)
                    there += sum(ends.values())
                    for place in places:
                        done += min(await consumers[group].committed(place) or 0, ends[place])
                tell(done, there)
                now = time.monotonic()
                # Markers of the relay's transactions stand at the ends of partitions and are never records.
                if (done, there) != last or await self._pending():
                    quiet_since, last = now, (done, there)
                elif now - quiet_since >= QUIET_S:
                    return
                await asyncio.sleep(0.3)
        finally:
            for consumer in consumers.values():
                await consumer.stop()
        raise NotThrough(NotThrough.__doc__)

    async def _pending(self) -> bool:
        """Whether anything waits in an outbox or before a worker.

        Raises:
            NotThrough: a partition stands still.
        """
        waiting = False
        for service in SERVICES:
            text = (await ask(self._http, service, "GET", f"http://127.0.0.1:{self.layout.worker_port(service)}/metrics")).text
            for family in text_string_to_metric_families(text):
                told = [sample for sample in family.samples if sample.value]
                if told and family.name == "consume_halted_partitions":
                    topics = ", ".join(sample.labels["topic"] for sample in told)
                    raise NotThrough(f"partitions of {topics} stand still in {service}; its /readyz and its log say why")
                waiting = waiting or (bool(told) and family.name in ("outbox_pending", "consume_lag_records"))
        return waiting


def as_bytes(value: object) -> bytes:
    """JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True).encode()
