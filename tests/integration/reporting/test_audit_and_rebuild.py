"""Recount and rebuild from real topics: equal to what the fold made, and able to see what is not."""

import asyncio
import random
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from deploy.local import postgres_folders
from services.reporting import audit, rebuild
from services.reporting.figures.handlers import Folding
from services.reporting.periods import store
from services.reporting.periods.domain import period
from shared.chassis import dead_letters, offsets
from shared.chassis.applying import Handler, Subscription
from shared.chassis.database import Pool, transaction
from shared.chassis.dead_letters import DeadLetter
from shared.chassis.decode import decode
from shared.chassis.errors import Rejected
from shared.chassis.letters.desk import Desk, Outcome
from shared.chassis.letters.mending import Mending
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.letters.store import Filter
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS, Topic
from tests.integration.reporting.test_fold import life
from tests.integration.reporting.told import TERRITORY, Told, completed, course, enrolled, figures, fold, person
from tests.support.bakery import bake, read
from tests.support.infrastructure import Infrastructure
from tests.support.waiting import eventually

pytestmark = pytest.mark.service("reporting")

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
                    events.append(decode(record, rebuild._TYPES))  # type: ignore[arg-type]
                except Rejected as rejected:
                    await dead_letters.set_aside(tx, topic, GROUP, [DeadLetter(record, rejected.reason, rejected.detail)])  # type: ignore[arg-type]
            handler = self.folding.on_register if topic is self.topics[REGISTRY_EVENTS.name] else self.folding.on_entities
            await handler(events, tx)  # type: ignore[arg-type]


@pytest.fixture
async def world(infra: Infrastructure, dsn: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> World:
    run = secrets.token_hex(3)
    topics = {
        topic.name: replace(topic, name=f"{topic.name}-{run}", partitions=2) for topic in (REGISTRY_EVENTS, ENROLLMENT_EVENTS, ASSESSMENT_EVENTS)
    }
    await ensure_topics(infra.bootstrap_servers, list(topics.values()), 1)
    monkeypatch.setattr(audit, "TOPICS", tuple(topic.name for topic in topics.values()))
    monkeypatch.setattr(rebuild, "_TOPICS", tuple(topics.values()))
    monkeypatch.setattr(rebuild, "REGISTRY_EVENTS", topics[REGISTRY_EVENTS.name])
    monkeypatch.setattr(rebuild, "CLOSE", 20)
    return World(infra, dsn, pool, topics, Folding())


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


async def test_the_recount_agrees_in_every_cell_and_sees_one_that_was_altered_and_one_that_was_lost(world: World) -> None:
    await world.write(story())
    await world.work(most=90)
    servers = world.infra.bootstrap_servers
    half = await audit.audit(world.pool, servers)
    assert (half.cells_differing, half.cells_compared > 100) == (0, True), half.examples
    await world.work()
    whole = await audit.audit(world.pool, servers)
    assert whole.cells_differing == 0, whole.examples
    assert whole.cells_compared > half.cells_compared > 0
    await world.pool.execute(
        "UPDATE figure SET n_pub = n_pub + 1 WHERE (indicator, course_set, node, day) = ('I-01', 'ALL', 'VN', DATE '1969-12-31')"
    )
    altered = await audit.audit(world.pool, servers)
    assert altered.examples == (("I-01", "ALL", "VN", "1969-12-31", "pub", "1", "0"),)
    await world.pool.execute("DELETE FROM figure WHERE (indicator, course_set, node, day) = ('I-01', 'ALL', 'VN', DATE '1969-12-31')")
    lost = await audit.audit(world.pool, servers)
    assert {example[4] for example in lost.examples} == {"all", "ungrouped"}
    runs = await world.pool.fetch("SELECT cells_differing FROM audit_run ORDER BY audit_run_id")
    assert [row[0] for row in runs] == [0, 0, 1, 2]
    await audit.show_last(world.pool)
    assert REGISTRY.get_sample_value("audit_drift_cells") == 2
    assert REGISTRY.get_sample_value("audit_cells_compared") == lost.cells_compared
    assert REGISTRY.get_sample_value("audit_last_success_timestamp_seconds")


async def test_the_recount_finds_persons_that_were_counted_without_being_told(world: World) -> None:
    await world.write(story())
    await world.work()
    async with transaction(world.pool) as tx:
        await fold(Folding(), tx, [person("Ghost", ("23377", "2020-01-01")), enrolled("Ghost", "BXD1", "2026-01-02T02:00:00Z")])
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing > 0


async def test_records_that_were_set_aside_are_in_no_figure_and_in_no_recount(world: World) -> None:
    await world.write(story())
    enrollments = world.topics[ENROLLMENT_EVENTS.name]
    headers = life(1)[2].headers
    await bake(world.infra.bootstrap_servers, enrollments, [(headers, b"\xff{"), (headers, b'{"version": 0}'), ([], b"{}")], 0)
    await world.work()
    assert await world.pool.fetchval("SELECT count(*) FROM dead_letter") == 3
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0
    assert (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal


async def _redrive_some(world: World) -> Desk:
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
    desk = Desk(world.pool, GROUP, _subscriptions(world), ReasonBook())
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


def _subscriptions(world: World) -> list[Subscription]:
    """What the service reads, on the topics of this test."""
    handlers: dict[str, Handler] = {
        REGISTRY_EVENTS.name: world.folding.on_register,
        ENROLLMENT_EVENTS.name: world.folding.on_entities,
        ASSESSMENT_EVENTS.name: world.folding.on_entities,
    }
    return [
        Subscription(world.topics[name], {known: handler for known in rebuild._TYPES.values() if known.topic == name})
        for name, handler in handlers.items()
    ]


async def test_what_was_redriven_is_in_the_recount_as_it_was_mended_and_what_was_not_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await _redrive_some(world)
    found = await audit.audit(world.pool, world.infra.bootstrap_servers)
    assert found.cells_differing == 0, found.examples
    monkeypatch.setattr(audit, "_LETTERS", audit._LETTERS.replace("'redriven' THEN", "'nothing' THEN").replace("state,", "'open' AS state,"))
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing > 0, "a recount that skips what was redriven is seen"


async def test_a_rebuild_applies_what_was_redriven_as_it_was_mended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await _redrive_some(world)
    right = await figures(world.pool)
    assert (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal
    assert await figures(world.pool) == right

    async def skip(_: object) -> None:
        return

    monkeypatch.setattr(rebuild._Work, "apply_redriven", skip)
    assert not (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal, "a rebuild that skips what was redriven is seen"


async def test_what_is_redriven_while_a_rebuild_has_passed_its_place_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, read_on = await _redrive_some(world), rebuild._Work.apply
    mended = [entry.letter_id for entry in await desk.page(Filter()) if entry.edited]
    outcomes: list[Outcome] = []

    async def read_on_and_redrive(work: rebuild._Work, targets: dict[TopicPartition, int]) -> None:
        await read_on(work, targets)
        if not outcomes:
            outcomes.append(await desk.redrive(Filter(ids=tuple(mended)), "lan"))

    monkeypatch.setattr(rebuild._Work, "apply", read_on_and_redrive)
    assert (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal
    assert [outcome.done for outcome in outcomes] == [1]
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0


async def test_nothing_was_applied_yet(world: World) -> None:
    found = await audit.audit(world.pool, world.infra.bootstrap_servers)
    assert (found.cells_compared, found.cells_differing) == (0, 0)
    assert (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal


async def test_a_rebuild_gives_the_same_bytes_and_live_work_goes_on(world: World) -> None:
    await world.write(story())
    await world.work(most=100)
    before = await figures(world.pool)
    schema = _schema(world)
    done = await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)
    assert done.equal
    assert await figures(world.pool) == before
    assert _schema(world) == schema
    await world.work()
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0
    assert (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal


async def test_a_rebuild_beside_a_worker_that_does_not_stop(world: World) -> None:
    await world.write(story())
    await world.work(most=60)

    async def live() -> None:
        for _ in range(12):
            await world.work(most=20)

    done, _ = await asyncio.gather(rebuild.rebuild(world.pool, world.infra.bootstrap_servers), live())
    assert done.equal
    await world.work()
    found = await audit.audit(world.pool, world.infra.bootstrap_servers)
    assert found.cells_differing == 0, found.examples
    assert await world.pool.fetchval("SELECT count(*) FROM person_document") == PERSONS + 2


async def test_a_rebuild_tells_and_mends_what_was_wrong(world: World) -> None:
    await world.write(story())
    await world.work()
    right = await figures(world.pool)
    await world.pool.execute("UPDATE figure SET n_all = n_all + 1 WHERE node = 'VN' AND indicator = 'I-04'")
    done = await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)
    assert not done.equal
    assert await figures(world.pool) == right


async def test_a_rebuild_that_fails_changes_nothing_and_can_be_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.write(story())
    await world.work()
    right, real = await figures(world.pool), rebuild._switch

    async def fails(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rebuild, "_switch", fails)
    with pytest.raises(ZeroDivisionError):
        await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)
    assert await figures(world.pool) == right
    monkeypatch.setattr(rebuild, "_switch", real)
    assert (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal


async def test_who_reads_figures_from_a_snapshot_keeps_the_exchange_waiting(world: World) -> None:
    await world.write(story())
    await world.work()
    async with world.pool.acquire() as reader:
        async with reader.transaction(isolation="repeatable_read"):
            await store.hold(reader)
            right = await store.figures(reader, "VN", period("2026Q3"))
            running = asyncio.create_task(rebuild.rebuild(world.pool, world.infra.bootstrap_servers))
            await eventually(lambda: world.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'figure'::regclass"))
            assert await store.figures(reader, "VN", period("2026Q3")) == right
        assert (await running).equal
        assert await store.figures(reader, "VN", period("2026Q3")) == right


async def test_control_a_snapshot_without_the_lock_sees_the_new_tables_half_filled(world: World) -> None:
    """What a report would copy that is frozen while a rebuild ends, if it did not hold the figures first."""
    await world.write(story())
    await world.work()
    async with world.pool.acquire() as reader, reader.transaction(isolation="repeatable_read"):
        await reader.fetch("SELECT count(*) FROM report")
        assert (await rebuild.rebuild(world.pool, world.infra.bootstrap_servers)).equal
        assert await store.figures(reader, "VN", period("2026Q3")) == []
    async with world.pool.acquire() as reader:
        assert await store.figures(reader, "VN", period("2026Q3")) != []


def _schema(world: World) -> list[str]:
    """Everything of the schema except the token that pg_dump draws for each run."""
    command = [str(postgres_folders.programs() / "pg_dump"), "--schema-only", world.dsn]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in told.splitlines() if not line.startswith("\\")]
