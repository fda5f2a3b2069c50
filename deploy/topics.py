"""Create the topics of the closed list, as many replicas as the cluster can hold: `python -m deploy.topics HOST:PORT[,HOST:PORT…]`."""

import asyncio
import sys
import time
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.chassis.topics import TopicRefused, ensure_topics
from shared.contracts.topics import TOPICS

WAIT_S = 60.0
"""Longest wait for the brokers, seconds."""

REPLICATED = 3
"""With so many brokers or more, topics have three replicas; with fewer, one."""


class NoBrokers(Exception):
    """The brokers do not answer, or not all of them."""


async def create(bootstrap_servers: Sequence[str], within: float = WAIT_S) -> list[str]:
    """Create the topics that are missing, waiting for brokers that are on their way; returns the names of the new ones.

    Raises:
        NoBrokers: they are not all there after `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            replication = REPLICATED if await _brokers(bootstrap_servers) >= REPLICATED else 1
            return await ensure_topics(bootstrap_servers, TOPICS, replication)
        except (KafkaError, OSError, NoBrokers, TopicRefused) as error:
            # An open port is not readiness: controllers elect, brokers register.
            if time.monotonic() > deadline:
                raise NoBrokers(f"the brokers {','.join(bootstrap_servers)} do not answer: {error}") from error
            await asyncio.sleep(0.2)


async def _brokers(bootstrap_servers: Sequence[str]) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers))
    try:
        await admin.start()
        found = len((await admin.describe_cluster())["brokers"])
    finally:
        await admin.close()
    if found < len(bootstrap_servers):
        raise NoBrokers(f"{found} of {len(bootstrap_servers)} are there")
    return found


def main() -> int:
    """Say what was created; 1 when the brokers do not answer."""
    try:
        created = asyncio.run(create(sys.argv[1].split(",")))
    except NoBrokers as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(created)} topics are new, {len(TOPICS) - len(created)} were there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
