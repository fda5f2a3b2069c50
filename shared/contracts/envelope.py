"""CloudEvents 1.0 as this house uses it: the attributes, the contract base class, the catalogue entry of one event type.

Binary mode on Kafka: attributes travel as headers `ce_<name>`, `datacontenttype` as `content-type`, the record value is `data`.
Source: CloudEvents 1.0.2, Kafka protocol binding 3.2; W3C Trace Context for `traceparent`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

SPECVERSION = "1.0"
"""The only CloudEvents version spoken here."""

JSON = "application/json"
"""`datacontenttype` of every event of ours."""

VIET_NAM = timezone(timedelta(hours=7), "+07")
"""Viet Nam time has had no daylight saving since 1975; a source clock without offset is read in it."""


def _with_offset(value: datetime) -> datetime:
    """Read a timestamp without offset as Viet Nam time."""
    return value if value.tzinfo is not None else value.replace(tzinfo=VIET_NAM)


_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def _no_number(value: object) -> object:
    """Refuse seconds since 1970, also as text: some sources count milliseconds, and nobody could tell."""
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        raise ValueError("a number is neither an instant nor a day; write it as ISO 8601 does, for example 2026-06-01T08:00:00+07:00")
    return value


# Not strict: what a validator before has looked at is no longer JSON, of which the strict mode takes text.
Instant = Annotated[datetime, Field(strict=False), BeforeValidator(_no_number), AfterValidator(_with_offset)]
"""An instant, ISO 8601. Without offset it is read as Viet Nam time (UTC+7)."""

Day = Annotated[date, Field(strict=False), BeforeValidator(_no_number)]
"""A calendar day, ISO 8601."""


_WORD_LENGTH = 200
_WORD_PATTERN = r"^[^\x00-\x1f\x7f]*$"

Word = Annotated[str, StringConstraints(min_length=1, max_length=_WORD_LENGTH, pattern=_WORD_PATTERN)]
"""An identifier as its source writes it: 1 to 200 characters, no control characters."""

_word = re.compile(_WORD_PATTERN)


def is_word(text: str) -> bool:
    """Whether `Word` takes a text; what one way in accepts as an attribute, every later reader must accept too."""
    return 0 < len(text) <= _WORD_LENGTH and _word.fullmatch(text) is not None


class Contract(BaseModel):
    """Base of everything that travels as `data`.

    Unknown fields are ignored (a newer writer must not break an older reader, and what nobody asked for is not kept);
    known fields are judged strictly, so `"3"` is not 3.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


def _lower(value: object) -> object:
    """Names of media types mean the same in any case (RFC 9110, 8.3.1)."""
    return value.lower() if isinstance(value, str) else value


class Envelope(BaseModel):
    """The CloudEvents attributes of one event.

    `id` is unique per `source`. `time` is when the fact was produced; when it was true in the world stands in the data
    as `occurred_at`. Attributes not named here are extensions: they are allowed, not judged, and go no further. `traceparent`
    is one of them; a trace that cannot be followed is no reason to refuse a fact.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    specversion: str = Field(pattern=r"^1\.0$", description="CloudEvents version, always 1.0")
    id: Word = Field(description="Unique per source; the same id with the same content is a copy")
    source: Word = Field(description="URI reference of who says it, for example /platforms/bdhvs")
    type: Word = Field(description="vn.hocvu.<owner>.<subject>.<past participle>.v<N>")
    time: Instant | None = Field(default=None, description="When the fact was produced")
    subject: Word | None = Field(default=None, description="What it is about, in the source's words")
    datacontenttype: Annotated[str | None, BeforeValidator(_lower)] = Field(
        default=None, pattern=r"^application/json(;.*)?$", description="application/json, in any case"
    )
    dataschema: Word | None = Field(default=None, description="URI of the schema of data")
    partitionkey: Word | None = Field(default=None, description="Extension: becomes the Kafka key")


T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class EventType(Generic[T_co]):
    """One entry of the catalogue: a type, what it means, who writes it where, and how its data is read.

    Attributes:
        name: the CloudEvents `type`.
        model: the pydantic contract of the data; the judge.
        topic: name of the topic it travels on.
        meaning: one sentence, for documents and people.
        decode: bytes of data to a value with the attributes of `model`; fast path first, then the judge.
            Raises `pydantic.ValidationError` with every reason when the data breaks the contract.
    """

    name: str
    model: type[Contract]
    topic: str
    meaning: str
    decode: Callable[[bytes], T_co]


def by_name(*catalogues: "tuple[EventType[object], ...]") -> "dict[str, EventType[object]]":
    """Index event types by their `type`.

    Raises:
        ValueError: a type stands twice.
    """
    found: dict[str, EventType[object]] = {}
    for event_type in (entry for catalogue in catalogues for entry in catalogue):
        if event_type.name in found:
            raise ValueError(f"event type {event_type.name} stands twice in the catalogue")
        found[event_type.name] = event_type
    return found


def headers(name: str, *, event_id: str, source: str, time: datetime, subject: str | None = None) -> dict[str, str]:
    """Kafka headers of an event in binary mode (CloudEvents Kafka binding 3.2.3)."""
    found = {
        "ce_specversion": SPECVERSION,
        "ce_id": event_id,
        "ce_source": source,
        "ce_type": name,
        "ce_time": time.isoformat(),
        "content-type": JSON,
    }
    if subject is not None:
        found["ce_subject"] = subject
    return found
