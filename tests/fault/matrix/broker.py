"""Faults of the brokers, of which there are three: a write counts once two have it."""

import asyncio
import time
from functools import partial

from deploy.local.layout import SERVICES
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, OUTCOME_FACTS, PLATFORM_EVENTS, REPORT_EVENTS
from tests.fault.harness.brokers import Place, add_partitions, coordinator, leaders, partitions, patient, until_in_sync
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.fault.harness.servers import BROKERS
from tests.fault.harness.topic_reader import READ
from tests.support.waiting import eventually

BUSY = (PLATFORM_EVENTS, ENROLLMENT_EVENTS, OUTCOME_FACTS, ASSESSMENT_EVENTS)
"""Topics that every run writes to."""

MOVES_S = 20.0
"""Longest wait for another broker to step in, seconds; a broker that is silent for 3 s is dead to the others."""

NOBODY = "127.0.0.1:9"
"""An address at which nobody listens."""

CLEAN_S = 9.0
"""A broker that was asked to stop must have stopped by itself within this, seconds: not long after it would be killed."""


async def _busy_place(run: Run) -> tuple[Place, int]:
    """A partition with traffic, and who leads it."""
    topic = run.draw.choice(BUSY)
    place = topic.name, run.draw.randrange(topic.partitions)
    return place, (await leaders(run.system))[place]


async def _until_led_by_another(run: Run, place: Place, before: int) -> None:
    async def look() -> bool:
        return (await leaders(run.system))[place] not in (before, -1)

    await eventually(patient(look), MOVES_S)


async def _started_again(run: Run, node: int) -> None:
    await asyncio.to_thread(run.system.start_broker, node)
    await until_in_sync(run.system)


@fault("BR1", "kill -9 of a partition leader", seconds=6.0)
async def leader_killed(run: Run) -> None:
    place, node = await _busy_place(run)
    await asyncio.sleep(run.draw.uniform(0.2, 0.8))
    await asyncio.to_thread(run.system.kill_broker, node)
    await _until_led_by_another(run, place, node)
    await _started_again(run, node)


@fault("BR2", "SIGSTOP of a partition leader until it is replaced, SIGCONT", seconds=6.0)
async def leader_frozen(run: Run) -> None:
    place, node = await _busy_place(run)
    await asyncio.sleep(run.draw.uniform(0.2, 0.8))
    pid = run.system.broker_pid(node)
    run.system.freeze_broker(node)
    await _until_led_by_another(run, place, node)
    await asyncio.sleep(run.draw.uniform(0.0, 1.0))
    run.system.wake_broker(node)
    await until_in_sync(run.system)
    assert run.system.broker_pid(node) == pid is not None, "the frozen broker did not wake up, another one was started"


@fault("BR3", "rolling restart of all brokers", seconds=12.0)
async def brokers_restarted(run: Run) -> None:
    for node in run.draw.sample(BROKERS, len(BROKERS)):
        began = time.monotonic()
        await asyncio.to_thread(run.system.stop_broker, node)
        assert time.monotonic() - began < CLEAN_S, f"broker {node} did not stop by itself"
        await _started_again(run, node)


@fault("BR4", "a group's coordinator moves: its broker is stopped or killed", seconds=6.0)
async def coordinator_moved(run: Run) -> None:
    group = run.draw.choice(SERVICES)
    node = await coordinator(run.system, group)
    await asyncio.sleep(run.draw.uniform(0.2, 0.8))
    await asyncio.to_thread(run.draw.choice((run.system.stop_broker, run.system.kill_broker)), node)

    async def look() -> bool:
        return await coordinator(run.system, group) != node

    await eventually(patient(look), MOVES_S)
    await _started_again(run, node)


@fault("BR10", "the first address of a broker is dead: every process starts all the same", seconds=5.0)
async def dead_address(run: Run) -> None:
    told = {f"{service.upper()}_KAFKA_BOOTSTRAP_SERVERS": ",".join((NOBODY, run.system.doors.kafka_servers[0])) for service in SERVICES}
    for env in (told, {}):
        for service, number in run.draw.sample(list(run.system.processes), len(run.system.processes)):
            run.system.process(service, number).kill()
            run.system.start_replica(service, number, env)
        await run.system.ready()


@fault("BR7", "partitions are added to every topic, so keys move", seconds=5.0, bad=0.0)
async def partitions_added(run: Run) -> None:
    """What the system promises, whoever adds them.

    Facts are free of order, so platforms' keys may move. What we write ourselves goes where the contract says: there the new
    partitions stay empty, and the last record of a key is its newest. Readers take the new partitions over by themselves.
    (Of two facts with one id the first one stands. Which is first, nobody can say when their key moves, so none are offered.)
    """
    before = await partitions(run.system.bootstrap_servers)
    await add_partitions(run.system, {topic.name: before[topic.name] + 1 for topic in READ})
    await run.lab.reader.close()
    # A platform that connects now writes to the new partition too.
    ledger = run.another(persons=60, http=0.0)
    await run.offer_all(ledger)
    await run.lab.reader.catch_up()
    added = {topic.name: before[topic.name] for topic in READ}
    ends = {name: run.lab.reader.next_after_last.get((name, partition), 0) for name, partition in added.items()}
    assert ends[PLATFORM_EVENTS.name] > 0, "no platform wrote to the new partition"
    assert not any(ends[topic.name] for topic in (ENROLLMENT_EVENTS, ASSESSMENT_EVENTS, OUTCOME_FACTS)), f"keys of ours moved: {ends}"
    for topic in (*BUSY, REPORT_EVENTS):
        for group in topic.readers:
            await eventually(partial(_reads, run, group, topic.name, added[topic.name]))


async def _reads(run: Run, group: str, topic: str, partition: int) -> bool:
    async with run.system.database(group) as connection:
        return bool(await connection.fetchval("SELECT count(*) FROM consumed_offset WHERE topic = $1 AND partition = $2", topic, partition))
