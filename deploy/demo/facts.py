"""Real learning records as facts of a learning platform: same records, same facts, same ids, however often it runs.

Places, groups and calendar days are assigned by a fixed rule, because the records have none; the demo says so.
"""

import csv
import gzip
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path

OULAD = Path(__file__).parent / "oulad"

SOURCE = "/platforms/demo-oulad"
"""CloudEvents source of the demo's facts."""

RUN_BEGINS = {"2013J": date(2026, 3, 25), "2014J": date(2026, 7, 4)}
"""Where the two presentations are laid in the movement's calendar."""

DAYS_IN_ONE = 4
"""So many days of a run are laid into one, so that most registrations and completions of a presentation fall into one
quarter: those of 2013J into the second of 2026, those of 2014J into the third (the last run ends on 9 September)."""

COURSES = {
    "AAA": ("Kỹ năng số trong khoa học xã hội", "BKHCN", ("KHXH",)),
    "BBB": ("Giao tiếp và cộng tác trên môi trường số", "BXD", ("KHXH", "KH-440")),
    "DDD": ("Dữ liệu và thông tin số", "BKHCN", ("STEM",)),
    "EEE": ("An toàn trên môi trường số", "BXD", ("STEM", "KH-440")),
    "FFF": ("Trí tuệ nhân tạo trong công việc", "BXD", ("STEM", "KH-440")),
    "GGG": ("Dịch vụ công trực tuyến", "BKHCN", ("KHXH",)),
}
"""The six courses: title, launching unit, course sets. Titles are the demo's own."""

COPIES = 0.03
"""Share of facts that are sent twice."""

HELD_BACK = 0.01
"""Share of facts that arrive only after the quarter was frozen, as class lists of villages do."""

SEED = 757
"""Seed of the order in which facts are sent."""

_VIET_NAM = timezone(timedelta(hours=7))


@dataclass(frozen=True, slots=True)
class Told:
    """A fact as the platform sends it."""

    type: str
    id: str
    account: str
    occurred_at: datetime
    data: bytes

    @property
    def key(self) -> bytes:
        """Record key: source and account."""
        return f"{SOURCE}|{self.account}".encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """CloudEvents attributes in binary mode."""
        return [
            ("ce_specversion", b"1.0"), ("ce_id", self.id.encode()), ("ce_source", SOURCE.encode()), ("ce_type", self.type.encode()),
            ("ce_time", self.occurred_at.isoformat().encode()), ("content-type", b"application/json"),
        ]  # fmt: skip


def facts(communes: Sequence[str]) -> list[Told]:
    """Every fact once, in no particular order.

    Args:
        communes: codes of the communes that persons may be assigned to, sorted.
    """
    ends = {(row["code_module"], row["code_presentation"]): int(row["module_presentation_length"]) for row in _rows("courses")}
    told: list[Told] = []
    first_seen: dict[str, datetime] = {}
    for row in _rows("enrollments"):
        student, run = row["id_student"], (row["code_module"], row["code_presentation"])
        registered = _moment(run, int(row["date_registration"] or 0), f"{student}registered")
        first_seen[student] = min(registered, first_seen.get(student, registered))
        told.append(_fact("enrollment.registered", student, run, registered, course=run[0]))
        if row["date_unregistration"]:
            left = _moment(run, int(row["date_unregistration"]), f"{student}withdrawn")
            told.append(_fact("enrollment.withdrawn", student, run, left))
        if row["final_result"] in ("Pass", "Distinction"):
            done = _moment(run, ends[run], f"{student}completed")
            told.append(_fact("completion.recorded", student, run, done, course=run[0]))
    for row in _rows("submissions"):
        if row["is_banked"] == "1":
            continue  # a result carried over from an earlier run is no activity in this one
        run = (row["code_module"], row["code_presentation"])
        at = _moment(run, int(row["date_submitted"]), f"{row['id_student']}{row['id_assessment']}")
        told.append(_fact("enrollment.started", row["id_student"], run, at, number=row["id_assessment"]))
    told.extend(_learner(student, at, communes) for student, at in first_seen.items())
    return told


@dataclass(frozen=True, slots=True)
class Sending:
    """The order in which facts are sent.

    Attributes:
        before: those sent before the quarter is frozen, shuffled, with copies.
        after: those that arrive only after it.
        late: how many of all come after a later fact of the same account, or after the freeze.
    """

    before: list[Told]
    after: list[Told]
    late: int


def in_sending_order(told: Sequence[Told]) -> Sending:
    """Shuffle, copy some, hold some back; the same every time."""
    order = random.Random(SEED)  # noqa: S311  # reproducible, not secret
    after = order.sample(list(told), round(len(told) * HELD_BACK))
    held = {fact.id for fact in after}
    in_time = [fact for fact in told if fact.id not in held]
    before = [*in_time, *order.sample(in_time, round(len(told) * COPIES))]
    order.shuffle(before)
    latest: dict[str, datetime] = {}
    late = 0
    for fact in before:
        late += fact.occurred_at < latest.get(fact.account, fact.occurred_at)
        latest[fact.account] = max(fact.occurred_at, latest.get(fact.account, fact.occurred_at))
    return Sending(before, after, late + len(after))


def _learner(student: str, first_seen: datetime, communes: Sequence[str]) -> Told:
    """An account with an assigned place: 2 % without, 2 % known to the province only, 3 % move on 1 August 2026."""
    share = _number(f"{student}share") % 100
    home = communes[_number(f"{student}home") % len(communes)]
    residences: list[dict[str, str]] = []
    if share >= 4:  # the first four hundredths have no known commune
        residences.append({"code": home, "valid_from": "2024-01-01"})
    if 4 <= share < 7:  # the next three move
        residences.append({"code": communes[_number(f"{student}next") % len(communes)], "valid_from": "2026-08-01"})
    if 2 <= share < 4:  # of two hundredths the province is known
        residences.append({"code": _PROVINCES[_number(f"{student}province") % len(_PROVINCES)], "valid_from": "2024-01-01"})
    group = ("CIT", "CIT", "STU", "PUB", "ENT")[_number(f"{student}group") % 5]
    groups = [] if share == 99 else [{"group": group, "valid_from": "2024-01-01"}]  # of one hundredth no group is known
    if share == 50:  # one hundredth are teachers: public sector and citizens
        groups = [{"group": "CIT", "valid_from": "2024-01-01"}, {"group": "PUB", "valid_from": "2024-01-01"}]
    at = first_seen - timedelta(minutes=10)
    data = {"account": student, "occurred_at": at.isoformat(), "assurance": 1, "residences": residences, "groups": groups}
    return Told("vn.hocvu.platform.learner.registered.v1", f"learner-{student}", student, at, json.dumps(data).encode())


_PROVINCES = ("01", "04", "22", "31", "38", "46", "48", "51", "66", "75", "79", "92")


def _fact(kind: str, student: str, run: tuple[str, str], at: datetime, *, course: str | None = None, number: str = "0") -> Told:
    enrollment = f"{run[0]}-{run[1]}-{student}"
    data = {"account": student, "enrollment": enrollment, "occurred_at": at.isoformat()}
    if course is not None:
        data["course"] = course
    return Told(f"vn.hocvu.platform.{kind}.v1", f"{kind}-{enrollment}-{number}", student, at, json.dumps(data).encode())


def _moment(run: tuple[str, str], day: int, salt: str) -> datetime:
    """A day of a run, at a time of day that depends on nothing but the record."""
    begins = datetime.combine(RUN_BEGINS[run[1]], time(), _VIET_NAM)
    return (begins + timedelta(days=day, seconds=_number(salt) % 86_400) / DAYS_IN_ONE).astimezone(UTC)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


def _rows(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(OULAD / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
