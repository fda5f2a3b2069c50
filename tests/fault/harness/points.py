"""The list of crash points: read from traces, numbered, each with what has to be done so that a process reaches it."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.contracts.topics import EVENT_TOPICS

FAULT = "P2"
"""Number of the fault of which these are the runs."""

ASSIGNMENT = "assignment of "
"""How pieces of work are called in which a process comes to partitions."""

STARTING = ("start", "quarter", "nameless", "newcomer")
"""Acts of which the start of workers is a part; they are done to one service."""

ASSIGNING = (*STARTING, "set-back", "fresh")
"""Acts that lead to assignments for certain. While another is done, a process may come to its partitions by chance."""


class Recovery(StrEnum):
    """How the work goes on after a process has died or frozen at a point."""

    RESTART = "restart"
    """It is started again; nobody else is there."""
    TAKEOVER = "takeover"
    """The other replica, which runs already, takes over."""
    ZOMBIE = "zombie"
    """It is frozen, the other replica takes over, then it wakes up and goes on where it stood."""


@dataclass(frozen=True)
class Point:
    """One crash point.

    Attributes:
        name: as the chassis calls it: service, piece of work, side, call.
        number: place among the points of its piece of work, in the order in which they were first reached.
        act: the least that must be done so that it is reached (a name of `acts.ACTS`).
        statements: what was said there; empty for a call that is no SQL.
    """

    name: str
    number: int
    act: str
    statements: frozenset[str]

    @property
    def service(self) -> str:
        """Whose it is."""
        return self.name.split("/")[0]

    @property
    def piece(self) -> str:
        """The piece of work: a topic, `relay`, `publisher`, `POST events` and so on."""
        return self.name.split("/")[1]

    def __str__(self) -> str:
        service, piece, place = self.name.split("/", 2)
        return f"{service}/{piece}/{self.number:02d} {place}"


Run = tuple[Point, Recovery]
"""One point with one recovery."""


def read(traces: Mapping[str, str]) -> list[Point]:
    """Every point of these traces, by service and piece of work, in the order in which they are reached.

    Args:
        traces: what was reached while an act was done, by act, the least act first.
    """
    found: dict[str, tuple[str, set[str]]] = {}
    reached = [(act, *line.split("\t")) for act, trace in traces.items() for line in trace.splitlines()]
    for act, name, statement in sorted(reached, key=_is_chance):
        found.setdefault(name, (act, set()))[1].add(statement)
    numbers: dict[str, int] = {}
    points = []
    for name, (act, statements) in found.items():
        piece = "/".join(name.split("/")[:2])
        numbers[piece] = numbers.get(piece, 0) + 1
        points.append(Point(name, numbers[piece], act, frozenset(statements)))
    order = list(numbers)
    return sorted(points, key=lambda point: (order.index(f"{point.service}/{point.piece}"), point.number))


def _is_chance(line: Sequence[str]) -> bool:
    act, name, *_ = line
    # A quarter is forgotten by reporting alone; its workers die of it.
    return (f"/{ASSIGNMENT}" in name and act not in ASSIGNING) or (act == "quarter" and not name.startswith("reporting/"))


def pieces(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points by service and piece of work."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(f"{point.service}/{point.piece}", []).append(point)
    return found


def expected_pieces() -> set[str]:
    """Pieces of work that the traffic must reach, or the list of points is not whole: from what the services subscribe to and do."""
    topics = {f"{group}/{topic.name}" for topic in EVENT_TOPICS for group in topic.readers}
    assignments = {f"{group}/{ASSIGNMENT}{topic.name}" for topic in EVENT_TOPICS for group in topic.readers}
    loops = {"enrollment/relay", "assessment/relay", "reporting/relay", "notifications/relay", "reporting/publisher", "notifications/deliver"}
    return topics | assignments | loops | {"enrollment/POST events", "enrollment/PUT registers", "reporting/POST reports"}


def every_run(points: Sequence[Point]) -> list[Run]:
    """All points with all recoveries, recovery by recovery, because they need different numbers of replicas."""
    return [(point, recovery) for recovery in Recovery for point in points]


def sample(points: Sequence[Point], draw: random.Random) -> list[Run]:
    """One point of every piece of work, each with one recovery; every recovery comes about equally often."""
    chosen = [(draw.choice(some), recovery) for some, recovery in zip(pieces(points).values(), _turns(draw), strict=False)]
    return sorted(chosen, key=lambda run: list(Recovery).index(run[1]))


def _turns(draw: random.Random) -> Iterable[Recovery]:
    while True:
        turn = list(Recovery)
        draw.shuffle(turn)
        yield from turn
