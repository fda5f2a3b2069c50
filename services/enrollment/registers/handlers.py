"""Change the registers and announce what is different now."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import cast

import msgspec
from pydantic import ValidationError

from services.enrollment.registers import store
from services.enrollment.registers.domain import Course, Level, TerritoryUnit
from shared.chassis.clock import next_version
from shared.chassis.database import Tx
from shared.chassis.outbox import Announcement, announce
from shared.contracts import enrollment as contracts
from shared.contracts.enrollment import COURSE_PUBLISHED, TERRITORY_REGISTERED
from shared.contracts.topics import REGISTRY_EVENTS

TERRITORY_CSV = Path(__file__).parent / "territory.csv"
"""The units in force, shipped with the service."""

_encode = msgspec.json.Encoder().encode


async def put_territory(tx: Tx, units: Iterable[TerritoryUnit], at: datetime) -> int:
    """Bring the register of territory to these units; returns how many were new or different."""
    await store.lock(tx)
    known = await store.territory(tx)
    changed = [
        (unit, next_version(known[unit.code][1] if unit.code in known else None, at))
        for unit in units
        if unit.code not in known or known[unit.code][0] != unit
    ]
    await store.put_territory(tx, changed)
    await announce(tx, [_event("territory", TERRITORY_REGISTERED.name, asdict(unit), version, at) for unit, version in changed])
    return len(changed)


async def put_courses(tx: Tx, courses: Iterable[Course], at: datetime) -> int:
    """Bring these courses of the register up to date; returns how many were new or different."""
    await store.lock(tx)
    known = await store.courses(tx)
    changed = [
        (course, next_version(known[course.code][1] if course.code in known else None, at))
        for course in courses
        if course.code not in known or known[course.code][0] != course
    ]
    await _enter(tx, changed, at)
    return len(changed)


@dataclass(frozen=True, slots=True)
class Entered:
    """A course stands as the caller wants it, in this version; `changed` when it did not before."""

    version: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Superseded:
    """Something else stands in the register than the caller saw; nothing was changed."""


async def put_course(tx: Tx, course: Course, at: datetime, seen: int | None = None) -> Entered | Superseded:
    """Enter or change one course.

    A request that got stuck on its way may arrive behind a later one. Who says what he saw is not undone by it.

    Args:
        tx: where to.
        course: as it shall stand. When it stands so already, that is all that was wanted, whatever was seen.
        at: now.
        seen: the version that the caller saw, 0 for a course that did not stand; None: whatever stands is replaced.
    """
    await store.lock(tx)
    stands, version = (await store.courses(tx)).get(course.code, (None, 0))
    if stands == course:
        return Entered(version, changed=False)
    if seen not in (None, version):
        return Superseded()
    version = next_version(version or None, at)
    await _enter(tx, [(course, version)], at)
    return Entered(version, changed=True)


async def _enter(tx: Tx, changed: Sequence[tuple[Course, int]], at: datetime) -> None:
    await store.put_courses(tx, changed)
    await announce(tx, [_event("course", COURSE_PUBLISHED.name, asdict(course), version, at) for course, version in changed])


def read_territory(path: Path) -> list[TerritoryUnit]:
    """Read units from a CSV with the columns code, level, name, type, province, valid_from (ISO date)."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [
            TerritoryUnit(row["code"], cast("Level", row["level"]), row["name"], row["type"], row["province"], date.fromisoformat(row["valid_from"]))
            for row in csv.DictReader(file)
        ]


COURSE_COLUMNS = ("code", "title", "launched_by", "course_sets")
"""Columns of a file of courses."""


class UnusableFile(ValueError):
    """A file of a register cannot be used; the text says why, one sentence per mistake."""


def read_courses(path: Path) -> list[Course]:
    """Read courses from a CSV with the columns code, title, launched_by, course_sets (separated by semicolons).

    Raises:
        UnusableFile: it is no such file, or a course breaks the contract under which it would be announced.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in COURSE_COLUMNS if name not in (reader.fieldnames or ())]:
                raise UnusableFile(f"the first line names no column {', '.join(missing)}")
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableFile("it is no CSV in UTF-8") from error
    found: dict[str, Course] = {}
    mistakes: list[str] = []
    for line, row in rows:
        try:
            told = contracts.Course(
                code=row["code"], title=row["title"], launched_by=row["launched_by"],
                course_sets=tuple(part for part in (row["course_sets"] or "").split(";") if part), version=1,
            )  # fmt: skip
        except ValidationError as error:
            mistakes += [f"line {line}: {mistake['loc'][0]}: {mistake['msg']}" for mistake in error.errors(include_url=False, include_input=False)]
            continue
        if told.code in found:
            mistakes.append(f"line {line}: code: stands twice")
        found[told.code] = Course(told.code, told.title, told.launched_by, told.course_sets)
    if mistakes:
        raise UnusableFile("; ".join(mistakes[:20]))
    return list(found.values())


def _event(kind: str, event_type: str, data: dict[str, object], version: int, at: datetime) -> Announcement:
    key = f"{kind}:{data['code']}"
    return Announcement(
        REGISTRY_EVENTS, event_type, f"{key}:{version}", "/services/enrollment", key, key, _encode({**data, "version": version}), at, key
    )
