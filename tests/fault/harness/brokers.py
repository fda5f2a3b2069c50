"""What the brokers say of themselves: who leads which partition, who has caught up, who coordinates, how many partitions there are."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from tests.fault.harness.system import System
from tests.support.waiting import eventually

Place = tuple[str, int]
"""Topic and partition."""

ANSWER_MS = 3000
"""Longest wait for one answer, milliseconds."""

IN_SYNC_S = 30.0
"""Longest wait for all replicas to have caught up, seconds."""

GROUP, TRANSACTION = 0, 1
"""What a coordinator coordinates."""

T = TypeVar("T")


async def leaders(system: System) -> dict[Place, int]:
    """The leader of every partition; -1 where there is none."""
    return {place: told["leader"] for place, told in (await _partitions(system.bootstrap_servers)).items()}


async def partitions(bootstrap_servers: Sequence[str]) -> dict[str, int]:
    """How many partitions each topic has."""
    counts: dict[str, int] = {}
    for topic, _ in await _partitions(bootstrap_servers):
        counts[topic] = counts.get(topic, 0) + 1
    return counts


async def add_partitions(system: System, wanted: dict[str, int]) -> None:
    """Let topics have so many partitions; they can only become more."""
    async with _admin(system.bootstrap_servers) as admin:
        await admin.create_partitions({topic: NewPartitions(total_count=count) for topic, count in wanted.items()})


async def coordinator(system: System, name: str, kind: int = GROUP) -> int:
    """The broker that coordinates a consumer group or a transactional id."""
    async with _admin(system.bootstrap_servers) as admin:
        return int(await admin.find_coordinator(name, kind))


async def until_in_sync(system: System, within: float = IN_SYNC_S) -> None:
    """Until every replica of every partition has caught up.

    Raises:
        AssertionError: one has not after `within` seconds.
    """

    async def look() -> bool:
        told = await _partitions(system.bootstrap_servers)
        return all(set(one["isr"]) == set(one["replicas"]) and one["leader"] >= 0 for one in told.values())

    await eventually(patient(look), within)


def patient(ask: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T | None]]:
    """The same question, answered None while a broker that is dead or about to be is asked."""

    async def asked() -> T | None:
        try:
            return await ask()
        except (KafkaError, OSError, TimeoutError):
            return None

    return asked


async def _partitions(bootstrap_servers: Sequence[str]) -> dict[Place, dict[str, Any]]:
    async with _admin(bootstrap_servers) as admin:
        topics = await admin.describe_topics()
    return {(topic["topic"], one["partition"]): one for topic in topics for one in topic["partitions"]}


@asynccontextmanager
async def _admin(bootstrap_servers: Sequence[str]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers), request_timeout_ms=ANSWER_MS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
