"""The relay: lease, producer, read, publish, forget; and an API that announces something of its own."""

from collections.abc import Iterator

from tests.model.story import TICK
from tests.model.world import OTHER_KEY, Relay, Row, Setting, Told, World, next_number, present, with_process


def steps(setting: Setting, world: World) -> Iterator[tuple[str, World]]:
    """What the relays of living processes, and the API, can do."""
    yield from _announce_aside(setting, world)
    for who, process in enumerate(world.processes):
        if process.alive and who in setting.relays:
            yield from _step(setting, world, who, process.relay)


def _set(world: World, who: int, relay: Relay) -> World:
    return with_process(world, who, world.processes[who]._replace(relay=relay))


def _step(setting: Setting, world: World, who: int, relay: Relay) -> Iterator[tuple[str, World]]:
    tables = world.tables
    match relay.at:
        case "off":
            if not tables.outbox or not _free(world, who):
                return
            world = world._replace(tables=tables._replace(holder=who, lapsed=False))
            if setting.fine:
                yield f"relay {who} takes the lease", _set(world, who, relay._replace(at="leased"))
            else:
                yield f"relay {who} takes the lease and starts a producer", _set(world._replace(epoch=who), who, relay._replace(at="ready"))
        case "leased":
            yield f"relay {who} starts a producer", _set(world._replace(epoch=who), who, relay._replace(at="ready"))
        case "ready":
            if not tables.outbox:
                return
            if _free(world, who):
                world, relay = world._replace(tables=tables._replace(holder=who, lapsed=False)), relay._replace(at="renewed")
                if setting.fine:
                    yield f"relay {who} renews the lease", _set(world, who, relay)
                else:
                    yield from _step(setting, world, who, relay)
            else:
                yield f"relay {who} has lost the lease", _set(world, who, _off(relay))
        case "renewed":
            waiting = [row for row in tables.outbox if row.seq > relay.last or setting.broken != "pages by number"]
            rows = tuple(waiting[: setting.page])
            if rows:
                if setting.broken == "forgets before the broker has it":
                    world = world._replace(tables=world.tables._replace(outbox=tuple(row for row in tables.outbox if row not in rows)))
                yield f"relay {who} reads {_say(rows)}", _set(world, who, relay._replace(at="sending", rows=rows, sent=0, linked=True))
            elif not tables.outbox:
                yield f"relay {who} finds nothing", _set(world, who, relay._replace(at="ready"))
        case "sending":
            yield from _send(setting, world, who, relay)
        case _:
            yield from _forget(setting, world, who, relay)


def _free(world: World, who: int) -> bool:
    """`lease._ACQUIRE`: ours, nobody's, or expired, which it does when its holder is dead or silent."""
    holder = world.tables.holder
    return holder in (None, who) or world.tables.lapsed or not world.processes[holder].alive or world.processes[holder].silent


def _off(relay: Relay) -> Relay:
    """The producer is thrown away whole."""
    return Relay(last=relay.last)


def _send(setting: Setting, world: World, who: int, relay: Relay) -> Iterator[tuple[str, World]]:
    """The next row; after the last one the broker's answer, which may be lost. A refusal after the last row does what a lost answer does."""
    if world.epoch != who and setting.broken != "no epoch":
        yield f"relay {who} is refused by the broker", _set(world, who, _off(relay))
        return
    row = relay.rows[relay.sent]
    relay, world = relay._replace(sent=relay.sent + 1), _published(world, row)
    if relay.sent < len(relay.rows):
        yield f"relay {who} sends {_say([row])}", _set(world, who, relay)
    else:
        yield f"relay {who} sends {_say([row])}, and hears that the broker has all", _set(world, who, relay._replace(at="sure"))
        yield f"relay {who} sends {_say([row])}, and the answer is lost", _set(world, who, _off(relay))


def _published(world: World, row: Row) -> World:
    said, before = (row.version, row.state), world.topic[row.key]
    highest = said if before is None or said[0] > before.highest[0] else before.highest
    topic = tuple(Told(said, highest) if key == row.key else told for key, told in enumerate(world.topic))
    other = said[0] == highest[0] and said != highest
    return world._replace(topic=topic, contradiction=world.contradiction or other)


def _forget(setting: Setting, world: World, who: int, relay: Relay) -> Iterator[tuple[str, World]]:
    """`Relay._forget`: in one transaction with a look at the lease, on the connection on which the rows were read."""
    tables, broken = world.tables, setting.broken
    if not relay.linked or (tables.holder != who and broken not in ("forgets without lease", "forgets before the broker has it")):
        yield f"relay {who} has lost {'the lease' if relay.linked else 'its connection'} and forgets nothing", _set(world, who, _off(relay))
        return
    numbers = {row.seq for row in relay.rows}
    newest = max(numbers)
    left = tuple(row for row in tables.outbox if (row.seq > newest if broken == "forgets by number" else row.seq not in numbers))
    if broken == "forgets before the broker has it":
        left = tables.outbox
    after = Relay("ready", last=newest if broken == "pages by number" else -1)
    yield f"relay {who} forgets {_say(relay.rows)}", _set(world._replace(tables=tables._replace(outbox=left)), who, after)


def _announce_aside(setting: Setting, world: World) -> Iterator[tuple[str, World]]:
    tables = world.tables
    if world.aside is None:
        number = next_number(world)
        yield f"the API writes row {number} of another key", world._replace(aside=number)
    elif world.aside >= 0:
        version = present(setting, world, OTHER_KEY) // TICK * TICK
        row = Row(world.aside, OTHER_KEY, version, -1)
        entities = (*tables.entities[:OTHER_KEY], (version, -1))
        after = world._replace(aside=-1, tables=tables._replace(outbox=tuple(sorted((*tables.outbox, row))), entities=entities))
        yield f"the API commits row {row.seq}", after


def _say(rows: "tuple[Row, ...] | list[Row]") -> str:
    return ", ".join(f"row {row.seq} (key {row.key}, version {row.version // TICK})" for row in rows)
