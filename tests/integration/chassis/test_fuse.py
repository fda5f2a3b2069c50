"""The fuse on the real broker: one partition stops, the others go on, a restart refills nothing, and a person can let it pass."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.chassis.consume import BatchConsumer
from shared.chassis.database import Pool
from shared.chassis.decide import Decider
from shared.chassis.fuse import MOST_IN_A_ROW, MOST_IN_WINDOW, Fuse
from shared.chassis.health import progress
from shared.chassis.stops import RUNBOOK
from tests.support.bakery import SCHEMA, Bakery, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.running import Running, running
from tests.support.waiting import eventually

RECORDS = 2000


@pytest.fixture(autouse=True)
async def _tables(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(SCHEMA)


def _one_in_five_is_bad() -> list[tuple[list[tuple[str, bytes]], bytes]]:
    return [(headers(n), b"{" if n % 5 == 0 else loaf(n)) for n in range(RECORDS)]


async def _rows(pool: Pool) -> dict[int, int]:
    async with pool.acquire() as connection:
        return {row[0]: row[1] for row in await connection.fetch("SELECT partition, next_offset FROM consumed_offset")}


async def _letters(pool: Pool) -> int:
    async with pool.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM dead_letter"))


async def _is_halted(work: Running, reason: str = "fuse_blown") -> bool:
    await asyncio.sleep(0)
    return reason in {stop.reason for stop in work.consumer.progress.halted.values()}


async def _stands_at(pool: Pool, places: dict[int, int]) -> bool:
    return (await _rows(pool)).items() >= places.items()


async def _partition_with_too_much_bad(infra: Infrastructure) -> Bakery:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=2)
    await bake(infra.bootstrap_servers, bakery.loaves, _one_in_five_is_bad(), partition=0)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), loaf(n)) for n in range(RECORDS, 2 * RECORDS)], partition=1)
    return bakery


class _WithoutFuse(BatchConsumer):
    def _check_fuses(self, items: object, verdicts: object) -> None:
        return


async def test_a_partition_of_which_a_fifth_is_bad_stops_and_the_others_go_on(infra: Infrastructure, pool: Pool) -> None:
    bakery = await _partition_with_too_much_bad(infra)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group) as work:
        await eventually(lambda: _is_halted(work))
        await eventually(lambda: _stands_at(pool, {1: RECORDS}))
        told = await progress("loaves", work.consumer.progress)() or ""
    assert f"partition 0 of {bakery.loaves.name}: more than {MOST_IN_WINDOW} of 1000 records" in told
    assert RUNBOOK in told
    # Everything before the row was applied or set aside, and nothing behind it was touched.
    at = (await _rows(pool))[0]
    assert await _letters(pool) == len([n for n in range(at) if n % 5 == 0]) <= MOST_IN_WINDOW


async def test_without_the_fuse_the_bad_fifth_drains_into_the_dead_letters(infra: Infrastructure, pool: Pool) -> None:
    bakery = await _partition_with_too_much_bad(infra)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group, _WithoutFuse):
        await eventually(lambda: _stands_at(pool, {0: RECORDS, 1: RECORDS}))
    assert await _letters(pool) == RECORDS // 5


@pytest.mark.parametrize("records", [[b"{"] * 120, [b"{" if n % 5 == 0 else loaf(n) for n in range(RECORDS)]], ids=["in a row", "a fifth"])
@pytest.mark.parametrize("recalled", [True, False])
async def test_a_restart_does_not_refill_the_fuse(
    infra: Infrastructure, pool: Pool, monkeypatch: pytest.MonkeyPatch, records: Sequence[bytes], *, recalled: bool
) -> None:
    """Small batches, as they come live. The control forgets what it had seen: every restart lets as many bad records pass as the fuse allows."""
    if not recalled:
        monkeypatch.setattr(Fuse, "recall", lambda *_: Fuse())
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), value) for n, value in enumerate(records)], partition=0)
    for _ in range(2):
        async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group, max_batch=20) as work:
            await eventually(lambda: _is_halted(work))
    assert (0 < await _letters(pool) <= max(MOST_IN_WINDOW, MOST_IN_A_ROW)) is recalled


async def test_a_person_lets_the_bad_ones_pass_and_later_ones_count_again(infra: Infrastructure, pool: Pool) -> None:
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), b"{") for n in range(200)], partition=0)
    async with running(infra.bootstrap_servers, pool, bakery.subscription(sell=False), bakery.group) as work:
        await eventually(lambda: _is_halted(work))
        decider = Decider(pool, infra.bootstrap_servers, bakery.group, bakery.loaves.name, "the baker", "the oven wrote nonsense all night")
        decision = await decider.accept_bad(0)
        assert decision.after == 200
        await eventually(lambda: _stands_at(pool, {0: 200}))
        assert await _letters(pool) == 200
        assert not work.consumer.progress.halted
        await bake(infra.bootstrap_servers, bakery.loaves, [(headers(n), b"{") for n in range(200, 300)], partition=0)
        await eventually(lambda: _is_halted(work))
    assert (await _rows(pool))[0] - 200 < MOST_IN_A_ROW
    async with pool.acquire() as connection:
        noted = await connection.fetchrow("SELECT reason, decided_by, offset_after FROM halt_decision")
    assert tuple(noted or ()) == ("fuse_blown", "the baker", 200)
