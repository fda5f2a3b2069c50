"""Stop rather than skip, on the real broker: retention that passed the consumer, topics made again, logs cut back.

Every test has its control: with the comparison removed, records are skipped and nobody is told.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from shared.chassis import stops
from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Pool
from shared.chassis.decide import Decider, NothingToDecide
from shared.chassis.health import progress
from shared.chassis.places import Places
from tests.support.bakery import SCHEMA, Bakery, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.running import Running, running
from tests.support.tampering import add_partitions, bake_in_a_transaction, delete_before, delete_topic, recreate
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
async def _tables(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(SCHEMA)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.chassis.subscribe.LAG_EVERY_S", 0.2)


@pytest.fixture(params=[True, False], ids=["guarded", "careless"])
def guarded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether rows are compared with logs; the control goes without."""
    if not request.param:
        monkeypatch.setattr(stops, "lost", lambda *_: None)
    return bool(request.param)


class _Oven:
    """A bakery with one partition, its consumer, and what was baked."""

    def __init__(self, infra: Infrastructure, pool: Pool, bakery: Bakery) -> None:
        self.servers = infra.bootstrap_servers
        self.pool = pool
        self.bakery = bakery

    async def bake(self, first: int, after: int, partition: int = 0) -> None:
        await bake(self.servers, self.bakery.loaves, [(headers(n), loaf(n)) for n in range(first, after)], partition)

    async def baked(self) -> list[int]:
        """Numbers of the loaves that were counted, as often as they were."""
        async with self.pool.acquire() as connection:
            rows = await connection.fetch("SELECT loaf, times FROM baked")
        return sorted(int(row["loaf"].partition("-")[2]) for row in rows for _ in range(row["times"]))

    async def are_baked(self, numbers: Sequence[int]) -> bool:
        return await self.baked() == list(numbers)

    async def row(self, partition: int = 0) -> tuple[int, int | None]:
        async with self.pool.acquire() as connection:
            found = await connection.fetchrow("SELECT next_offset, first_offset FROM consumed_offset WHERE partition = $1", partition)
        assert found is not None
        return found["next_offset"], found["first_offset"]

    async def apply(self, numbers: Sequence[int]) -> None:
        """Work until these are counted, and stop."""
        async with self.work():
            await eventually(lambda: self.are_baked(numbers))

    def work(self, kind: type[BatchConsumer] = BatchConsumer) -> AbstractAsyncContextManager[Running]:
        return running(self.servers, self.pool, self.bakery.subscription(sell=False), self.bakery.group, kind)

    def decider(self) -> Decider:
        return Decider(self.pool, self.servers, self.bakery.group, self.bakery.loaves.name, "the baker", "the flour is gone")


@pytest.fixture
async def oven(infra: Infrastructure, pool: Pool) -> _Oven:
    return _Oven(infra, pool, await open_bakery(infra.bootstrap_servers, partitions=1))


def _stopped(work: Running, reason: stops.Reason, partition: int = 0) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        stop = work.consumer.progress.halted.get(partition)
        return stop is not None and stop.reason == reason

    return check


async def _readiness(work: Running) -> str:
    return await progress("loaves", work.consumer.progress)() or ""


async def test_retention_that_passed_the_consumer_stops_it(oven: _Oven, *, guarded: bool) -> None:
    await oven.bake(0, 10)
    await oven.apply(range(10))
    await oven.bake(10, 20)
    await delete_before(oven.servers, oven.bakery.loaves, 15)
    async with oven.work() as work:
        if guarded:
            await eventually(_stopped(work, "records_lost_to_retention"))
            told = await _readiness(work)
            assert f"partition 0 of {oven.bakery.loaves.name}: the broker has deleted offsets 10 to 14 before they were applied" in told
            assert stops.RUNBOOK in told
            assert await oven.baked() == list(range(10))
        else:
            await eventually(lambda: oven.are_baked([*range(10), *range(15, 20)]))
            assert await _readiness(work) == ""


async def test_retention_that_left_nothing_stops_it_though_no_record_comes(oven: _Oven, *, guarded: bool) -> None:
    await oven.bake(0, 10)
    await oven.apply(range(10))
    await oven.bake(10, 20)
    await delete_before(oven.servers, oven.bakery.loaves, 20)
    async with oven.work() as work:
        if guarded:
            await eventually(_stopped(work, "records_lost_to_retention"))
        else:
            await oven.bake(20, 25)
            await eventually(lambda: oven.are_baked([*range(10), *range(20, 25)]))


async def test_retention_that_passes_a_running_consumer_stops_it(oven: _Oven, *, guarded: bool) -> None:
    await oven.bake(0, 10)
    async with oven.work() as work:
        await eventually(lambda: oven.are_baked(range(10)))
        live = work.consumer.consumer
        assert live is not None
        live.pause(*live.assignment())  # so slow that retention is faster
        await oven.bake(10, 20)
        await delete_before(oven.servers, oven.bakery.loaves, 20)
        for place in live.assignment():
            live.seek(place, 10)  # a fetch under way at the pause may have brought the records that are gone now
        if guarded:
            await eventually(_stopped(work, "records_lost_to_retention"))
        else:
            live.resume(*live.assignment())
            await oven.bake(20, 25)
            await eventually(lambda: oven.are_baked([*range(10), *range(20, 25)]))


async def test_a_partition_that_was_begun_and_never_moved_stops_too(oven: _Oven, *, guarded: bool) -> None:
    async with oven.work():
        await eventually(lambda: _is_begun(oven))
    await oven.bake(0, 10)
    await delete_before(oven.servers, oven.bakery.loaves, 5)
    async with oven.work() as work:
        if guarded:
            await eventually(_stopped(work, "records_lost_to_retention"))
        else:
            await eventually(lambda: oven.are_baked(range(5, 10)))


async def test_who_comes_to_a_topic_late_begins_with_what_is_there(oven: _Oven) -> None:
    await oven.bake(0, 10)
    await delete_before(oven.servers, oven.bakery.loaves, 5)
    await oven.apply(range(5, 10))
    assert await oven.row() == (10, 5)
    await oven.apply(range(5, 10))


async def test_partitions_that_come_later_are_begun_at_their_first_record(oven: _Oven, *, guarded: bool) -> None:
    """The group was there before they were, so a missing beginning is a loss."""
    await oven.bake(0, 10)
    await oven.apply(range(10))
    await add_partitions(oven.servers, oven.bakery.loaves, 2)
    await oven.bake(10, 20, partition=1)
    await delete_before(oven.servers, oven.bakery.loaves, 5, partition=1)
    async with oven.work() as work:
        if guarded:
            await eventually(_stopped(work, "records_lost_to_retention", partition=1))
        else:
            await eventually(lambda: oven.are_baked([*range(10), *range(15, 20)]))


@pytest.mark.parametrize("records", [5, 10, 15])
async def test_a_topic_that_was_made_again_stops_the_consumer(oven: _Oven, records: int, *, guarded: bool) -> None:
    """With fewer records than were applied, as many, and more."""
    await oven.bake(0, 10)
    await oven.apply(range(10))
    await recreate(oven.servers, oven.bakery.loaves)
    await oven.bake(100, 100 + records)
    async with oven.work() as work:
        if guarded:
            await eventually(_stopped(work, "topic_was_recreated"))
            assert "was deleted and made again" in await _readiness(work)
            assert await oven.baked() == list(range(10))
        elif records == 15:
            await eventually(lambda: oven.are_baked([*range(10), *range(110, 115)]))
            assert await _readiness(work) == ""


async def test_a_topic_that_is_made_again_under_a_running_consumer_stops_it_and_a_person_lets_it_go_on(oven: _Oven) -> None:
    await oven.bake(0, 10)
    async with oven.work() as work:
        await eventually(lambda: oven.are_baked(range(10)))
        await recreate(oven.servers, oven.bakery.loaves)
        await eventually(_stopped(work, "topic_was_recreated"))
        await oven.bake(100, 115)
        with pytest.raises(NothingToDecide):
            await oven.decider().accept_loss(7)
        (decision,) = await oven.decider().accept_loss()
        assert (decision.partition, decision.before, decision.after) == (0, 10, 0)
        await eventually(lambda: oven.are_baked([*range(10), *range(100, 115)]))
        assert await _readiness(work) == ""
    async with oven.pool.acquire() as connection:
        noted = await connection.fetchrow("SELECT reason, decided_by, why, offset_before, offset_after FROM halt_decision")
    assert tuple(noted or ()) == ("topic_was_recreated", "the baker", "the flour is gone", 10, 0)
    with pytest.raises(NothingToDecide, match="is lost; nothing was changed"):
        await oven.decider().accept_loss()


async def test_a_bad_record_of_the_new_topic_is_set_aside_though_one_of_the_old_had_its_offset(oven: _Oven) -> None:
    await bake(oven.servers, oven.bakery.loaves, [(headers(1), b"{old")], 0)
    async with oven.work() as work:
        await eventually(lambda: _set_aside(oven, [b"{old"]))
        await recreate(oven.servers, oven.bakery.loaves)
        await bake(oven.servers, oven.bakery.loaves, [(headers(2), b"{new")], 0)
        await eventually(_stopped(work, "topic_was_recreated"))
        await oven.decider().accept_loss()
        await eventually(lambda: _set_aside(oven, [b"{old", b"{new"]))


async def _set_aside(oven: _Oven, values: Sequence[bytes]) -> bool:
    async with oven.pool.acquire() as connection:
        return [row[0] for row in await connection.fetch("SELECT value FROM dead_letter ORDER BY dead_letter_id")] == list(values)


async def test_what_stands_still_stands_still_after_a_restart_until_a_person_accepts_the_loss(oven: _Oven) -> None:
    await oven.bake(0, 10)
    await oven.apply(range(10))
    await oven.bake(10, 20)
    await delete_before(oven.servers, oven.bakery.loaves, 15)
    for _ in range(2):
        async with oven.work() as work:
            await eventually(_stopped(work, "records_lost_to_retention"))
    (decision,) = await oven.decider().accept_loss(0)
    assert (decision.before, decision.after) == (10, 15)
    await oven.apply([*range(10), *range(15, 20)])


async def test_a_topic_that_is_gone_is_told(oven: _Oven) -> None:
    await oven.bake(0, 10)
    async with oven.work() as work:
        await eventually(lambda: oven.are_baked(range(10)))
        await delete_topic(oven.servers, oven.bakery.loaves)
        await eventually(lambda: _tells(work, "does not exist on the broker"))
        await recreate(oven.servers, oven.bakery.loaves)
        await eventually(lambda: _tells(work, "was deleted and made again"))


@pytest.mark.parametrize("noted", [True, False])
async def test_a_log_that_was_cut_back_stays_stopped_when_it_has_grown_again(oven: _Oven, monkeypatch: pytest.MonkeyPatch, *, noted: bool) -> None:
    """The control forgets where the log ended: after a restart it skips what was written over the lost records."""
    await oven.bake(0, 10)
    await oven.apply(range(10))
    # As if ten more had been applied before the broker lost them.
    async with oven.pool.acquire() as connection:
        await connection.execute("UPDATE consumed_offset SET next_offset = 20")
    if not noted:
        monkeypatch.setattr("shared.chassis.offsets.note_cut_back", _forget)
    async with oven.work() as work:
        await eventually(_stopped(work, "topic_was_cut_back"))
    await oven.bake(10, 25)
    async with oven.work() as work:
        if noted:
            await eventually(_stopped(work, "topic_was_cut_back"))
            assert "ended at offset 10 although everything before 20 was applied" in await _readiness(work)
            await oven.decider().accept_loss()
            await eventually(lambda: oven.are_baked(range(25)))
        else:
            await eventually(lambda: oven.are_baked([*range(10), *range(20, 25)]))


async def test_a_database_restored_to_an_earlier_moment_just_reads_again(oven: _Oven) -> None:
    await oven.bake(0, 10)
    await oven.apply(range(10))
    async with oven.pool.acquire() as connection:
        await connection.execute("UPDATE consumed_offset SET next_offset = 4")
        await connection.execute("DELETE FROM baked WHERE loaf = ANY($1)", [f"loaf-{number}" for number in range(4, 10)])
    await oven.apply(range(10))


@pytest.mark.parametrize("passed", [True, False])
async def test_markers_at_the_end_of_an_idle_log_are_no_loss_when_retention_takes_them(
    oven: _Oven, monkeypatch: pytest.MonkeyPatch, *, passed: bool
) -> None:
    """The control does not look at them while they are there, and stops later although nothing was lost."""
    monkeypatch.setattr("shared.chassis.places.SETTLE_S", 0.1 if passed else 1e9)
    await bake_in_a_transaction(oven.servers, oven.bakery.loaves, [(headers(n), loaf(n)) for n in range(10)])
    async with oven.work():
        await eventually(lambda: oven.are_baked(range(10)))
        if passed:
            await eventually(lambda: _stands_at(oven, 11))
    await delete_before(oven.servers, oven.bakery.loaves, 11)
    async with oven.work() as work:
        if passed:
            await oven.bake(20, 25)
            await eventually(lambda: oven.are_baked([*range(10), *range(20, 25)]))
        else:
            await eventually(_stopped(work, "records_lost_to_retention"))


async def test_records_at_the_end_of_a_log_are_never_taken_for_markers(oven: _Oven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.chassis.places.SETTLE_S", 0.0)
    await bake_in_a_transaction(oven.servers, oven.bakery.loaves, [(headers(n), loaf(n)) for n in range(10)])
    async with oven.work(_Idle) as work:
        await eventually(lambda: _looked(work))
        assert (await oven.row())[0] == 0


class _Idle(BatchConsumer):
    """Takes records and leaves them lying, so that the fetch position has passed them and the row has not."""

    looks = 0

    async def on_records(self, records: object) -> None:
        return

    async def look_after(self) -> None:
        await super().look_after()
        self.looks += 1


async def _looked(work: Running) -> bool:
    assert isinstance(work.consumer, _Idle)
    return work.consumer.looks >= 3 and bool(work.consumer._still)


async def _forget(*_: object) -> None:
    return


async def _is_begun(oven: _Oven) -> bool:
    async with oven.pool.acquire() as connection:
        return bool(await connection.fetchval("SELECT count(*) FROM consumed_offset"))


async def _stands_at(oven: _Oven, offset: int) -> bool:
    return (await oven.row())[0] == offset


async def _tells(work: Running, words: str) -> bool:
    return words in await _readiness(work)


def test_the_runbook_has_a_paragraph_for_every_reason() -> None:
    page = (Path(__file__).parents[3] / stops.RUNBOOK).read_text("utf-8")
    assert [reason for reason in stops.REASONS if f"`{reason}`" not in page] == []
    assert issubclass(BatchConsumer, Places)
