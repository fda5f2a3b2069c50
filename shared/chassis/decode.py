"""From a raw record to a typed event, or to the reason why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import ValidationError

from shared.chassis.dead_letters import RawRecord
from shared.chassis.errors import Rejected
from shared.contracts.envelope import EventType
from shared.contracts.topics import RECORD_BYTES

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Received(Generic[T_co]):
    """One decoded event and where it stands.

    Attributes:
        type: CloudEvents `type`.
        id: CloudEvents `id`, unique per source.
        source: CloudEvents `source`.
        time: CloudEvents `time`, when the event was produced; None if absent.
        data: a value with the attributes of the type's contract.
        topic: Kafka topic.
        partition: Kafka partition.
        offset: Kafka offset.
        traceparent: W3C trace context; None if absent.
    """

    type: str
    id: str
    source: str
    time: datetime | None
    data: T_co
    topic: str
    partition: int
    offset: int
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that its handler will not have; its neighbours do not care. `detail` holds no values of fields."""

    record: Received[object]
    reason: str
    detail: str


def decode(record: RawRecord, types: Mapping[str, EventType[object]]) -> Received[object] | None:
    """Read a record in CloudEvents binary mode.

    Args:
        record: as it came from the broker.
        types: the event types of the topic that the reader knows, by name.

    Returns:
        The event; None for a tombstone, which says that nothing is known any more and asks for nothing.

    Raises:
        Rejected: with a closed reason: `too_large`, `header_not_utf8`, `missing_attribute`, `unknown_specversion`,
            `unknown_type`, `unknown_content_type`, `bad_time`, `not_utf8`, `not_json`, `schema_violation`.
    """
    value = record.value
    if value is None:
        return None
    if len(value) > RECORD_BYTES:
        raise Rejected("too_large", f"the record has {len(value)} bytes, at most {RECORD_BYTES} are taken")
    headers = _headers(record)
    found = types.get(_attribute(headers, "ce_type"))
    if found is None:
        raise Rejected("unknown_type", "no contract of this name on this topic")
    if _attribute(headers, "ce_specversion") != "1.0":
        raise Rejected("unknown_specversion", "ce_specversion must be 1.0")
    content_type = headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip() != "application/json":
        raise Rejected("unknown_content_type", "content-type must be application/json")
    event_id, source = _attribute(headers, "ce_id"), _attribute(headers, "ce_source")
    time = _time(headers.get("ce_time"))
    return Received(
        found.name, event_id, source, time, _data(found, value), record.topic, record.partition, record.offset, headers.get("traceparent")
    )


_LONGEST_ATTRIBUTE = 200


def _headers(record: RawRecord) -> dict[str, str]:
    try:
        return {name.lower(): value.decode() for name, value in record.headers}
    except UnicodeDecodeError as error:
        raise Rejected("header_not_utf8", "a header value is not UTF-8") from error


def _attribute(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value or len(value) > _LONGEST_ATTRIBUTE or not value.isprintable():
        raise Rejected("missing_attribute", f"{name} is missing or not 1 to {_LONGEST_ATTRIBUTE} printable characters")
    return value


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Rejected("bad_time", "ce_time is not an ISO 8601 timestamp") from error


def _data(event_type: EventType[object], value: bytes) -> object:
    try:
        return event_type.decode(value)
    except ValidationError as error:
        raise Rejected(*explain(error, value)) from error


def explain(error: ValidationError, value: bytes) -> tuple[str, str]:
    """The reason code and a detail that names fields and rules but never the values."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    if any(mistake["type"] == "json_invalid" for mistake in mistakes):
        try:
            value.decode()
        except UnicodeDecodeError:
            return "not_utf8", "the data is not UTF-8"
        return "not_json", "the data is not JSON, or nested too deeply"
    told = [f"{'.'.join(str(part) for part in mistake['loc']) or 'data'}: {mistake['msg']}" for mistake in mistakes]
    return "schema_violation", "; ".join(told[:20])
