"""CloudEvents 1.0 over HTTP: binary, structured and batched. What is valid goes to `platform-events` and takes the one way.

Source: CloudEvents HTTP protocol binding 1.0.2, sections 3.1 (binary), 3.2 (structured), 3.3 (batched).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

import msgspec
from pydantic import BaseModel, ValidationError

from shared.chassis.clock import Clock
from shared.chassis.decode import explain
from shared.chassis.outbox import Announcement
from shared.contracts import platform
from shared.contracts.envelope import Envelope, by_name
from shared.contracts.platform import EnrollmentFact, LearnerRegistered
from shared.contracts.topics import PLATFORM_EVENTS, RECORD_BYTES

STRUCTURED = "application/cloudevents+json"
"""Media type of one event with its attributes in the body."""

BATCHED = "application/cloudevents-batch+json"
"""Media type of several events in one body."""

MOST_EVENTS = 1000
"""Events in one batch; more travel in several requests."""

_TYPES = by_name(platform.FACTS)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that may be announced, with the data as its contract reads it."""

    envelope: Envelope
    data: LearnerRegistered | EnrollmentFact
    announcement: Announcement


@dataclass(frozen=True, slots=True)
class NotAccepted:
    """An event that was refused.

    Attributes:
        event_id: the event's id where it could be read.
        reason: closed code.
        errors: one entry per attribute or field: {"field": …, "reason": …}; no values.
    """

    event_id: str | None
    reason: str
    errors: tuple[dict[str, str], ...]


def binary(headers: Mapping[str, str], body: bytes, clock: Clock) -> Accepted | NotAccepted:
    """Read one event whose attributes are headers `ce-<name>` and whose body is the data."""
    told = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
    attributes: dict[str, Any] = {name: _unescaped(value) for name, value in told.items()}
    wrong = [name for name, value in attributes.items() if value is None]
    if wrong:
        reason = "write whatever is not printable ASCII as percent-encoded UTF-8"
        return NotAccepted(None, "invalid_attribute", tuple({"field": name, "reason": reason} for name in wrong))
    attributes["datacontenttype"] = headers.get("content-type", "application/json")
    return _read(attributes, body, clock)


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_QUOTED_PAIR = re.compile(r"\\(.)")


def _unescaped(value: str) -> str | None:
    """The attribute that a header value stands for (3.1.3.2): quotes, then percent-encoding; None where it stands for none."""
    if _QUOTED.fullmatch(value):
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict") if value.isascii() else None
    except UnicodeDecodeError:
        return None


def structured(body: bytes, clock: Clock) -> Accepted | NotAccepted:
    """Read one event with attributes and data in one JSON object."""
    found = _json(body)
    return found if isinstance(found, NotAccepted) else _of_object(found, clock)


def batch(body: bytes, clock: Clock) -> list[Accepted | NotAccepted] | NotAccepted:
    """Read several events; each gets a verdict of its own, in order."""
    found = _json(body)
    if isinstance(found, NotAccepted):
        return found
    if not isinstance(found, list):
        return NotAccepted(None, "not_a_batch", ({"field": "body", "reason": "a batch is a JSON array of events"},))
    if len(found) > MOST_EVENTS:
        return NotAccepted(None, "too_many", ({"field": "body", "reason": f"a batch has at most {MOST_EVENTS} events; send several"},))
    return [_of_object(one, clock) for one in found]


def _of_object(found: object, clock: Clock) -> Accepted | NotAccepted:
    if not isinstance(found, dict):
        return NotAccepted(None, "not_an_event", ({"field": "body", "reason": "an event is a JSON object"},))
    attributes = {str(name): value for name, value in found.items() if name != "data"}
    if "data" not in found:
        return NotAccepted(_id(attributes), "missing_attribute", ({"field": "data", "reason": "is missing; data_base64 is not taken"},))
    return _read(attributes, _encode(found["data"]), clock)


def _read(attributes: dict[str, Any], body: bytes, clock: Clock) -> Accepted | NotAccepted:
    event_id = _id(attributes)
    try:
        # JSON mode, so that a timestamp may be text in either form of the event.
        envelope = Envelope.model_validate_json(_encode(attributes))
    except ValidationError as error:
        return NotAccepted(event_id, "invalid_attribute", _fields(error))
    event_type = _TYPES.get(envelope.type)
    if event_type is None:
        return NotAccepted(event_id, "unknown_type", ({"field": "type", "reason": f"no contract of this name; there are {', '.join(_TYPES)}"},))
    if len(body) > RECORD_BYTES:
        return NotAccepted(event_id, "too_large", ({"field": "data", "reason": f"has at most {RECORD_BYTES} bytes"},))
    try:
        data = event_type.decode(body)
    except ValidationError as error:
        reason, detail = explain(error, body)
        return NotAccepted(event_id, reason, _fields(error) if reason == "schema_violation" else ({"field": "data", "reason": detail},))
    fact = cast("LearnerRegistered | EnrollmentFact", data)
    key = f"{envelope.source}|{fact.account}"
    # Written again from what the contract knows: a name that came along goes no further than this line.
    known = fact.model_dump_json().encode() if isinstance(fact, BaseModel) else _encode(fact)
    # The subject stays here as well: no contract says what it holds, and some platforms write a name there.
    announcement = Announcement(PLATFORM_EVENTS, envelope.type, envelope.id, envelope.source, key, None, known, envelope.time or clock())
    return Accepted(envelope, fact, announcement)


def _json(body: bytes) -> Any:  # noqa: ANN401  (whatever a stranger sent)
    try:
        body.decode()
    except UnicodeDecodeError:
        return NotAccepted(None, "not_utf8", ({"field": "body", "reason": "is not UTF-8"},))
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return NotAccepted(None, "not_json", ({"field": "body", "reason": "is not JSON, or nested too deeply"},))


def _id(attributes: Mapping[str, object]) -> str | None:
    found = attributes.get("id")
    return found if isinstance(found, str) and len(found) <= 200 else None


def _fields(error: ValidationError) -> tuple[dict[str, str], ...]:
    mistakes: Sequence[Any] = error.errors(include_url=False, include_input=False, include_context=False)
    return tuple({"field": ".".join(str(part) for part in mistake["loc"]), "reason": str(mistake["msg"])} for mistake in mistakes)
