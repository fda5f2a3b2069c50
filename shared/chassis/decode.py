"""From a raw record to a typed event, or to the reason why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import ValidationError

from shared.chassis.dead_letters import RawRecord
from shared.chassis.errors import Rejected
from shared.chassis.unpacking import UNPACKED_BYTES, Sealed
from shared.contracts.envelope import EventType, is_word
from shared.contracts.topics import RECORD_BYTES

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Received(Generic[T_co]):
    """One decoded event and where it stands.

    Attributes:
        type: CloudEvents `type`.
        id: CloudEvents `id`, unique per source.
        source: CloudEvents `source`.
        data: a value with the attributes of the type's contract.
        topic: Kafka topic.
        partition: Kafka partition.
        offset: Kafka offset.
        taken_over_at: version (decision 0002) of the moment in which this process took the partition over. An entity that
            was announced before that may have been announced otherwise since, by a database that is lost; whoever touches
            it announces it again (decision 0011).
    """

    type: str
    id: str
    source: str
    data: T_co
    topic: str
    partition: int
    offset: int
    taken_over_at: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that its handler will not have; its neighbours do not care. `detail` holds no values of fields."""

    record: Received[object]
    reason: str
    detail: str


def decode(record: RawRecord, types: Mapping[str, EventType[object]], taken_over_at: int = 0) -> Received[object] | None:
    """Read a record in CloudEvents binary mode.

    Args:
        record: as it came from the broker.
        types: the event types of the topic that the reader knows, by name.
        taken_over_at: of the partition, see `Received`.

    Returns:
        The event; None for a tombstone, which says that nothing is known any more and asks for nothing.

    Raises:
        Rejected: with a closed reason: `too_large`, `header_not_utf8`, `missing_attribute`, `unknown_specversion`,
            `unknown_type`, `unknown_content_type`, `bad_time`, `not_utf8`, `not_json`, `schema_violation`.
    """
    value = record.value
    if value is None:
        return None
    if isinstance(value, Sealed):
        raise Rejected("too_large", f"up to this record a batch unpacks to more than {UNPACKED_BYTES} bytes; all of it is kept here, packed")
    if len(value) > RECORD_BYTES:
        raise Rejected("too_large", f"the record has {len(value)} bytes, at most {RECORD_BYTES} are taken")
    headers = _headers(record)
    found = types.get(_attribute(headers, "ce_type"))
    if found is None:
        raise Rejected("unknown_type", "no contract of this name on this topic")
    if _attribute(headers, "ce_specversion") != "1.0":
        raise Rejected("unknown_specversion", "ce_specversion must be 1.0")
    content_type = headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Rejected("unknown_content_type", "content-type must be application/json")
    event_id, source = _attribute(headers, "ce_id"), _attribute(headers, "ce_source")
    _check_time(headers.get("ce_time"))
    data = _data(found, value)
    return Received(found.name, event_id, source, data, record.topic, record.partition, record.offset, taken_over_at)


def _headers(record: RawRecord) -> dict[str, str]:
    if not all(name.isascii() or _is_text(name) for name, _ in record.headers):
        raise Rejected("header_not_utf8", "a header name is not UTF-8")
    try:
        return {name.lower(): (value or b"").decode() for name, value in record.headers}
    except UnicodeDecodeError as error:
        raise Rejected("header_not_utf8", "a header value is not UTF-8") from error


def _is_text(name: str) -> bool:
    """Whether a name was UTF-8; what was not is in it as lone surrogates (header_names.py)."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _attribute(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not is_word(value):
        raise Rejected("missing_attribute", f"{name} is missing or not 1 to 200 characters without control characters")
    return value


def _check_time(text: str | None) -> None:
    """When the event was produced decides nothing here; one that is no time is wrong all the same."""
    try:
        if text is not None:
            datetime.fromisoformat(text)
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
