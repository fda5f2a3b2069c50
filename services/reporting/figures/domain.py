"""What one person contributes to the figures: the definitions of the indicators, as a pure function of all that is known.

Held against docs/indicators.md:

| id   | counts                                              | kind  | where and in which group                      |
|------|-----------------------------------------------------|-------|-----------------------------------------------|
| I-01 | persons who started or completed one in the set     | stock | where the person is at the cut-off            |
| I-02 | enrollments registered and not voided               | flow  | where the person was on that day              |
| I-04 | persons with a valid completion in the course set   | stock | where the person is at the cut-off            |
| I-05 | (person, course) completed, the first time          | flow  | where the person was on that day              |

A stock is kept as differences by day: +1 where and when the property begins, −1/+1 when the person moves or changes
groups. Its value at any cut-off is the running sum, so every calendar reads the same rows. A person is at exactly one
leaf of the territory on any day, so a node's figure is the sum over its leaves, for stocks at a day and for flows alike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from typing import NamedTuple

NATION = "VN"
"""Root of the territory."""

UNPLACED = "VN/?"
"""Leaf of persons of whom no place is known."""

ALL, CIT, STU, PUB, ENT, UNGROUPED = range(6)
"""Positions of the audience groups in a row of figures."""

GROUPS = {"CIT": CIT, "STU": STU, "PUB": PUB, "ENT": ENT}
"""Position of each audience group by its code."""

WIDTH = 6
"""Counters in a row of figures."""

EVERY_COURSE = "ALL"
"""The course set that every course belongs to."""

_EVERY_COURSE_ONLY = (EVERY_COURSE,)

_DAY_US = 86_400_000_000
_VIET_NAM_US = 7 * 3_600_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_ALWAYS = -(10**9)


class Affiliation(NamedTuple):
    """A dated residence or group membership: code, first day, first day no longer (None while it lasts)."""

    code: str
    valid_from: int
    valid_to: int | None


class PersonRow(NamedTuple):
    """What is known of the person; affiliations ordered by first day."""

    version: int
    residences: tuple[Affiliation, ...]
    groups: tuple[Affiliation, ...]


class EnrollmentRow(NamedTuple):
    """One enrollment; instants in microseconds since 1970."""

    version: int
    course: str | None
    status: str
    registered_at: int | None
    started_at: int | None
    withdrawn_at: int | None


class CompletionRow(NamedTuple):
    """One completion; the instant in microseconds since 1970, None while no completion stands."""

    version: int
    completed_at: int | None


@dataclass(frozen=True, slots=True)
class Document:
    """Everything known of one person, entities at their highest version, by entity id."""

    person: PersonRow | None = None
    enrollments: Mapping[bytes, EnrollmentRow] = field(default_factory=dict)
    completions: Mapping[bytes, CompletionRow] = field(default_factory=dict)


EMPTY = Document()
"""A person of whom nothing is known yet."""


class Update(NamedTuple):
    """An entity of a person, as it was announced."""

    entity_id: bytes
    row: PersonRow | EnrollmentRow | CompletionRow


def merge(document: Document, updates: Iterable[Update]) -> Document:
    """Keep each entity at its highest version. Returns the same object when nothing is newer."""
    person = document.person
    enrollments: dict[bytes, EnrollmentRow] | None = None
    completions: dict[bytes, CompletionRow] | None = None
    for entity_id, row in updates:
        match row:
            case PersonRow():
                if person is None or row.version > person.version:
                    person = row
            case EnrollmentRow():
                known = (enrollments or document.enrollments).get(entity_id)
                if known is None or row.version > known.version:
                    enrollments = dict(document.enrollments) if enrollments is None else enrollments
                    enrollments[entity_id] = row
            case CompletionRow():
                found = (completions or document.completions).get(entity_id)
                if found is None or row.version > found.version:
                    completions = dict(document.completions) if completions is None else completions
                    completions[entity_id] = row
    if person is document.person and enrollments is None and completions is None:
        return document
    return Document(
        person,
        document.enrollments if enrollments is None else enrollments,
        document.completions if completions is None else completions,
    )


@dataclass(frozen=True, slots=True)
class Register:
    """What the definitions need of the registers.

    Attributes:
        province_of: province code by commune code, and of each province its own.
        course_sets: further course sets by course code, besides ALL.
    """

    province_of: Mapping[str, str]
    course_sets: Mapping[str, tuple[str, ...]]

    def leaf(self, code: str) -> str:
        """The path of a place; as deep as the register knows it."""
        province = self.province_of.get(code)
        if province is None:
            return UNPLACED
        return f"{NATION}/{province}/?" if province == code else f"{NATION}/{province}/{code}"

    def sets(self, course: str | None) -> tuple[str, ...]:
        """The course sets an enrollment counts for."""
        further = self.course_sets.get(course or "")
        return (EVERY_COURSE, *further) if further else _EVERY_COURSE_ONLY


Claim = tuple[str, str, int]
"""Something that counts: indicator, course set, day (number since 1970) on which it happens or begins."""

Row = tuple[str, str, str, int]
"""Key of a row of figures: indicator, course set, node, day. A row has WIDTH counters, one per audience group."""

STOCKS = ("I-01", "I-04")
"""Indicators that count who has a property: their value is the running sum. The others count events: theirs is the sum over the period."""


class Stay(NamedTuple):
    """From this day on the person is at this leaf and in these groups, until the next stay."""

    first_day: int
    leaf: str
    groups: tuple[int, ...]


def claims(document: Document, register: Register) -> dict[Claim, int]:
    """What counts of a person, and from when; the definitions of the indicators are here and nowhere else that runs."""
    found: dict[Claim, int] = {}
    took_part: dict[str, int] = {}
    completed: dict[str, int] = {}
    first_completion: dict[str, int] = {}
    for entity_id, enrollment in document.enrollments.items():
        if enrollment.registered_at is None or enrollment.status == "VOIDED":
            continue
        sets = register.sets(enrollment.course)
        _claim(found, "I-02", sets, day_of(enrollment.registered_at))
        if enrollment.started_at is not None:
            _earliest(took_part, sets, day_of(enrollment.started_at))
        completed_at = _valid_completion(enrollment, document.completions.get(entity_id))
        if completed_at is not None:
            # Completing is taking part, so nobody can have completed without being counted among those who took part.
            _earliest(took_part, sets, day_of(completed_at))
            _earliest(completed, sets, day_of(completed_at))
            _earliest(first_completion, (enrollment.course or "",), day_of(completed_at))
    for course, day in first_completion.items():
        _claim(found, "I-05", register.sets(course), day)
    for course_set, day in took_part.items():
        _claim(found, "I-01", (course_set,), day)
    for course_set, day in completed.items():
        _claim(found, "I-04", (course_set,), day)
    return found


def _valid_completion(enrollment: EnrollmentRow, completion: CompletionRow | None) -> int | None:
    """When the enrollment was completed, if that counts: a withdrawal in force makes a later completion impossible."""
    if completion is None or completion.completed_at is None:
        return None
    withdrawn_at = enrollment.withdrawn_at
    return completion.completed_at if withdrawn_at is None or completion.completed_at < withdrawn_at else None


def _earliest(found: dict[str, int], keys: Iterable[str], day: int) -> None:
    for key in keys:
        known = found.get(key)
        if known is None or day < known:
            found[key] = day


def _claim(found: dict[Claim, int], indicator: str, sets: Iterable[str], day: int) -> None:
    for course_set in sets:
        claim = (indicator, course_set, day)
        found[claim] = found.get(claim, 0) + 1


def contributions(document: Document, register: Register) -> dict[Row, list[int]]:
    """Everything the person adds to figures, at the leaves of the territory."""
    rows: dict[Row, list[int]] = {}
    place(claims(document, register), whereabouts(document.person, register), rows)
    return rows


def add_difference(before: Document, after: Document, registers: tuple[Register, Register], rows: dict[Row, list[int]]) -> None:
    """Take back what a person contributed before and add what they contribute now, at the leaves.

    Placing is linear in the claims, so of a person who stays where they were only the claims that differ are placed.

    Args:
        before: what was known.
        after: what is known now.
        registers: the registers in force before and now.
        rows: receives the difference.
    """
    old, new = claims(before, registers[0]), claims(after, registers[1])
    if after.person is before.person and registers[0] is registers[1]:
        for claim, times in old.items():
            new[claim] = new.get(claim, 0) - times
        place(new, whereabouts(after.person, registers[1]), rows)
    else:
        place({claim: -times for claim, times in old.items()}, whereabouts(before.person, registers[0]), rows)
        place(new, whereabouts(after.person, registers[1]), rows)


def place(told: Mapping[Claim, int], stays: list[Stay], rows: dict[Row, list[int]]) -> None:
    """Count claims where the person is: an event where they were on its day, a property wherever they are from its day on."""
    for (indicator, course_set, day), times in told.items():
        if not times:
            continue
        stay = _stay(stays, day)
        _add(rows, (indicator, course_set, stay.leaf, day), stay.groups, times)
        if indicator in STOCKS:
            for later in stays:
                if later.first_day > day:
                    _add(rows, (indicator, course_set, stay.leaf, later.first_day), stay.groups, -times)
                    _add(rows, (indicator, course_set, later.leaf, later.first_day), later.groups, times)
                    stay = later


def _add(rows: dict[Row, list[int]], key: Row, groups: tuple[int, ...], times: int) -> None:
    row = rows.get(key)
    if row is None:
        row = rows[key] = [0] * WIDTH
    for group in groups:
        row[group] += times


def whereabouts(person: PersonRow | None, register: Register) -> list[Stay]:
    """Where the person is and to which groups they belong, from the beginning of time on."""
    if person is None:
        return [Stay(_ALWAYS, UNPLACED, (ALL, UNGROUPED))]
    residence: list[tuple[int, str | None]] = [(day, register.leaf(code) if code else UNPLACED) for day, code in _timeline(person.residences)]
    memberships = {code: _timeline(tuple(one for one in person.groups if one.code == code)) for code in sorted({one.code for one in person.groups})}
    days = sorted({day for day, _ in residence} | {day for line in memberships.values() for day, _ in line})
    stays: list[Stay] = []
    for day in days:
        held = tuple(sorted(GROUPS[code] for code, line in memberships.items() if _on(line, day)))
        stay = Stay(day, _on(residence, day) or UNPLACED, (ALL, *(held or (UNGROUPED,))))
        if not stays or stays[-1][1:] != stay[1:]:
            stays.append(stay)
    return stays


def _timeline(affiliations: tuple[Affiliation, ...]) -> list[tuple[int, str | None]]:
    """(first day, code) from the beginning of time on: of those that have begun the last counts, if it has not ended."""
    line: list[tuple[int, str | None]] = [(_ALWAYS, None)]
    for index, one in enumerate(affiliations):
        ends = affiliations[index + 1].valid_from if index + 1 < len(affiliations) else None
        line.append((one.valid_from, one.code if one.valid_to is None or one.valid_to > one.valid_from else None))
        if one.valid_to is not None and one.valid_to > one.valid_from and (ends is None or one.valid_to < ends):
            line.append((one.valid_to, None))
    return line


def _on(line: list[tuple[int, str | None]], day: int) -> str | None:
    found = None
    for first_day, code in line:
        if first_day > day:
            break
        found = code
    return found


def _stay(stays: list[Stay], day: int) -> Stay:
    found = stays[0]
    for stay in stays:
        if stay.first_day > day:
            break
        found = stay
    return found


def unknown_codes(document: Document, register: Register) -> set[str]:
    """Codes the document speaks of that no register knows yet, as `course:<code>` and `territory:<code>`."""
    codes = {f"course:{row.course}" for row in document.enrollments.values() if row.course is not None and row.course not in register.course_sets}
    if document.person is not None:
        codes |= {f"territory:{one.code}" for one in document.person.residences if one.code not in register.province_of}
    return codes


def codes(document: Document) -> set[str]:
    """Every code of a register that the document speaks of."""
    nothing = Register({}, {})
    return unknown_codes(document, nothing)


def roll_up(leaves: Mapping[Row, list[int]]) -> dict[Row, list[int]]:
    """Add the nodes above the leaves; rows that became all zero are left out."""
    rows: dict[Row, list[int]] = {}
    for (indicator, course_set, leaf, day), counts in leaves.items():
        everybody, cit, stu, pub, ent, ungrouped = counts
        if not (everybody or cit or stu or pub or ent or ungrouped):
            continue
        for node in path(leaf):
            key = (indicator, course_set, node, day)
            row = rows.get(key)
            if row is None:
                rows[key] = [everybody, cit, stu, pub, ent, ungrouped]
            else:  # written out, because this is the innermost loop of every batch
                row[ALL] += everybody
                row[CIT] += cit
                row[STU] += stu
                row[PUB] += pub
                row[ENT] += ent
                row[UNGROUPED] += ungrouped
    return {key: counts for key, counts in rows.items() if any(counts)}


@cache
def path(leaf: str) -> tuple[str, ...]:
    """A leaf and the nodes above it; there are as many leaves as communes, so each is worked out once."""
    parts = leaf.split("/")
    return tuple("/".join(parts[:depth]) for depth in range(len(parts), 0, -1))


def day_of(instant_us: int) -> int:
    """The Viet Nam calendar day of an instant: 16:59:59Z is still today there, 17:00:00Z is tomorrow."""
    return (instant_us + _VIET_NAM_US) // _DAY_US


def microseconds(instant: datetime) -> int:
    """An aware instant as microseconds since 1970, exactly."""
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def day_number(day: date) -> int:
    """A calendar day as days since 1970."""
    return day.toordinal() - _EPOCH


def calendar_day(number: int) -> date:
    """The calendar day of a number of days since 1970."""
    return date.fromordinal(number + _EPOCH)
