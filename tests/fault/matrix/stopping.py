"""Faults at which the house must stop rather than skip, and go on when a person has decided or mended."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.contracts.topics import OUTCOME_FACTS, PLATFORM_EVENTS, Topic
from tests.fault.harness import witness
from tests.fault.harness.faults import control, fault
from tests.fault.harness.findings import Finding
from tests.fault.harness.ledger import Offer, good_offer
from tests.fault.harness.poison import ON_KAFKA
from tests.fault.harness.run import Run
from tests.fault.harness.telling import halted, unready
from tests.fault.harness.through import behind
from tests.support.tampering import delete_before, recreate
from tests.support.waiting import eventually

NO_STOPS = "tests.fault.harness.careless.consuming:without_stops"

PATIENCE_S = 60.0
"""Longest wait for a service to say something, seconds."""

_ROWS = "SELECT partition, next_offset FROM consumed_offset WHERE consumer_group = $1 AND topic = $2"

_SUM = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumed_offset"

_LETTERS = "SELECT count(*) FROM dead_letter WHERE header_values && (SELECT array_agg(convert_to(mark, 'UTF8')) FROM unnest($1::text[]) AS mark)"


@fault("BR8", "retention passes a consumer that is away; accepted, and sent again", seconds=4.0)
async def retention_passes(run: Run) -> None:
    system = run.system
    for number in range(1, system.workers + 1):
        system.process("enrollment", number).kill()
    unread = await eventually(lambda: _unread(run, PLATFORM_EVENTS, "enrollment"), within=PATIENCE_S)
    passed = dict(run.draw.sample(sorted(unread.items()), min(3, len(unread))))
    taken = [one for one in run.ledger.offers if one.acknowledged]
    for partition, end in passed.items():
        await delete_before(system.bootstrap_servers, PLATFORM_EVENTS, end, partition)
    for number in range(1, system.workers + 1):
        await system.restart("enrollment", number)
    await eventually(lambda: _stands_still(run, "enrollment", "records_lost_to_retention", len(passed)), within=PATIENCE_S)
    told = " ".join((await unready(system)).values())
    assert all(f"partition {partition} of {PLATFORM_EVENTS.name}: the broker has deleted offsets" in told for partition in passed), told
    await _decide(run, "enrollment", "accept-loss", "--topic", PLATFORM_EVENTS.name)
    await eventually(lambda: _stands_still(run, "enrollment", "", 0), within=PATIENCE_S)
    await _send_again(run, taken)


@control("retention-skipped", "offset rows are not compared with the logs, and retention passes a consumer", catches=("I1",), persons=40)
async def retention_is_skipped(run: Run) -> Sequence[Finding]:
    for number in range(1, run.system.workers + 1):
        run.system.process("enrollment", number).kill()
    await run.offer(run.ledger.offers)
    for partition, end in (await _unread(run, PLATFORM_EVENTS, "enrollment")).items():
        await delete_before(run.system.bootstrap_servers, PLATFORM_EVENTS, end, partition)
    for number in range(1, run.system.workers + 1):
        process = run.system.start_replica("enrollment", number, prepare=[NO_STOPS])
        await process.wait_ready()
    assert await _stands_still(run, "enrollment", "", 0), "the bug would be told"
    return await run.verdict()


@fault("BR9", "a topic is deleted and made again under its readers", seconds=4.0)
async def topic_made_again(run: Run) -> None:
    system = run.system
    for number in range(1, system.workers + 1):
        system.process("enrollment", number).kill()  # nobody writes the topic meanwhile
    await eventually(lambda: _has_read(run, OUTCOME_FACTS, "assessment"), within=PATIENCE_S)
    await recreate(system.bootstrap_servers, OUTCOME_FACTS, 3)
    await run.lab.reader.begin_again(OUTCOME_FACTS)
    for number in range(1, system.workers + 1):
        await system.restart("enrollment", number)
    await eventually(lambda: _stands_still(run, "assessment", "topic_was_recreated", OUTCOME_FACTS.partitions), within=PATIENCE_S)
    async with run.system.database("assessment") as connection:
        await witness.forget(connection, OUTCOME_FACTS.name)
    await _decide(run, "assessment", "accept-loss", "--topic", OUTCOME_FACTS.name)
    await eventually(lambda: _stands_still(run, "assessment", "", 0), within=PATIENCE_S)


@fault("X3", "a fifth of a partition is bad: it stops, the others go on, a person lets it pass", seconds=4.0)
async def too_much_is_bad(run: Run) -> None:
    system = run.system
    bad = _bad_on_one_partition(run, 200)
    await run.offer(bad)
    await eventually(lambda: _stands_still(run, "enrollment", "fuse_blown", 1), within=PATIENCE_S)
    (partition,) = [place for place in range(PLATFORM_EVENTS.partitions) if f"partition {place} of" in " ".join((await unready(system)).values())]
    there = await _ends(run, PLATFORM_EVENTS)
    del there[partition]
    await eventually(lambda: _stands_at(run, PLATFORM_EVENTS, "enrollment", there), within=PATIENCE_S)
    before = await _letters(run, bad)
    assert before <= 51, f"{before} bad records of partition {partition} were set aside before it stopped"
    for number in range(1, system.workers + 1):
        system.process("enrollment", number).kill()
        await system.restart("enrollment", number)
    await eventually(lambda: _stands_still(run, "enrollment", "fuse_blown", 1), within=PATIENCE_S)
    after = await _letters(run, bad)
    assert after - before <= 1, f"a restart let {after - before} more bad records pass"
    await _decide(run, "enrollment", "accept-bad", "--topic", PLATFORM_EVENTS.name, "--partition", str(partition))
    await eventually(lambda: _stands_still(run, "enrollment", "", 0), within=PATIENCE_S)


@fault("DB10", "synchronous_commit=off is switched on under running services, then off again", seconds=4.0)
async def database_made_unsafe(run: Run) -> None:
    system = run.system
    await asyncio.sleep(run.draw.uniform(0.2, 1.0))
    await _set(run, "ALTER SYSTEM SET synchronous_commit TO off")
    try:
        await eventually(lambda: _all_refuse(run, "synchronous_commit=off"), within=PATIENCE_S)
        before = await _sums(run)
        victim = ("enrollment", run.draw.randint(1, system.workers))
        system.process(*victim).kill()
        await system.restart(*victim)
        await eventually(lambda: _all_refuse(run, "synchronous_commit=off"), within=PATIENCE_S)
        assert await _sums(run) == before, "something was committed under unsafe settings"
    finally:
        await _set(run, "ALTER SYSTEM RESET synchronous_commit")
    await eventually(lambda: _nobody_refuses(run), within=PATIENCE_S)


async def _stands_still(run: Run, service: str, reason: str, partitions: int) -> bool:
    return dict(await halted(run.system, service)) == ({reason: partitions} if partitions else {})


async def _decide(run: Run, service: str, *words: str) -> None:
    done = await run.system.command(service, *words, "--by", "an operator of the tests", "--why", "the fault wants it so")
    assert done.returncode == 0, done.stdout


async def _send_again(run: Run, offers: list[Offer]) -> None:
    """What a platform does when it is told that facts are missing."""
    for one in offers:
        one.acknowledged = False
    await run.offer(offers)


def _bad_on_one_partition(run: Run, many: int) -> list[Offer]:
    """Bad records with one key, which therefore lie on one partition."""
    fact = run.draw.choice(run.ledger.facts)
    made = []
    for _ in range(many):
        number = len(run.ledger.offers)
        named = replace(fact, id=f"x3-{number}")
        one = good_offer(number, run.ledger.source, named, "kafka")
        one.refused_as = "schema_violation"
        dict(ON_KAFKA)[one.refused_as](one, named)
        run.ledger.offers.append(one)
        made.append(one)
    return made


async def _rows(run: Run, topic: Topic, service: str) -> dict[int, int]:
    async with run.system.database(service) as connection:
        return {row[0]: row[1] for row in await connection.fetch(_ROWS, service, topic.name)}


async def _ends(run: Run, topic: Topic) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=run.system.bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic.name, partition) for partition in range(topic.partitions)])
    finally:
        await consumer.stop()
    return {place.partition: end for place, end in ends.items()}


async def _unread(run: Run, topic: Topic, service: str) -> dict[int, int]:
    """Ends of the partitions of which something is not applied; once there are three of them."""
    rows = await _rows(run, topic, service)
    found = {partition: end for partition, end in (await _ends(run, topic)).items() if end > rows.get(partition, 0) + 1}
    return found if len(found) >= 3 else {}


async def _has_read(run: Run, topic: Topic, service: str) -> bool:
    return await behind(run.system, run.lab.reader, service, [topic]) is None


async def _stands_at(run: Run, topic: Topic, service: str, ends: Mapping[int, int]) -> bool:
    """Whether everything before these ends is applied; the last offset may be a marker, which is no record."""
    rows = await _rows(run, topic, service)
    return all(rows.get(partition, 0) >= end - 1 for partition, end in ends.items())


async def _letters(run: Run, bad: Sequence[Offer]) -> int:
    """How many of these are set aside."""
    async with run.system.database("enrollment") as connection:
        return int(await connection.fetchval(_LETTERS, [one.mark.decode() for one in bad]))


async def _set(run: Run, statement: str) -> None:
    async with run.system.database("enrollment") as connection:
        await connection.execute(statement)
        await connection.execute("SELECT pg_reload_conf()")


async def _sums(run: Run) -> list[int]:
    """How far each service has come."""
    found = []
    for service in ("enrollment", "assessment", "reporting", "notifications"):
        async with run.system.database(service) as connection:
            found.append(int(await connection.fetchval(_SUM)))
    return found


async def _all_refuse(run: Run, words: str) -> bool:
    told = await unready(run.system)
    return all(words in told.get(replica, "") for replica, process in run.system.processes.items() if process.alive)


async def _nobody_refuses(run: Run) -> bool:
    return not any("refuses" in told for told in (await unready(run.system)).values())
