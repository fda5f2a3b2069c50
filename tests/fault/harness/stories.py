"""Life stories of persons as platforms would tell them: pure, and the same for the same seed.

The stories look for trouble where the definitions have edges: facts at the last microsecond of a quarter, moves on the day
a property begins, withdrawals before and after everything, corrections of corrections, restatements of the same day.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone

VIET_NAM = timezone(timedelta(hours=7))

FIRST_DAY, LAST_DAY = date(2025, 3, 26), date(2026, 9, 20)
"""Facts lie between these days, so that none is in the future and none before the movement began."""

COURSES: dict[str, tuple[str, ...]] = {
    "AN-TOAN": (),
    "DICH-VU-CONG": ("KH-440",),
    "DU-LIEU": ("STEM",),
    "GIAO-TIEP": ("KH-440", "STEM"),
    "TRI-TUE-NHAN-TAO": ("KH-440", "STEM", "NANG-CAO"),
}
"""Courses that the system's register holds, with their course sets besides ALL."""

GHOST_COURSE = "CHUA-CO"
"""A course that stands in no register; platforms send it over Kafka only, because HTTP refuses it."""

PLACES = ("51", "79", "00004", "00008", "23377", "23383", "20194", "20197", "26737", "25747")
"""Provinces and communes persons live in. Few, so that many persons meet on the same rows."""

UNKNOWN_PLACES = ("99999", "97")
"""A commune and a province that no register knows."""

GROUPS = ("CIT", "STU", "PUB", "ENT")

SCRIPTS: tuple[tuple[str, ...], ...] = (
    ("registered",),
    ("registered", "started"),
    ("registered", "started", "started", "started"),
    ("registered", "started", "completed"),
    ("registered", "started", "completed", "completed"),
    ("registered", "withdrawn"),
    ("registered", "started", "withdrawn"),
    ("registered", "withdrawn", "started"),
    ("registered", "started", "withdrawn", "completed"),
    ("registered", "started", "completed", "withdrawn"),
    ("registered", "started", "withdrawn", "reinstated", "completed"),
    ("registered", "withdrawn", "started", "reinstated", "started"),
    ("registered", "withdrawn", "reinstated", "withdrawn"),
    ("registered", "started", "completed", "revoked"),
    ("registered", "started", "completed", "revoked", "completed"),
    ("registered", "started", "completed", "revoked", "completed", "revoked", "completed"),
    ("registered", "voided"),
    ("registered", "started", "completed", "voided"),
    ("registered", "started", "voided", "reinstated", "completed"),
    ("registered", "registered", "started"),
    ("started", "completed"),
    ("completed",),
    ("withdrawn", "voided"),
)
"""What may happen to one enrollment, roughly in the order in which it happens; some lack the registration."""

CORRECTING = ("enrollment.withdrawn", "enrollment.voided", "enrollment.reinstated", "completion.revoked")
"""Kinds of facts that take back, or give back, what others said."""

CORRECTED = tuple(script for script in SCRIPTS if {"withdrawn", "voided", "reinstated", "revoked"} & {*script})
"""Those in which something is taken back."""

_NAMES = {"completed": "completion.recorded", "revoked": "completion.revoked"}

_WITH_COURSE = ("enrollment.registered", "completion.recorded", "completion.revoked")

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact in a platform's words.

    Attributes:
        kind: `learner.registered` and so on, the middle of the CloudEvents type.
        id: CloudEvents id, unique in the story.
        account: the platform's account.
        enrollment: the platform's enrollment; empty for facts about the person.
        occurred_at: when it was true in the world, aware.
        data: the CloudEvents data as the platform writes it.
    """

    kind: str
    id: str
    account: str
    enrollment: str
    occurred_at: datetime
    data: dict[str, object]

    @property
    def type(self) -> str:
        """CloudEvents type."""
        return f"vn.hocvu.platform.{self.kind}.v1"

    @property
    def course(self) -> str | None:
        """The course it names, if its kind names one."""
        found = self.data.get("course")
        return None if found is None else str(found)


def stories(seed: int, persons: int, scripts: Sequence[Sequence[str]] = SCRIPTS) -> list[Fact]:
    """Everything that happens to so many persons, about nine facts each, in no particular order; `scripts` are what may happen to an enrollment."""
    return [fact for number in range(persons) for fact in _story(f"p{number:05d}", random.Random(f"story {seed} {number}"), scripts)]  # noqa: S311


def _story(account: str, draw: random.Random, scripts: Sequence[Sequence[str]]) -> list[Fact]:
    told = _learner(account, draw)
    for number in range(draw.choices((0, 1, 2, 3, 5), (5, 35, 30, 20, 10))[0]):
        told.extend(_enrollment(account, f"{account}-e{number}", draw, scripts))
    return told


def _learner(account: str, draw: random.Random) -> list[Fact]:
    """None to three tellings of who the person is: what a later one says of a day replaces what an earlier one said of it."""
    told: list[Fact] = []
    days: list[date] = [_day(draw) for _ in range(3)]
    for number in range(draw.choices((0, 1, 2, 3), (6, 54, 28, 12))[0]):
        # Several tellings at one instant, and of one day, are the hard case; a shared pool of days makes them common.
        at = told[-1].occurred_at if told and draw.random() < 0.15 else _moment(draw)
        data: dict[str, object] = {
            "account": account,
            "occurred_at": _spelled(at, draw),
            "assurance": draw.randrange(4),
            "residences": [_dated("code", _place(draw), days, draw) for _ in range(draw.choices((0, 1, 2, 3), (15, 45, 30, 10))[0])],
            "groups": [_dated("group", draw.choice(GROUPS), days, draw) for _ in range(draw.choices((0, 1, 2, 4), (15, 45, 30, 10))[0])],
            "full_name": "Nguyễn Văn Thử",  # what nobody asked for must go no further
        }
        told.append(Fact("learner.registered", f"{account}-l{number}", account, "", at, data))
    return told


def _dated(name: str, value: str, days: Sequence[date], draw: random.Random) -> dict[str, object]:
    begins = draw.choice(days) if draw.random() < 0.6 else date(2024, 1, 1)
    found: dict[str, object] = {name: value, "valid_from": begins.isoformat()}
    if draw.random() < 0.25:
        found["valid_to"] = (begins + timedelta(days=draw.choice((0, 1, 30, 200)))).isoformat()
    return found


def _place(draw: random.Random) -> str:
    return draw.choice(UNKNOWN_PLACES) if draw.random() < 0.05 else draw.choice(PLACES)


def _enrollment(account: str, enrollment: str, draw: random.Random, scripts: Sequence[Sequence[str]]) -> list[Fact]:
    script = draw.choice(scripts)
    times = [_moment(draw) for _ in script]
    if draw.random() < 0.75:
        times.sort()  # else things are true in an order nobody would expect, and the definitions must hold all the same
    if len(times) > 1 and draw.random() < 0.1:
        times[-1] = times[-2]
    course = GHOST_COURSE if draw.random() < 0.04 else draw.choice(tuple(COURSES))
    told: list[Fact] = []
    for number, (step, at) in enumerate(zip(script, times, strict=True)):
        kind = _NAMES.get(step, f"enrollment.{step}")
        data: dict[str, object] = {"account": account, "enrollment": enrollment, "occurred_at": _spelled(at, draw)}
        if kind in _WITH_COURSE:
            # A second registration may name another course: the earlier one counts.
            data["course"] = draw.choice(tuple(COURSES)) if step == "registered" and number else course
        if step == "voided":
            data["reason"] = draw.choice(("error", "test", "duplicate"))
        told.append(Fact(kind, f"{enrollment}-{number}", account, enrollment, at, data))
    return told


def _day(draw: random.Random) -> date:
    if draw.random() < 0.4:
        return draw.choice(_QUARTERS) + timedelta(days=draw.choice((-1, 0, 1)))
    return FIRST_DAY + timedelta(days=draw.randrange((LAST_DAY - FIRST_DAY).days))


_QUARTERS = [date(2025, 6, 15), date(2025, 9, 15), date(2025, 12, 15), date(2026, 3, 15), date(2026, 6, 15), date(2026, 9, 15)]
"""First days of quarters of the calendar of Decree 09."""


def _moment(draw: random.Random) -> datetime:
    """An instant; every third at an edge: the end of a quarter, of a day in Viet Nam, of a day in UTC."""
    midnight = datetime.combine(_day(draw), time(), VIET_NAM)
    if draw.random() < 0.35:
        at = midnight + draw.choice((-_MICROSECOND, timedelta(), _MICROSECOND, timedelta(hours=7) - _MICROSECOND, timedelta(hours=7)))
    else:
        at = midnight + timedelta(microseconds=draw.randrange(86_400_000_000))
    return max(at, datetime.combine(FIRST_DAY, time(), VIET_NAM)).astimezone(UTC)


def _spelled(at: datetime, draw: random.Random) -> str:
    """One instant in the ways sources write it; without offset Viet Nam time is meant."""
    match draw.randrange(4):
        case 0:
            return at.isoformat().replace("+00:00", "Z")
        case 1:
            return at.astimezone(timezone(timedelta(hours=-5))).isoformat()
        case 2:
            return at.astimezone(VIET_NAM).replace(tzinfo=None).isoformat()
        case _:
            return at.astimezone(VIET_NAM).isoformat()
