"""What an older release could not read is applied on a replay; from then on it is in the figures, also for whoever makes them again."""

import pytest

from services.reporting import audit
from services.reporting.rebuild.rebuilding import rebuild
from shared.chassis.consume import Subscription
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.letters.store import Filter
from shared.chassis.topics import ensure_topics
from shared.contracts.enrollment import ENROLLMENT_STARTED
from shared.contracts.envelope import EventType
from tests.integration.reporting.world import GROUP, World, story, subscriptions
from tests.support.bakery import read
from tests.support.running import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("reporting")

_APPLIED = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumed_offset WHERE topic = $1"


async def _consume(world: World, unknown: EventType[object] | None = None) -> None:
    """Let consumers apply everything, of a release that does not know one type."""
    servers = world.infra.bootstrap_servers
    await ensure_topics(servers, [wanted.topic.dead_letters(GROUP) for wanted in subscriptions(world)], 1)
    for wanted in subscriptions(world):
        there = len(await read(servers, wanted.topic.name, wanted.topic.partitions))
        known = {one: handler for one, handler in wanted.handlers.items() if one is not unknown}

        async def through(topic: str = wanted.topic.name, records: int = there) -> bool:
            return bool(await world.pool.fetchval(_APPLIED, topic) == records)

        async with running(servers, world.pool, Subscription(wanted.topic, known), GROUP):
            await eventually(through)


async def test_a_rebuild_holds_what_a_service_learned_to_read(world: World) -> None:
    await world.write(story())
    await _consume(world, ENROLLMENT_STARTED)
    desk = Desk(world.pool, GROUP, subscriptions(world), ReasonBook())
    assert (await desk.count(Filter()))["unknown_type"] > 0
    await world.pool.execute("UPDATE consumed_offset SET next_offset = 0")
    await _consume(world)
    assert await desk.count(Filter()) == {}
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
