"""Topics of a test of reporting alone, a worker that applies what stands on them when told to, and stories to tell there."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.reporting.figures.handlers import Folding
from services.reporting.rebuild.reading import TYPES
from shared.chassis import dead_letters, offsets
from shared.chassis.applying import Handler, Subscription
from shared.chassis.database import Pool, transaction
from shared.chassis.dead_letters import DeadLetter
from shared.chassis.decode import decode
from shared.chassis.errors import Rejected
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.mending import Mending
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.letters.store import Filter
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS, Topic
from tests.integration.reporting.test_fold import life
from tests.integration.reporting.told import TERRITORY, Told, completed, course, enrolled, person
from tests.support.bakery import bake, read
from tests.support.infrastructure import Infrastructure

GROUP = "reporting"

PERSONS = 60


@dataclass
class World:
    """Topics of this test alone, and a worker that applies what stands on them when told to."""

    infra: Infrastructure
    dsn: str
    pool: Pool
    topics: dict[str, Topic]
    folding: Folding

    async def write(self, events: Sequence[Told]) -> None:
        """Put events on their topics, each on the partition of its person or code, in this order."""
        for name, topic in self.topics.items():
            mine = [told for told in events if told.type.topic == name]
            for partition in range(topic.partitions):
                records = [(told.headers, told.value) for told in mine if hash(told.data.get("person_ref", told.key)) % topic.partitions == partition]
                await bake(self.infra.bootstrap_servers, topic, records, partition)

    async def work(self, *, most: int | None = None) -> None:
        """Apply what is there, as the consumers would: offsets and effect in one transaction; at most so many records per partition."""
        for topic in self.topics.values():
            await offsets.begin_partitions(self.pool, GROUP, topic.name, None, range(topic.partitions))
            for partition, place in (await offsets.read(self.pool, GROUP, topic.name)).items():
                at = place.next_offset
                records = [one for one in await read(self.infra.bootstrap_servers, topic.name, topic.partitions) if one.partition == partition]
                new = [one for one in records if one.offset >= at][:most]
                if new:
                    await self._apply(topic, partition, at, new)

    async def _apply(self, topic: Topic, partition: int, at: int, records: Sequence[object]) -> None:
        events: list[object] = []
        async with transaction(self.pool) as tx:
            await offsets.advance(tx, GROUP, topic.name, {partition: (at, records[-1].offset + 1)})  # type: ignore[attr-defined]  # aiokafka ships no types
            for record in records:
                try:
                    events.append(decode(record, TYPES))  # type: ignore[arg-type]
                except Rejected as rejected:
                    await dead_letters.set_aside(tx, topic, GROUP, [DeadLetter(record, rejected.reason, rejected.detail)])  # type: ignore[arg-type]
            handler = self.folding.on_register if topic is self.topics[REGISTRY_EVENTS.name] else self.folding.on_entities
            await handler(events, tx)  # type: ignore[arg-type]


def story() -> list[Told]:
    """Registers late, lives shuffled, copies, a course that changes, and days before 1970 and without end."""
    told = [one for number in range(PERSONS) for one in life(number)]
    told += [
        person("Hoa", ("23377", "1960-05-01", "9999-12-31"), groups=("CIT", "PUB")),
        enrolled("Hoa", "BXD1", "1969-12-31T16:59:59Z", "1969-12-31T17:00:00Z"),
        completed("Hoa", "BXD1", "1969-12-30T23:00:00.000001Z"),
        enrolled("Cúc", "BXD1", "2026-06-20T02:00:00Z"),
        completed("Cúc", "BXD1", "2026-07-20T02:00:00Z"),
    ]
    order = random.Random(5)  # noqa: S311  # repeats
    told += order.sample(told, 40)
    order.shuffle(told)
    return [*told, *TERRITORY, course("BXD1", "KH-440"), course("MOOC"), course("BXD1", "KH-440", "KH-441", "KH-441", version=2)]


async def redrive_some(world: World) -> Desk:
    """Five letters: one mended and redriven, one redriven as it came, one mended only, one dropped, one left alone.

    What is redriven stands behind newer and older records of the same persons, as it does in life.
    """
    await world.write(story())
    enrollments, completions = world.topics[ENROLLMENT_EVENTS.name], world.topics[ASSESSMENT_EVENTS.name]
    begun = [enrolled(f"Late {number}", "BXD1", "2026-05-02T02:00:00Z", "2026-05-03T02:00:00Z") for number in range(5)]
    done = completed("Late 1", "BXD1", "2026-05-04T02:00:00Z")
    mistyped = [(name, b"vn.hocvu.enrollment.enrollment.begun.v1" if name == "ce_type" else text) for name, text in begun[0].headers]
    records = [(mistyped, begun[0].value), (begun[2].headers, b"{"), (begun[3].headers, b"{"), (begun[4].headers, b"{")]
    await bake(world.infra.bootstrap_servers, enrollments, records, 0)
    await bake(world.infra.bootstrap_servers, completions, [(done.headers, b'{"completed_at": "soon"}')], 1)
    await world.write([begun[1]])
    await world.work()
    desk = Desk(world.pool, GROUP, subscriptions(world), ReasonBook())
    letters = {(entry.topic, entry.offset): entry.letter_id for entry in await desk.page(Filter())}
    assert len(letters) == 5
    first = min(offset for topic, offset in letters if topic == enrollments.name)
    by_number = {number: letters[enrollments.name, first + place] for place, number in enumerate((0, 2, 3, 4))}
    (done_letter,) = [letter for (topic, _), letter in letters.items() if topic == completions.name]
    await desk.edit(by_number[0], Mending(headers={"ce_type": begun[0].type.name}), "lan", "mistyped")
    await desk.edit(done_letter, Mending(data=done.value), "lan", "from the owner")
    await desk.edit(by_number[2], Mending(data=begun[2].value), "lan", "not applied yet")
    await desk.drop(Filter(ids=(by_number[3],)), "lan", "test")
    outcome = await desk.redrive(Filter(ids=(by_number[0], done_letter)), "lan")
    assert (outcome.done, outcome.refused) == (2, {})
    assert await desk.count(Filter()) == {"not_json": 2}
    return desk


def subscriptions(world: World) -> list[Subscription]:
    """What the service reads, on the topics of this test."""
    handlers: dict[str, Handler] = {
        REGISTRY_EVENTS.name: world.folding.on_register,
        ENROLLMENT_EVENTS.name: world.folding.on_entities,
        ASSESSMENT_EVENTS.name: world.folding.on_entities,
    }
    return [
        Subscription(world.topics[name], {known: handler for known in TYPES.values() if known.topic == name}) for name, handler in handlers.items()
    ]
