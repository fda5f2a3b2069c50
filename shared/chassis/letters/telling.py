"""What programs are told of letters, the same on the command line (`--json`) and over HTTP. No value of a field unless data is asked for."""

import base64
from collections.abc import Sequence

from shared.chassis.letters.desk import Desk, Outcome
from shared.chassis.letters.reasons import Reason
from shared.chassis.letters.store import Done, Entry, Letter, Record

_SHOWN = frozenset({"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_datacontenttype", "content-type", "traceparent"})
"""Headers whose values are shown without the data."""


def reason(found: Reason) -> dict[str, object]:
    """A reason code with its explanation and what to do."""
    return {
        "code": found.code,
        "explanation": {"vi": found.vi, "en": found.en},
        "remedy": {"vi": found.remedy_vi, "en": found.remedy_en},
    }


def entry(desk: Desk, found: Entry) -> dict[str, object]:
    """What may be listed."""
    why = desk.reasons.of(found.reason)
    return {
        "service": desk.service,
        "id": found.letter_id,
        "set_aside_at": found.set_aside_at.isoformat(),
        "topic": found.topic,
        "partition": found.partition,
        "offset": found.offset,
        "type": found.event_type,
        "reason": found.reason,
        "explanation": {"vi": why.vi, "en": why.en},
        "state": found.state,
        "edited": found.edited,
        "settled_at": found.settled_at.isoformat() if found.settled_at else None,
        "settled_by": found.settled_by,
    }


def letter(desk: Desk, found: Letter, acts: Sequence[Done], *, with_data: bool) -> dict[str, object]:
    """A letter, what to do about it, and what was done to it."""
    told = entry(desk, found.entry)
    told["remedy"] = reason(desk.reasons.of(found.entry.reason))["remedy"]
    told["detail"] = found.entry.detail
    told["headers"] = _headers(found.record, with_data=with_data)
    told["acts"] = [
        {"act": one.act, "by": one.by, "at": one.at.isoformat(), "why": one.why, "changed": list(one.changed), "outcome": one.outcome} for one in acts
    ]
    if found.entry.edited:
        told["original_headers"] = _headers(found.original, with_data=with_data)
    if with_data:
        told["data"] = _data(found.record)
        if found.entry.edited:
            told["original_data"] = _data(found.original)
    return told


def outcome(found: Outcome, state: str) -> dict[str, object]:
    """What came of many letters; `after` is where to go on."""
    return {state: found.done, "refused": found.refused, "settled_before": found.settled_before, "after": found.last}


def readable(raw: bytes) -> str:
    """Bytes as text that harms no screen: what is not UTF-8 or not printable is written as an escape."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def headers(record: Record, *, with_data: bool) -> list[tuple[str, str]]:
    """Names and values that may be shown; a header of no contract may hold anything, a name too, so it is data."""
    return [
        (readable(name.encode("utf-8", "backslashreplace")), readable(text) if with_data or name.lower() in _SHOWN else f"({len(text)} bytes)")
        for name, text in record.headers
    ]


def _headers(record: Record, *, with_data: bool) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers(record, with_data=with_data)]


def _data(record: Record) -> dict[str, str] | None:
    """Text where it is text, else base64."""
    if record.value is None:
        return None
    try:
        return {"text": record.value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(record.value).decode()}
