"""Records that must be refused, each with the one reason it must get."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tests.fault.harness.ledger import Offer, as_json, good_offer, structured
from tests.fault.harness.stories import GHOST_COURSE, Fact

RECORD_BYTES = 1_048_576
"""What the house takes at most, bytes."""

_REGISTERED = "vn.hocvu.platform.enrollment.registered.v1"

_ENROLLMENT: dict[str, object] = {"enrollment": "e"}

_TOO_EARLY, _TOO_LATE = "2025-03-25T23:59:59.999999+07:00", "2099-01-01T00:00:00+07:00"


def _body(change: Callable[[bytes], bytes]) -> Callable[[Offer, Fact], None]:
    def spoil(offer: Offer, _: Fact) -> None:
        offer.body = change(offer.body)

    return spoil


def _data(**changes: object) -> Callable[[Offer, Fact], None]:
    def spoil(offer: Offer, fact: Fact) -> None:
        offer.body = as_json({**fact.data, **changes})

    return spoil


def _header(name: str, value: bytes | None) -> Callable[[Offer, Fact], None]:
    def spoil(offer: Offer, _: Fact) -> None:
        offer.headers = [header for header in offer.headers if header[0] != name] + ([] if value is None else [(name, value)])

    return spoil


_DEEP = b"[" * 10_000 + b"]" * 10_000

ON_KAFKA: Sequence[tuple[str, Callable[[Offer, Fact], None]]] = (
    ("not_utf8", _body(lambda body: body[:-1] + b', "note": "\xff\xfe"}')),
    ("not_json", _body(lambda body: body[:-1])),
    ("not_json", _body(lambda _: b"")),
    ("not_json", _body(lambda body: body[:-1] + b', "note": "\x00"}')),
    ("not_json", _body(lambda body: body[:-1] + b', "note": ' + _DEEP + b"}")),
    ("not_json", _body(lambda body: body[:-1] + b', "account": "\\ud800"}')),
    ("schema_violation", _data(account=17)),
    ("schema_violation", _data(account="nobody\x00")),
    ("schema_violation", _body(lambda body: b"[" + body + b"]")),
    ("time_in_future", _data(occurred_at=_TOO_LATE)),
    ("time_before_movement", _data(occurred_at=_TOO_EARLY)),
    ("too_large", _body(lambda body: body[:-1] + b', "note": "' + b"x" * RECORD_BYTES + b'"}')),
    ("too_large", _body(lambda body: body[:-1] + b', "note": "' + b"x" * 5 * RECORD_BYTES + b'"}')),
    ("header_not_utf8", _header("ce_subject", b"\xff")),
    ("missing_attribute", _header("ce_id", None)),
    ("missing_attribute", _header("ce_id", b"fact\x00")),
    ("unknown_specversion", _header("ce_specversion", b"0.3")),
    ("unknown_type", _header("ce_type", b"vn.hocvu.platform.learner.promoted.v1")),
    ("unknown_content_type", _header("content-type", b"text/csv")),
    ("bad_time", _header("ce_time", b"yesterday")),
)
"""How a good record on Kafka is spoilt, after the reason code it must get."""

OVER_HTTP: Mapping[str, Callable[[dict[str, object], Fact], object]] = {
    "schema_violation": lambda event, fact: {**event, "data": {**fact.data, "account": ""}},
    "time_in_future": lambda event, fact: {**event, "data": {**fact.data, "occurred_at": _TOO_LATE}},
    "time_before_movement": lambda event, fact: {**event, "data": {**fact.data, "occurred_at": _TOO_EARLY}},
    "unknown_type": lambda event, _: {**event, "type": "vn.hocvu.platform.learner.promoted.v1"},
    "invalid_attribute": lambda event, _: {name: value for name, value in event.items() if name != "id"},
    "missing_attribute": lambda event, _: {name: value for name, value in event.items() if name != "data"},
    "unknown_course": lambda event, fact: {**event, "type": _REGISTERED, "data": {**_ENROLLMENT, **fact.data, "course": GHOST_COURSE}},
    "not_an_event": lambda event, _: [event],
}
"""How a good event over HTTP is spoilt, by the reason it must be refused with."""


def bad_offers(source: str, facts: list[Fact], draw: random.Random, many: int) -> list[Offer]:
    """So many offers that must be refused, each made of a fact that is told elsewhere in full."""
    return [_bad_offer(f"bad-{number}", source, draw.choice(facts), draw) for number in range(many)]


def every_bad_record(source: str, facts: Sequence[Fact], draw: random.Random) -> list[Offer]:
    """One record of each kind that must be refused."""
    chosen = draw.sample(facts, len(ON_KAFKA))
    return [_spoilt(source, replace(fact, id=f"spoilt-{number}"), *kind) for number, (fact, kind) in enumerate(zip(chosen, ON_KAFKA, strict=True))]


def _spoilt(source: str, fact: Fact, reason: str, spoil: Callable[[Offer, Fact], None]) -> Offer:
    offer = good_offer(0, source, fact, "kafka")
    offer.refused_as = reason
    spoil(offer, fact)
    return offer


def _bad_offer(event_id: str, source: str, fact: Fact, draw: random.Random) -> Offer:
    named = replace(fact, id=event_id)
    if draw.random() < 0.7:
        return _spoilt(source, named, *draw.choice(ON_KAFKA))
    offer = good_offer(0, source, named, draw.choice(("http", "batch")))
    offer.refused_as = draw.choice(sorted(OVER_HTTP))
    offer.body = json.dumps(OVER_HTTP[offer.refused_as](structured(source, named), named)).encode()
    return offer


def reused(original: Offer, fact: Fact) -> Offer:
    """Another fact under the id of one that came over Kafka before; to be sent when that one has been acknowledged."""
    return Offer(
        0, "kafka", original.source, original.id, original.key, original.headers, as_json({**fact.data, "occurred_at": "2025-04-01T08:00:00+07:00"}),
        refused_as="id_reused", after=original.number,
    )  # fmt: skip
