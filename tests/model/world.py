"""What the model consists of: a log of facts, a database, the topic that is announced on, and two processes."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.model.story import KEYS, TICK

Broken = Literal[
    "offset row guards nothing", "state before offset rows", "place looked up late", "acknowledged first", "ends before rows",
    "rows are not followed", "no epoch", "forgets without lease", "forgets before the broker has it", "forgets by number", "pages by number",
    "clock set back", "nothing is said again", "moment of takeover",
]  # fmt: skip
"""One guard is missing, or stands in the wrong place."""


@dataclass(frozen=True)
class Setting:
    """What one search looks at.

    Attributes:
        log: the facts as they stand on the topic, by number; a number that comes again is a copy.
        begun: how many of them are there from the beginning.
        crashes: how often a process may die.
        silences: how often a process may be taken for dead while it goes on (frozen, cut off, slow).
        other: whether an API announces an entity of its own beside the consumers.
        relays: whose relays run.
        page: rows that a relay reads at once.
        restore: whether the database may be put back to an earlier moment.
        fine: whether steps are told apart between which nobody else can tell the difference, or it would take too many states: reading
            the row and looking at the log's ends, beginning and committing, lease, producer and reading.
        broken: the guard that is missing.
    """

    log: tuple[int, ...]
    begun: int = 0
    crashes: int = 0
    silences: int = 0
    other: bool = False
    relays: tuple[int, ...] = (0, 1)
    page: int = 2
    restore: bool = False
    fine: bool = False
    broken: Broken | None = None


class Row(NamedTuple):
    """One row of the outbox."""

    seq: int
    key: int
    version: int
    state: int


class Told(NamedTuple):
    """What stands on the topic of one key: the last record, and the one of the highest version, which readers hold."""

    last: tuple[int, int]
    highest: tuple[int, int]


class Tables(NamedTuple):
    """What is committed.

    Attributes:
        next_offset: the offset row.
        cut_back_to: see `stops.Place`.
        applied: how often each record of the log was applied.
        facts: which are known.
        entities: by key, version and state.
        outbox: rows that wait, in the order of `seq`.
        holder: whose lease it is.
        lapsed: it has expired, as that of a database that was put back.
    """

    next_offset: int
    cut_back_to: int | None
    applied: tuple[int, ...]
    facts: frozenset[int]
    entities: tuple[tuple[int, int] | None, ...]
    outbox: tuple[Row, ...]
    holder: int | None
    lapsed: bool = False


class Open(NamedTuple):
    """A consumer's open transaction: it has the offset row's lock, and all its writing is done."""

    who: int
    before: int
    after: int
    applied: tuple[int, ...]
    facts: frozenset[int]
    entities: tuple[tuple[int, int] | None, ...]
    rows: tuple[Row, ...]


class Relay(NamedTuple):
    """Where the relay of a process is.

    Attributes:
        at: `off`, `leased` (no producer yet), `ready`, `renewed`, `sending`, `sure` (the broker has it all).
        rows: what it has read.
        sent: how many of them it has sent.
        linked: whether its connection still leads to the database it read from.
        last: highest number it has published, for the relay that pages by it.
    """

    at: str = "off"
    rows: tuple[Row, ...] = ()
    sent: int = 0
    linked: bool = True
    last: int = -1


class Process(NamedTuple):
    """A worker.

    Attributes:
        alive: else it is down.
        silent: the others take it for dead.
        mine: it believes that the partition is its own.
        position: where the partition stands.
        row: the offset row as it was read on taking over, before the ends of the log were looked at.
        hand: the batch at work: where it stands and where it ends; and where the transaction ended that is tried again, else 0.
        halted: the partition stands still.
        since: what was announced before may have been announced otherwise (restore only).
        early: what a broken takeover has read before the rows.
        relay: its relay.
    """

    alive: bool = True
    silent: bool = False
    mine: bool = False
    position: int | None = None
    row: tuple[int, int | None] | None = None
    hand: tuple[int, int, int] | None = None
    halted: bool = False
    since: int = 0
    early: object = None
    relay: Relay = Relay()


class World(NamedTuple):
    """A state.

    Attributes:
        end: how many records the log has by now.
        owner: whose partition it is, as the group knows.
        acknowledged: Kafka's committed offset; nothing reads it, except where a guard is missing.
        tables: what is committed.
        open: the transaction of a consumer.
        aside: number of the row that the API has written and not committed; None before, -1 after.
        topic: what stands there, by key.
        contradiction: one version of one key was announced with two contents.
        epoch: whose producer the broker takes records from.
        processes: the two.
        kept: the earlier moment of the database.
        restored: whether it was put back.
        crashes: how many are left.
        silences: how many are left.
    """

    end: int
    owner: int | None
    acknowledged: int
    tables: Tables
    open: Open | None
    aside: int | None
    topic: tuple[Told | None, ...]
    contradiction: bool
    epoch: int | None
    processes: tuple[Process, Process]
    kept: Tables | None
    restored: bool
    crashes: int
    silences: int


OTHER_KEY = KEYS
"""The entity that the API announces."""


def first(setting: Setting) -> World:
    """Nothing has happened yet."""
    nothing: tuple[None, ...] = (None,) * (KEYS + 1)
    tables = Tables(0, None, (0,) * len(setting.log), frozenset(), nothing, (), None)
    return World(
        setting.begun or len(setting.log), None, 0, tables, None, None if setting.other else -1, nothing, False, None,
        (Process(), Process()), None, False, setting.crashes, setting.silences,
    )  # fmt: skip


def with_process(world: World, who: int, process: Process) -> World:
    """The same with another state of one process."""
    one, two = world.processes
    return world._replace(processes=(process, two) if who == 0 else (one, process))


def present(setting: Setting, world: World, key: int | None = None) -> int:
    """The clock: after everything that is remembered of it. What nobody remembers need not be told apart.

    Without a restore versions of different keys are never compared, so each key has a clock of its own.
    """
    own = None if setting.restore else key
    return max(newest(world, own), *(process.since for process in world.processes)) // TICK * TICK + TICK


def newest(world: World, own: int | None = None) -> int:
    """The highest version that is remembered, of one key or of all."""
    times = [0]
    for tables in (world.tables, world.kept):
        if tables is not None:
            times += [entity[0] for at, entity in enumerate(tables.entities) if entity and own in (None, at)]
    times += [told.highest[0] for at, told in enumerate(world.topic) if told and own in (None, at)]
    rows = [row for process in world.processes for row in process.relay.rows]
    times += [row.version for row in (*rows, *(world.open.rows if world.open else ())) if own in (None, row.key)]
    return max(times)


def next_number(world: World) -> int:
    """The number of the next row of the outbox: after all that are remembered. On a database that was put back, numbers come again."""
    numbers = [row.seq for row in world.tables.outbox]
    if world.open:
        numbers += [row.seq for row in world.open.rows]
    if world.aside is not None:
        numbers.append(world.aside)
    for process in world.processes:
        numbers.append(process.relay.last)
        if process.relay.linked:
            numbers += [row.seq for row in process.relay.rows]
    return max(numbers, default=-1) + 1
