"""Run a chassis consumer and a relay inside a test."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.chassis.consume import BatchConsumer, Subscription
from shared.chassis.database import TAKEOVER_S, Pool
from shared.chassis.relay import Relay
from shared.chassis.subscribe import create_broker, subscribe, watch_lag


@dataclass
class Running:
    """A consumer and a relay at work."""

    consumer: BatchConsumer
    relay: Relay


@asynccontextmanager
async def running(
    bootstrap_servers: Sequence[str],
    pool: Pool,
    subscription: Subscription,
    group: str,
    kind: type[BatchConsumer] = BatchConsumer,
    max_batch: int = 1000,
    relay_kind: type[Relay] = Relay,
    instance: str | None = None,
    takeover_s: float = TAKEOVER_S,
) -> AsyncIterator[Running]:
    """Consume and relay until the block ends."""
    relay = relay_kind(pool, bootstrap_servers, group, takeover_s)
    consumer = kind(subscription, group, pool, relay.wake)
    broker = create_broker(bootstrap_servers, takeover_s=takeover_s, with_metrics=False)
    subscribe(broker, consumer, max_batch, takeover_s, instance)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(relay.run(stop)), asyncio.create_task(watch_lag(consumer, stop))]
    await broker.start()
    try:
        yield Running(consumer, relay)
    finally:
        stop.set()
        consumer.stopping = True
        await broker.stop()
        await asyncio.gather(*tasks)
