"""What the registers hold: the two-level territory and the courses."""

from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["province", "commune"]
"""The two levels since 1 July 2025."""


@dataclass(frozen=True, slots=True)
class TerritoryUnit:
    """A province or commune. Codes are strings with leading zeros; names are no keys (787 communes share theirs)."""

    code: str
    level: Level
    name: str
    type: str
    province: str
    valid_from: date
    valid_to: date | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """A course: who launched it decides which targets it counts for."""

    code: str
    title: str
    launched_by: str
    course_sets: tuple[str, ...]
