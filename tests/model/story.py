"""The facts of the model and what follows from them, by the services' own functions."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

from services.enrollment.enrollments.domain import merge
from services.enrollment.facts.domain import Fact, Kind, judge
from shared.chassis.clock import version_due

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PERSON = UUID(int=7)


def _fact(number: int, kind: Kind, key: int) -> Fact:
    content = json.dumps({"course": "K1"}).encode()
    return Fact(UUID(int=100 + number), kind, UUID(int=key), _PERSON, EPOCH + timedelta(days=number), content)


FACTS = (
    _fact(0, Kind.ENROLLMENT_REGISTERED, 0),
    _fact(1, Kind.ENROLLMENT_WITHDRAWN, 0),
    _fact(2, Kind.ENROLLMENT_REGISTERED, 1),
    _fact(3, Kind.ENROLLMENT_REINSTATED, 0),
)
"""What is told, by number: registered, withdrawn; somebody else registered; the withdrawal taken back."""

KEYS = 2

TICK = 1_000_000
"""A second of the model's clock, in versions."""

_states: dict[object, int] = {}


@cache
def fresh(batch: tuple[int, ...], stored: frozenset[int]) -> tuple[int, ...]:
    """Those facts of a batch that are not known yet."""
    verdicts = judge([FACTS[number] for number in batch], {FACTS[number].fact_id: FACTS[number].digest for number in stored})
    return tuple(batch[index] for index in verdicts.new)


@cache
def folded(facts: frozenset[int], key: int) -> int | None:
    """The state of an entity that these facts make, as a number; None while nothing is told of it."""
    about = [FACTS[number] for number in facts if key_of(number) == key]
    return _states.setdefault(merge(about), len(_states)) if about else None


def key_of(number: int) -> int:
    """Whose fact it is."""
    return FACTS[number].entity_id.int


@cache
def due(previous: int | None, changed: bool, since: int, at: int) -> int | None:
    """The version that is announced now; `at` is a version as well, the clock's."""
    return version_due(previous, changed=changed, since=since, at=EPOCH + timedelta(microseconds=at))


def facts_of(log: Sequence[int], until: int) -> frozenset[int]:
    """What is told before an offset."""
    return frozenset(log[:until])


def touched(numbers: Iterable[int]) -> list[int]:
    """The keys that these facts are about."""
    return sorted({key_of(number) for number in numbers})
