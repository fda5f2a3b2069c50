"""What operators and retention do to topics behind a consumer's back."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.chassis.topics import ensure_topics
from shared.contracts.topics import Topic
from tests.support.waiting import eventually


@asynccontextmanager
async def admin(bootstrap_servers: Sequence[str]) -> AsyncIterator[Any]:
    """An admin client; aiokafka ships no types."""
    client = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers))
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def delete_before(bootstrap_servers: Sequence[str], topic: Topic, offset: int, partition: int = 0) -> None:
    """Delete records as retention does: everything before this offset."""
    async with admin(bootstrap_servers) as client:
        await client.delete_records({TopicPartition(topic.name, partition): RecordsToDelete(before_offset=offset)})


async def delete_topic(bootstrap_servers: Sequence[str], topic: Topic) -> None:
    async with admin(bootstrap_servers) as client:
        await client.delete_topics([topic.name])


async def recreate(bootstrap_servers: Sequence[str], topic: Topic, replication: int = 1) -> None:
    """Delete a topic and make it again under its name."""
    await delete_topic(bootstrap_servers, topic)

    async def made() -> bool:
        # A topic that was just deleted may still be listed.
        await ensure_topics(bootstrap_servers, [topic], replication)
        async with admin(bootstrap_servers) as client:
            (found,) = await client.describe_topics([topic.name])
        return len(found["partitions"]) == topic.partitions

    await eventually(made)


async def add_partitions(bootstrap_servers: Sequence[str], topic: Topic, total: int) -> None:
    async with admin(bootstrap_servers) as client:
        await client.create_partitions({topic.name: NewPartitions(total)})


async def configure(bootstrap_servers: Sequence[str], topic: Topic, settings: Mapping[str, str]) -> None:
    """Replace the topic's own settings by these."""
    async with admin(bootstrap_servers) as client:
        (answer,) = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, dict(settings))])
        assert all(code == 0 for code, *_ in answer.resources), answer


async def bake_in_a_transaction(
    bootstrap_servers: Sequence[str], topic: Topic, records: Sequence[tuple[list[tuple[str, bytes]], bytes]], partition: int = 0
) -> None:
    """As a relay writes: the transaction leaves a marker behind its records."""
    producer = AIOKafkaProducer(bootstrap_servers=list(bootstrap_servers), transactional_id=f"oven of {topic.name}")
    await producer.start()
    try:
        async with producer.transaction():
            await asyncio.gather(*[await producer.send(topic.name, value=value, headers=found, partition=partition) for found, value in records])
    finally:
        await producer.stop()
