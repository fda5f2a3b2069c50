"""The whole machine, and what must be true of it in every state and at every end."""

from functools import partial

from tests.model import consuming, relaying, trouble
from tests.model.explorer import Result, explore
from tests.model.story import facts_of, folded
from tests.model.world import OTHER_KEY, Setting, World, first


def search(setting: Setting, after: tuple[str, ...] = ()) -> Result[World]:
    """Look at every state of a setting that can be reached after some steps, told in words."""
    world = first(setting)
    for words in after:
        world = next(then for said, then in (*_steps(setting, world), *_trouble(setting, world)) if said == words)
    return explore(world, partial(_steps, setting), partial(_trouble, setting), partial(wrong, setting))


def _steps(setting: Setting, world: World) -> list[tuple[str, World]]:
    return [*consuming.steps(setting, world), *relaying.steps(setting, world), *trouble.surroundings(setting, world)]


def _trouble(setting: Setting, world: World) -> list[tuple[str, World]]:
    return list(trouble.trouble(setting, world))


def wrong(setting: Setting, world: World, end: bool) -> str | None:
    """Which promise is broken; None: none."""
    tables = world.tables
    for offset, times in enumerate(tables.applied):
        if times != (offset < tables.next_offset):
            return f"record {offset} was applied {times} times, and the offset row stands at {tables.next_offset}"
    told = facts_of(setting.log, tables.next_offset)
    if tables.facts != told:
        return f"facts {sorted(tables.facts)} are known instead of {sorted(told)}"
    for key, entity in enumerate(tables.entities[:OTHER_KEY]):
        if (entity[1] if entity else None) != folded(told, key):
            return f"the state of key {key} is not what its facts make"
    if world.contradiction:
        return "one version was announced with two contents"
    if not world.restored or end:
        for key, entity in enumerate(tables.entities if setting.relays else ()):
            topic = world.topic[key]
            if any(row.key == key for row in tables.outbox):
                continue
            if entity and topic is None:
                return f"key {key} was never announced"
            if topic is None:
                continue
            # After a restore a copy of the same content may have been announced under a higher version; that harms nobody.
            of = slice(1, 2) if world.restored else slice(0, 2)
            if entity is None or topic.last[of] != entity[of] or topic.highest[of] != entity[of]:
                return f"key {key}: {entity} is stored, {topic.last} stands last on the topic, readers hold {topic.highest}"
    if end:
        if tables.next_offset != len(setting.log):
            return f"it ends with the offset row at {tables.next_offset}"
        if setting.relays and (tables.outbox or world.aside != -1):
            return "it ends with rows that wait in the outbox"
    return None
