"""Create the topics of the closed list, exactly as it says."""

from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shared.contracts.topics import Topic

_ALREADY_EXISTS = 36
"""Kafka error code TOPIC_ALREADY_EXISTS."""


class TopicRefused(Exception):
    """The broker did not create a topic."""


async def ensure_topics(bootstrap_servers: Sequence[str], topics: Sequence[Topic], replication: int) -> list[str]:
    """Create what is missing. What is there stays as it is.

    With three replicas a write counts once two have it (`min.insync.replicas` of the broker).

    Returns:
        Names of the topics created now.

    Raises:
        TopicRefused: with the broker's words.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers))
    await admin.start()
    try:
        known = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in known]
        if not missing:
            return []
        answer = await admin.create_topics([NewTopic(topic.name, topic.partitions, replication, topic_configs=topic.config()) for topic in missing])
        refused = [f"{error[0]}: {error[2]}" for error in answer.topic_errors if error[1] not in (0, _ALREADY_EXISTS)]
        if refused:
            raise TopicRefused("; ".join(refused))
        return [topic.name for topic in missing]
    finally:
        await admin.close()
