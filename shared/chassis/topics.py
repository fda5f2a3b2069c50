"""Create the topics of the closed list, exactly as it says, and look whether they still are so."""

from collections.abc import Iterable, Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from shared.chassis.errors import Transient, UnsafeSettings
from shared.contracts.topics import TOPICS, Topic

REPLICAS = 3
"""Least number of replicas of a topic in production."""

IN_SYNC = 2
"""Least number of replicas that must have a record in production before it counts (`min.insync.replicas`)."""

_UNKNOWN_TOPIC = 3
"""Kafka error code UNKNOWN_TOPIC_OR_PARTITION."""

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


def touched(service: str, read: Iterable[Topic]) -> list[Topic]:
    """The topics whose settings a service depends on: what it reads, what it writes, and where it sets aside."""
    reads = list(read)
    found = [*reads, *(topic for topic in TOPICS if topic.owner == service), *(topic.dead_letters(service) for topic in reads)]
    return list({topic.name: topic for topic in found}.values())


async def insist_on_topics(bootstrap_servers: Sequence[str], topics: Sequence[Topic], *, production: bool) -> None:
    """Look whether the topics are as the closed list says, and safe enough to run on.

    Args:
        bootstrap_servers: brokers to ask.
        topics: of the closed list.
        production: insist on replicas too; development has one broker.

    Raises:
        UnsafeSettings: with every topic that is not, and what to mend.
        Transient: the broker does not tell yet.
        KafkaError: it cannot be reached.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers))
    try:
        await admin.start()
        described = {answer["topic"]: answer for answer in await admin.describe_topics([topic.name for topic in topics])}
        missing = [topic.name for topic in topics if described[topic.name]["error_code"] == _UNKNOWN_TOPIC]
        if missing:
            raise UnsafeSettings(f"topics are missing: {', '.join(missing)}; create them with python -m deploy.topics")
        settings = await _settings(admin, topics)
    finally:
        await admin.close()
    wrong = [found for topic in topics for found in _mistakes(topic, described[topic.name], settings[topic.name], production=production)]
    if wrong:
        raise UnsafeSettings(f"topics are not as they must be: {'; '.join(wrong)}")


async def _settings(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> dict[str, dict[str, str]]:
    wanted = dict.fromkeys(("cleanup.policy", "min.insync.replicas", "unclean.leader.election.enable"))
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, wanted) for topic in topics])
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, _, _, name, entries in answer.resources:
            if code:
                raise Transient(f"the broker does not tell the settings of {name}: {for_code(code).__name__}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _mistakes(topic: Topic, described: Mapping[str, object], settings: Mapping[str, str], *, production: bool) -> list[str]:
    """What is wrong with a topic, in words."""
    wrong = []
    if settings["cleanup.policy"] != topic.cleanup:
        wrong.append(
            f"{topic.name} has cleanup.policy={settings['cleanup.policy']}, set it to {topic.cleanup}, or records that must stay are deleted"
        )
    if not production:
        return wrong
    partitions = described["partitions"]
    replicas = min((len(partition["replicas"]) for partition in partitions), default=0) if isinstance(partitions, list) else 0
    if replicas < REPLICAS:
        wrong.append(f"{topic.name} has {replicas} replicas, give it {REPLICAS}")
    if int(settings["min.insync.replicas"]) < IN_SYNC:
        wrong.append(f"{topic.name} has min.insync.replicas={settings['min.insync.replicas']}, set it to {IN_SYNC}")
    if settings["unclean.leader.election.enable"] != "false":
        wrong.append(f"{topic.name} has unclean.leader.election.enable={settings['unclean.leader.election.enable']}, set it to false")
    return wrong
