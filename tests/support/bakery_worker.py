"""A bakery worker as a process of its own, to be killed and frozen.

python -m tests.support.bakery_worker SERVERS DSN NAME PARTITIONS guarded|unfenced CRASH_AFTER PAUSE_S
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from shared.chassis import crash_points
from shared.chassis.consume import BatchConsumer, Subscription
from shared.chassis.database import Tx, create_pool
from shared.chassis.decode import Received, Refused
from shared.chassis.subscribe import create_broker, subscribe
from tests.support.bakery import Loaf, open_bakery
from tests.support.careless import Unfenced

BATCH = 50

TAKEOVER_S = 3.0
"""A test need not wait as long for a dead member as a service does, seconds."""


async def main(servers: str, dsn: str, name: str, partitions: int, mode: str, crash_after: int, pause_s: float) -> None:
    """Consume until killed; after the n-th commit kill ourselves, before anything else happens. Crash points are armed as in a service."""
    crash_points.arm("bakery")
    pool = await create_pool(dsn, size=4, takeover_s=TAKEOVER_S)
    bakery = await open_bakery(servers.split(","), partitions, name)
    commits = 0

    def committed() -> None:
        nonlocal commits
        commits += 1
        if commits == crash_after:
            os.kill(os.getpid(), signal.SIGKILL)

    async def slowly(records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        refused = await bakery.on_baked_quietly(records, tx)
        await asyncio.sleep(pause_s)
        return refused

    kind = Unfenced if mode == "unfenced" else BatchConsumer
    consumer = kind(Subscription(bakery.loaves, {bakery.baked: slowly}), bakery.group, pool, committed)
    broker = create_broker(servers.split(","))
    subscribe(broker, consumer, BATCH, TAKEOVER_S)
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    servers, dsn, name, partitions, mode, crash_after, pause = sys.argv[1:]
    asyncio.run(main(servers, dsn, name, int(partitions), mode, int(crash_after), float(pause)))
