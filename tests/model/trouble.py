"""What the surroundings do: the group gives partitions, records come; and what may go wrong."""

from collections.abc import Iterator

from tests.model.story import TICK
from tests.model.world import Process, Setting, World, newest, with_process


def surroundings(setting: Setting, world: World) -> Iterator[tuple[str, World]]:
    """What happens by itself, sooner or later."""
    if world.end < len(setting.log):
        yield "a record comes", world._replace(end=world.end + 1)
    for who, process in enumerate(world.processes):
        if not process.alive:
            since = newest(world) + TICK if setting.restore else 0
            yield f"worker {who} is started again", with_process(world, who, Process(since=since))
            continue
        if world.owner is None and not process.silent and not (who == 1 and _nothing_yet(world)):
            taken = process._replace(mine=True, position=None, row=None, halted=False, early=None)
            yield f"the group gives worker {who} the partition", with_process(world, who, taken)._replace(owner=who)
        if process.silent:
            if world.open is not None and world.open.who == who:
                yield f"the server ends the transaction of worker {who}", world._replace(open=None)
            yield f"worker {who} is heard again", with_process(world, who, _heard(process))
        follows = setting.broken not in ("rows are not followed", "acknowledged first")
        if follows and process.mine and process.hand is None and process.position not in (None, world.tables.next_offset):
            yield f"worker {who} sees that the row stands elsewhere", with_process(world, who, process._replace(position=None))


def _nothing_yet(world: World) -> bool:
    """While both are the same, it does not matter who is the first."""
    return world.processes[0] == world.processes[1]


def _heard(process: Process) -> Process:
    """It learns that the partition was taken; what it has in hand stays there (`Places.revoked`)."""
    return process._replace(silent=False, mine=False, position=None, row=None, early=None)


def trouble(setting: Setting, world: World) -> Iterator[tuple[str, World]]:
    """What may go wrong, as often as the setting allows."""
    for who, process in enumerate(world.processes):
        if process.alive and world.crashes:
            yield f"worker {who} dies", _died(world, who)._replace(crashes=world.crashes - 1)
        if process.alive and not process.silent and world.silences:
            yield f"worker {who} falls silent, and the group takes its partition", _silent(world, who, process)
    if setting.restore and not world.restored:
        if world.kept is None:
            yield "the database is copied", world._replace(kept=world.tables)
        else:
            yield "the database is put back to the copy", _restored(setting, world)


def _died(world: World, who: int) -> World:
    """What it had in memory is gone, its transaction is rolled back, its lease expires."""
    if world.open is not None and world.open.who == who:
        world = world._replace(open=None)
    if world.owner == who:
        world = world._replace(owner=None)
    if world.tables.holder == who:
        world = world._replace(tables=world.tables._replace(holder=None))
    if world.kept is not None and world.kept.holder == who:
        world = world._replace(kept=world.kept._replace(holder=None))
    return with_process(world, who, Process(alive=False))


def _silent(world: World, who: int, process: Process) -> World:
    """From now on others may take what is its own; before that it was only slow, which every order of steps covers."""
    owner = None if world.owner == who else world.owner
    return with_process(world, who, process._replace(silent=True))._replace(silences=world.silences - 1, owner=owner)


def _restored(setting: Setting, world: World) -> World:
    """Every connection is lost with the database; what runs finds the other one under the same name."""
    assert world.kept is not None
    since = newest(world) + TICK
    world = world._replace(tables=world.kept._replace(lapsed=True), kept=None, restored=True, open=None)
    for who, process in enumerate(world.processes):
        connected = process.since if setting.broken == "moment of takeover" else since
        relay = process.relay._replace(linked=False)
        if process.alive:
            world = with_process(world, who, process._replace(since=connected, relay=relay))
    return world
