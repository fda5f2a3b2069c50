"""The figures that must come out, counted from the ledger's facts by other code.

Nothing of `services` is imported here. Where a service folds step by step and keeps differences, this asks each question of
the whole set of facts anew: "which withdrawal stands?", "where does the person live on this day?". It is
slow and plain on purpose. The definitions are those of docs/indicators.md and of the tables of domain rules:

- Facts of one enrollment are true in the order (instant, rank of the kind, fact id); so are facts about a person.
- A withdrawal or voiding stands when no reinstatement comes after it; one that does not stand has never been.
- I-01 persons with a started enrollment or a valid completion in the course set, from that day on, where they are (stock).
- I-02 enrollments registered and not voided, on that day, where the person was (flow).
- I-04 persons with a valid completion in the course set, from that day on, where they are (stock).
- I-05 first completion of each (person, course), on that day, where the person was (flow).
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from tests.fault.harness.stories import VIET_NAM, Fact

TERRITORY_CSV = Path(__file__).resolve().parents[3] / "services" / "enrollment" / "registers" / "territory.csv"

EVERY_COURSE = "ALL"
COLUMNS = ("CIT", "STU", "PUB", "ENT")

Cell = tuple[str, str, str, date]
"""Indicator, course set, node, day."""

Counts = tuple[int, int, int, int, int, int]
"""Everybody, CIT, STU, PUB, ENT, ungrouped."""

RANKS = {
    "learner.registered": 0, "enrollment.registered": 1, "enrollment.started": 2, "enrollment.withdrawn": 3, "enrollment.voided": 4,
    "enrollment.reinstated": 5, "completion.recorded": 6, "completion.revoked": 7,
}  # fmt: skip
"""Order of kinds at one instant."""

Tie = Callable[[Fact], object]
"""What orders facts of one kind at one instant: the id under which the fact is stored."""


@dataclass(frozen=True)
class Register:
    """What the figures need of the registers: the province of every place, the further course sets of every course."""

    provinces: Mapping[str, str]
    course_sets: Mapping[str, tuple[str, ...]]

    def sets(self, course: str) -> tuple[str, ...]:
        """The course sets of a course; one that nobody registered belongs to ALL only."""
        return (EVERY_COURSE, *self.course_sets.get(course, ()))

    def leaf(self, code: str | None) -> str:
        """The deepest node of a place that the register knows."""
        if code is None or code not in self.provinces:
            return "VN/?"
        province = self.provinces[code]
        return f"VN/{province}/{'?' if code == province else code}"


def territory(path: Path = TERRITORY_CSV) -> dict[str, str]:
    """The shipped register: province by code."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {row["code"]: row["province"] for row in csv.DictReader(file)}


def recount(facts: Iterable[Fact], register: Register, tie: Tie) -> dict[Cell, Counts]:
    """Every row of `figure` that is not zero, at leaves, provinces and nation."""
    figures: defaultdict[Cell, Counter[str]] = defaultdict(Counter)
    by_person: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_person[fact.account].append(fact)
    for told in by_person.values():
        ordered = sorted(told, key=lambda fact: (fact.occurred_at, RANKS[fact.kind], tie(fact)))
        for cell, column, times in _of_person(ordered, register):
            figures[cell][column] += times
    found = {cell: _counts(columns) for cell, columns in figures.items()}
    return {cell: counts for cell, counts in found.items() if any(counts)}


def add(parts: Iterable[Mapping[Cell, Counts]]) -> dict[Cell, Counts]:
    """The figures of several sets of persons together."""
    total: dict[Cell, list[int]] = {}
    for part in parts:
        for cell, counts in part.items():
            row = total.setdefault(cell, [0] * 6)
            for index, count in enumerate(counts):
                row[index] += count
    return {cell: (row[0], row[1], row[2], row[3], row[4], row[5]) for cell, row in total.items() if any(row)}


def _counts(columns: Mapping[str, int]) -> Counts:
    return tuple(columns.get(column, 0) for column in ("*", *COLUMNS, "-"))  # type: ignore[return-value]


def _of_person(facts: Sequence[Fact], register: Register) -> Iterable[tuple[Cell, str, int]]:
    """What one person adds: (cell, column, times), facts in true order."""
    home = Home([fact for fact in facts if fact.kind == "learner.registered"], register)
    enrollments = [Registration(facts, one) for one in sorted({fact.enrollment for fact in facts if fact.enrollment})]
    counted = [one for one in enrollments if one.course is not None and not one.voided]
    for one in counted:
        assert one.course is not None
        assert one.registered is not None
        for course_set in register.sets(one.course):
            yield from _event("I-02", course_set, _day(one.registered), home)
    for course in sorted({one.course or "" for one in counted}):
        completions = [one.completed for one in counted if one.course == course and one.completed is not None]
        for course_set in register.sets(course) if completions else ():
            yield from _event("I-05", course_set, _day(min(completions)), home)
    for course_set in sorted({found for one in counted for found in register.sets(one.course or "")}):
        of_set = [one for one in counted if course_set in register.sets(one.course or "")]
        starts = [one.started for one in of_set if one.started is not None]
        completions = [one.completed for one in of_set if one.completed is not None]
        if taking_part := [*starts, *completions]:
            yield from _property("I-01", course_set, _day(min(taking_part)), home)
        if completions:
            yield from _property("I-04", course_set, _day(min(completions)), home)


class Registration:
    """One enrollment, asked question by question. `facts` in true order."""

    def __init__(self, facts: Sequence[Fact], enrollment: str) -> None:
        mine = [fact for fact in facts if fact.enrollment == enrollment]
        registered = [fact for fact in mine if fact.kind == "enrollment.registered"]
        self._mine = mine
        self.course = registered[0].course if registered else None
        self.registered = registered[0].occurred_at if registered else None
        self._withdrawals = self._since_last("enrollment.withdrawn", "enrollment.reinstated")
        self.voided = bool(self._since_last("enrollment.voided", "enrollment.reinstated"))
        self.started = self._started()
        self.completed = self._completed()

    def _since_last(self, kind: str, undone_by: str) -> list[Fact]:
        """Facts of a kind that nothing undid."""
        undone = max((at for at, fact in enumerate(self._mine) if fact.kind == undone_by), default=-1)
        return [fact for fact in self._mine[undone + 1 :] if fact.kind == kind]

    def _started(self) -> datetime | None:
        """The first activity; an activity at the very instant of the withdrawal ranks before it."""
        activities = [fact.occurred_at for fact in self._mine if fact.kind == "enrollment.started"]
        if not activities or (self._withdrawals and activities[0] > self._withdrawals[0].occurred_at):
            return None
        return activities[0]

    def _completed(self) -> datetime | None:
        standing = self._since_last("completion.recorded", "completion.revoked")
        if not standing:
            return None
        done = standing[0].occurred_at
        return done if not self._withdrawals or done < self._withdrawals[0].occurred_at else None


class Home:
    """Where a person is, and in which groups, on a day. `tellings` in true order."""

    def __init__(self, tellings: Sequence[Fact], register: Register) -> None:
        self._register = register
        self._residences = _last_said(tellings, "residences", lambda one: str(one["valid_from"]))
        self._groups = _last_said(tellings, "groups", lambda one: (str(one["group"]), str(one["valid_from"])))

    def on(self, day: date) -> tuple[str, tuple[str, ...]]:
        """(leaf, columns) on a day."""
        residence = _in_force(self._residences, day)
        held = [group for group in COLUMNS if _in_force([one for one in self._groups if one["group"] == group], day)]
        return self._register.leaf(str(residence["code"]) if residence else None), ("*", *(held or ("-",)))

    def changes_after(self, day: date) -> list[date]:
        """Days after this one on which anything may be different."""
        days = {
            date.fromisoformat(str(one[name])) for one in (*self._residences, *self._groups) for name in ("valid_from", "valid_to") if one.get(name)
        }
        return sorted(found for found in days if found > day)


def _last_said(tellings: Sequence[Fact], name: str, about: Callable[[Mapping[str, object]], object]) -> list[Mapping[str, object]]:
    """Of several tellings about the same thing the last one."""
    said: dict[object, Mapping[str, object]] = {}
    for fact in tellings:
        for one in fact.data[name]:  # type: ignore[attr-defined]
            said[about(one)] = one
    return list(said.values())


def _in_force(dated: Sequence[Mapping[str, object]], day: date) -> Mapping[str, object] | None:
    """Of those that have begun the last, unless it has ended."""
    begun = [one for one in dated if date.fromisoformat(str(one["valid_from"])) <= day]
    if not begun:
        return None
    last = max(begun, key=lambda one: str(one["valid_from"]))
    ends = last.get("valid_to")
    return None if ends is not None and date.fromisoformat(str(ends)) <= day else last


def _event(indicator: str, course_set: str, day: date, home: Home) -> Iterable[tuple[Cell, str, int]]:
    leaf, columns = home.on(day)
    for node in _upwards(leaf):
        for column in columns:
            yield (indicator, course_set, node, day), column, 1


def _property(indicator: str, course_set: str, begins: date, home: Home) -> Iterable[tuple[Cell, str, int]]:
    """A stock: whoever has the property counts wherever they are, so each day differs from the day before only by who moved."""
    yield from _event(indicator, course_set, begins, home)
    for day in home.changes_after(begins):
        for times, (leaf, columns) in ((-1, home.on(day - timedelta(days=1))), (1, home.on(day))):
            for node in _upwards(leaf):
                for column in columns:
                    yield (indicator, course_set, node, day), column, times


def _upwards(leaf: str) -> list[str]:
    parts = leaf.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _day(instant: datetime) -> date:
    return instant.astimezone(VIET_NAM).date()
