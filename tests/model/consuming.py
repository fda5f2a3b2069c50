"""The consumer: take over, fetch, apply in one transaction, commit. Decisions are the chassis's own functions."""

from collections.abc import Iterator
from uuid import UUID

from shared.chassis import standing, stops
from shared.chassis.errors import Fenced
from shared.chassis.stops import Extent, Place
from tests.model.story import TICK, due, folded, fresh, touched
from tests.model.world import OTHER_KEY, Open, Process, Row, Setting, Tables, World, newest, next_number, present, with_process

_TOPIC_ID = UUID(int=1)


def steps(setting: Setting, world: World) -> Iterator[tuple[str, World]]:
    """What the consumers of living processes can do."""
    for who, process in enumerate(world.processes):
        if process.alive:
            yield from _take_over(setting, world, who, process)
            yield from _fetch(setting, world, who, process)
            yield from _begin(setting, world, who, process)
            yield from _commit(setting, world, who, process)


def _take_over(setting: Setting, world: World, who: int, process: Process) -> Iterator[tuple[str, World]]:
    """`Places._resume`: rows first, then the ends of the logs, then seek."""
    if not process.mine or process.position is not None:
        return
    tables = world.tables
    if process.halted:
        if _stop(tables.next_offset, tables.cut_back_to, world.end) is None:
            yield f"worker {who} looks again", with_process(world, who, process._replace(halted=False))
        return
    if setting.broken == "state before offset rows" and process.early is None:
        yield f"worker {who} reads the state", with_process(world, who, process._replace(early=(tables.applied, tables.facts, tables.entities)))
    elif setting.broken == "ends before rows" and process.early is None:
        yield f"worker {who} looks at the end of the log: {world.end}", with_process(world, who, process._replace(early=world.end))
    elif process.row is None:
        at = world.acknowledged if setting.broken == "acknowledged first" else tables.next_offset
        process = process._replace(row=(at, tables.cut_back_to))
        if setting.fine:
            yield f"worker {who} reads the offset row: {at}", with_process(world, who, process)
        else:
            yield from _take_over(setting, world, who, process)
    else:
        end = process.early if setting.broken == "ends before rows" else world.end
        assert isinstance(end, int)
        next_offset, cut_back_to = process.row
        early = None if setting.broken == "ends before rows" else process.early
        process = process._replace(row=None, early=early)
        if _stop(next_offset, cut_back_to, end) is None:
            if setting.restore and setting.broken == "moment of takeover":
                process = process._replace(since=newest(world) + TICK)
            process = process._replace(position=next_offset)
            if setting.fine or process.hand is not None or next_offset == world.end:
                yield f"worker {who} goes on at {next_offset}", with_process(world, who, process)
            else:
                yield from _fetch(setting, world, who, process)
            return
        if tables.next_offset > end:  # offsets.note_cut_back
            world = world._replace(tables=tables._replace(cut_back_to=min(end, tables.cut_back_to or end)))
        yield f"worker {who} stands still at {next_offset}", with_process(world, who, process._replace(halted=True))


def _stop(next_offset: int, cut_back_to: int | None, end: int) -> stops.Stop | None:
    return stops.lost("facts", 0, Place(next_offset, _TOPIC_ID, cut_back_to), _TOPIC_ID, Extent(0, end))


def _fetch(setting: Setting, world: World, who: int, process: Process) -> Iterator[tuple[str, World]]:
    """A poll brings all there is; `_begin` takes any part of it, as bisecting does."""
    at = process.position
    if process.mine and process.hand is None and at is not None and at < world.end and standing.follows(at, at, at):
        if setting.broken == "acknowledged first":
            world = world._replace(acknowledged=world.end)
        yield f"worker {who} fetches {at} to {world.end - 1}", with_process(world, who, process._replace(hand=(at, world.end, 0)))


def _begin(setting: Setting, world: World, who: int, process: Process) -> Iterator[tuple[str, World]]:
    """`BatchConsumer._transact` up to its commit; nobody else gets so far while a transaction is open."""
    if process.hand is None or world.open is not None:
        return
    first, stop, again = process.hand
    try:
        if setting.broken == "place looked up late" and process.position is not None:
            before = process.position
        else:
            before = standing.row_before(first, first, process.position)
    except Fenced as fenced:
        yield f"worker {who} gives its batch up: {fenced}", with_process(world, who, _reread(process))
        return
    if before != world.tables.next_offset and setting.broken not in ("offset row guards nothing", "acknowledged first"):
        yield f"worker {who} is fenced by the offset row", with_process(world, who, _reread(process))
        return
    for after in [again] if again else range(first + 1, stop + 1):
        transaction = _apply(setting, world, who, process, first, after)
        begun = world._replace(open=transaction)
        if setting.fine:
            yield f"worker {who} begins a transaction with {first} to {after - 1}", begun
        else:
            yield from _commit(setting, begun, who, process)


def _reread(process: Process) -> Process:
    """`Places._reread`: go back to the offset row of what is still ours."""
    return process._replace(hand=None, position=None, row=None)


def _apply(setting: Setting, world: World, who: int, process: Process, first: int, after: int) -> Open:
    """Read the state, fold, write: what `enrollment` does with a batch."""
    applied, facts, entities = world.tables.applied, world.tables.facts, world.tables.entities
    if setting.broken == "state before offset rows":
        assert isinstance(process.early, tuple)
        applied, facts, entities = process.early
    new = fresh(setting.log[first:after], facts)
    facts |= frozenset(new)
    since = 0 if setting.broken == "nothing is said again" else process.since
    now, rows, number = list(entities), list[Row](), next_number(world)
    for key in touched(new):
        stored, state = entities[key], folded(facts, key)
        assert state is not None
        at = 0 if setting.broken == "clock set back" else present(setting, world, key)
        version = due(stored[0] if stored else None, stored is None or stored[1] != state, since, at)
        if version is not None:
            now[key] = version, state
            rows.append(Row(number + len(rows), key, version, state))
    counted = tuple(times + (first <= offset < after) for offset, times in enumerate(applied))
    return Open(who, first, after, counted, facts, tuple(now), tuple(rows))


def _commit(setting: Setting, world: World, who: int, process: Process) -> Iterator[tuple[str, World]]:
    """The commit, and its answer, which may be lost: then the batch is tried again."""
    done = world.open
    if done is None or done.who != who or process.hand is None:
        return
    stop = process.hand[1]
    tables = committed(world.tables, done)
    world = world._replace(open=None, tables=tables)
    if setting.broken == "state before offset rows":
        process = process._replace(early=(done.applied, done.facts, done.entities))
    position, left = standing.moved(process.position, done.before, done.after), (done.after, stop, 0)
    known = process._replace(position=position, hand=left if left[0] < left[1] else None)
    yield f"worker {who} commits {done.before} to {done.after - 1}", with_process(world, who, known)
    if setting.broken != "acknowledged first":  # that one does not look back
        yield (
            f"worker {who} commits {done.before} to {done.after - 1}, and the answer is lost",
            with_process(world, who, process._replace(hand=(done.before, stop, done.after))),
        )


def committed(tables: Tables, done: Open) -> Tables:
    """What a transaction leaves."""
    return tables._replace(
        next_offset=done.after,
        applied=done.applied,
        facts=done.facts,
        entities=(*done.entities[:OTHER_KEY], tables.entities[OTHER_KEY]),
        outbox=tuple(sorted((*tables.outbox, *done.rows))),
    )
