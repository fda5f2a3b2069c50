"""A database that was put back takes its connections with it, so a younger connection counts as a takeover (decision 0011)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
import pytest

from shared.chassis import consume
from shared.chassis.clock import next_version, now
from shared.chassis.consume import Subscription
from shared.chassis.database import Pool, Tx
from shared.chassis.decode import Received, Refused
from tests.support.bakery import SCHEMA, Bakery, Loaf, bake, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.running import running
from tests.support.waiting import eventually

_END_ALL = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@dataclass
class _Noting:
    """A baker who remembers of each loaf when its partition was taken over, as he was told."""

    bakery: Bakery
    told: dict[str, int] = field(default_factory=dict)

    async def on_baked(self, records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        self.told |= {one.data.loaf: one.taken_over_at for one in records}
        return await self.bakery.on_baked_quietly(records, tx)


@pytest.mark.parametrize("guarded", [True, False])
async def test_what_comes_over_a_younger_connection_is_taken_over_again(
    infra: Infrastructure, dsn: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
) -> None:
    """The offset rows stand where they stood, as those of a consumer that was frozen through the restore do."""
    if not guarded:
        monkeypatch.setattr(consume, "opened_at", lambda _: 0)
    await pool.execute(SCHEMA)
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    noting = _Noting(bakery)
    async with running(infra.bootstrap_servers, pool, Subscription(bakery.loaves, {bakery.baked: noting.on_baked}), bakery.group):

        async def baked(number: int) -> int:
            await bake(infra.bootstrap_servers, bakery.loaves, [(headers(number), loaf(number))])

            async def applied() -> bool:
                return bool(await pool.fetchval("SELECT count(*) FROM baked WHERE loaf = $1", f"loaf-{number}"))

            await eventually(applied)
            return noting.told[f"loaf-{number}"]

        before = await baked(1)
        put_back_at = next_version(None, now())
        outside = await asyncpg.connect(dsn)  # one of the pool's would be spared, and used again
        await outside.execute(_END_ALL)
        await outside.close()
        after = await baked(2)
    assert before < put_back_at
    assert (after > put_back_at) == guarded
