"""Ask a broker for the id of a topic (KIP-516): a topic that is deleted and made again under its name has another one.

aiokafka 0.14 asks with the metadata request of 2017, which knows names only. This is version 12 of that request (Kafka
3.1 and newer), written out in aiokafka's own protocol classes and sent over its connections.
"""

import asyncio
import random
from dataclasses import dataclass
from io import BytesIO
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NodeNotReadyError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from shared.chassis.errors import MustNotWork, Transient

ASKED = 3
"""Brokers that are asked at once, at most."""

_UNKNOWN_TOPIC = 3
"""Kafka error code UNKNOWN_TOPIC_OR_PARTITION."""

_TEXT = CompactString("utf-8")
_NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which topic stands under a name at the moment, and how many partitions it has."""

    topic_id: UUID
    partitions: int


async def identify(client: AIOKafkaClient, topic: str) -> Identity | None:
    """The topic that has this name now; None if there is none.

    Raises:
        Transient: no broker answers, or it answers with an error that passes.
        MustNotWork: the broker is too old to tell.
    """
    brokers = list(client.cluster.brokers())
    # Several at once, because one of them may be frozen; the first that answers is believed.
    asked = [asyncio.create_task(_ask(client, broker.nodeId, topic)) for broker in random.sample(brokers, min(ASKED, len(brokers)))]
    failure: KafkaError = NodeNotReadyError("no broker is known")
    try:
        for answer in asyncio.as_completed(asked):
            try:
                return await answer
            except KafkaError as error:
                failure = error
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    raise Transient(f"no broker tells the id of {topic}: {failure!r}")


async def _ask(client: AIOKafkaClient, node: int, topic: str) -> Identity | None:
    try:
        answer = await client.send(node, _MetadataRequest(topic))
    except NotImplementedError:
        raise MustNotWork("the broker cannot tell a topic's id; Kafka 3.1 or newer can") from None
    ((code, _, topic_id, _, partitions, _, _),) = answer.topics
    if code == _UNKNOWN_TOPIC:
        return None
    if code:
        raise for_code(code)()
    return Identity(topic_id, len(partitions))


class _Uuid(AbstractType):
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_BROKER = (("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields))
_PARTITION = (
    ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32), ("replicas", CompactArray(Int32)),
    ("in_sync", CompactArray(Int32)), ("offline", CompactArray(Int32)), ("tags", TaggedFields),
)  # fmt: skip
_TOPIC = (
    ("error_code", Int16), ("name", _TEXT), ("topic_id", _Uuid), ("is_internal", Boolean), ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32), ("tags", TaggedFields),
)  # fmt: skip


class _MetadataResponse12(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("brokers", CompactArray(*_BROKER)), ("cluster_id", _TEXT), ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)), ("tags", TaggedFields),
    )  # fmt: skip


class _MetadataRequest12(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequest12]):
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequest12]) -> _MetadataRequest12:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, {})
