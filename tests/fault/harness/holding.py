"""Hold enrollment's relay, so that what it publishes next is as much as a control needs."""

from shared.contracts.topics import PLATFORM_EVENTS
from tests.fault.harness.run import Run
from tests.fault.harness.through import behind
from tests.support.waiting import eventually

_TAKE = """
INSERT INTO lease (name, holder, token, expires_at) VALUES ('relay', 'a test', 1, 'infinity')
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at, token = lease.token + 1
"""

_GIVE_BACK = "UPDATE lease SET expires_at = '-infinity' WHERE name = 'relay'"

_IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM outbox)"


async def nobody_relays(run: Run) -> None:
    """Take the lease away from everybody."""
    async with run.system.database("enrollment") as connection:
        await connection.execute(_TAKE)


async def somebody_relays(run: Run) -> None:
    """Give the lease back."""
    async with run.system.database("enrollment") as connection:
        await connection.execute(_GIVE_BACK)


async def until_applied(run: Run) -> None:
    """Wait until enrollment has applied what stands on its topic."""

    async def applied() -> bool:
        return await behind(run.system, run.lab.reader, "enrollment", [PLATFORM_EVENTS]) is None

    await eventually(applied)


async def until_relayed(run: Run) -> None:
    """Wait until enrollment's outbox is empty."""

    async def relayed() -> bool:
        async with run.system.database("enrollment") as connection:
            return bool(await connection.fetchval(_IS_EMPTY))

    await eventually(relayed)


async def offer_half(run: Run, *, first: bool) -> None:
    """Offer a half of the facts, and wait until they are applied; whether they are relayed is another matter."""
    half = len(run.ledger.offers) // 2
    await run.offer(run.ledger.offers[:half] if first else run.ledger.offers[half:])
    await until_applied(run)
