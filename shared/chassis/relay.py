"""Publish the outbox: every committed event, in version order per key, also when two relays overlap.

Compaction keeps the last record written, not the highest version, so an old relay must not be able to write behind a new
one. Who relays is decided by a lease; a relay that lost it without noticing (frozen, cut off, its request still on the
way) is stopped by Kafka itself: each relay of a service uses the same `transactional.id`, so the newcomer's first request
bumps the producer epoch and the broker refuses whatever the old one still sends (decision 0009). The transaction is a
fence, not the guarantee: rows leave the outbox only when their transaction has committed, and readers take copies.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaProducer

from shared.chassis import outbox, telemetry
from shared.chassis.broker import ANSWER_S
from shared.chassis.database import TAKEOVER_S, Pool, Tx, connection
from shared.chassis.errors import Fenced
from shared.chassis.lease import Lease
from shared.chassis.outbox import Pending
from shared.contracts.topics import DEAD_LETTER_BYTES

log = logging.getLogger(__name__)

BATCH = 4000
"""Rows per Kafka transaction."""

BATCH_BYTES = 4 * 1_048_576
"""Bytes per Kafka transaction, and one row more: a thin line must bring them to the broker within PUBLISH_S, and dead
letters can be large. A batch that is never through in time would keep everything behind it waiting for ever."""

IDLE_S = 0.05
"""Pause after an empty look at the outbox, seconds: what an API process announces waits at most this long."""

STANDBY_S = 1.0
"""Pause between attempts at the lease, seconds."""

STATE_S = 2.0
"""Pause between measurements of the outbox, seconds."""

PUBLISH_S = 12.0
"""Longest time a batch may take until the broker has it, seconds; then the producer is thrown away."""

STOP_S = 5.0
"""Longest time a producer may take to stop, seconds; then its connections are cut off."""

TRANSACTION_TIMEOUT_MS = 15_000
"""After this the broker aborts the open transaction of a relay that died, milliseconds."""


class Relay:
    """The publishing loop of one process; of all processes of a service one publishes at a time."""

    def __init__(self, pool: Pool, bootstrap_servers: Sequence[str], service: str, takeover_s: float = TAKEOVER_S) -> None:
        self._pool = pool
        self._bootstrap_servers = list(bootstrap_servers)
        self._transactional_id = f"{service}-relay"
        self._lease = Lease(pool, "relay", takeover_s)
        self._answer_s = min(PUBLISH_S, takeover_s + ANSWER_S)
        self._wake = asyncio.Event()
        self._measured_at = 0.0
        self.trouble: str | None = None
        """Why the last attempt failed; None while it works."""
        self.held = False
        """Set while nothing may be published; the lease goes to another meanwhile."""

    def wake(self) -> None:
        """Look at the outbox now: something was committed in this process."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set. Trouble never ends the loop; it is told by `trouble` and retried."""
        while not stop.is_set():
            try:
                if not self.held and await self._lease.acquire():
                    await self._publish_while_leased(stop)
                else:
                    self.trouble = None
                    await _pause(stop, STANDBY_S)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  (whatever it was, the next round starts from the rows)
                self.trouble = type(error).__name__
                log.warning("relay starts over", extra={"error": type(error).__name__})
                with suppress(Exception):  # what waits must be seen most of all while nothing can be published
                    await self._measure()
                await _pause(stop, STANDBY_S)
        await self._release()

    def create_producer(self) -> AIOKafkaProducer:
        """The only producer of a service: a record counts once every replica in sync has it, and none is written twice."""
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._transactional_id,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=262_144,
            max_request_size=DEAD_LETTER_BYTES + 65_536,
            request_timeout_ms=int(self._answer_s * 1000),
        )

    async def _publish_while_leased(self, stop: asyncio.Event) -> None:
        producer = self.create_producer()
        try:
            await asyncio.wait_for(producer.start(), PUBLISH_S)
            telemetry.RELAY_TAKEOVERS.inc()
            while not stop.is_set() and not self.held and await self._lease.acquire():
                self._wake.clear()
                done = await self._publish_batch(producer)
                self.trouble = None
                await self._measure()
                if done < BATCH:
                    await _pause_until(self._wake, IDLE_S)
        finally:
            # A producer in an unknown state is thrown away whole; the next one starts with a new epoch.
            await _throw_away(producer)

    async def _publish_batch(self, producer: AIOKafkaProducer) -> int:
        # One connection from reading to forgetting: when the database is replaced by an earlier one meanwhile, the connection
        # is lost with it, and rows of the new one that bear the old numbers are safe.
        async with connection(self._pool) as link:
            rows = await outbox.pending(link, BATCH, BATCH_BYTES)
            if rows:
                await self._publish(producer, rows)
                await self._forget(link, rows)
        return len(rows)

    async def _publish(self, producer: AIOKafkaProducer, rows: Sequence[Pending]) -> None:
        # Not the producer's own context manager: after a failure that one waits for the broker to take the abort, which may
        # be gone for hours. Whoever comes next aborts by taking the identity over.
        async with asyncio.timeout(PUBLISH_S):
            await producer.begin_transaction()
            sent = [await producer.send(row.topic, key=row.key, value=row.value, partition=row.partition, headers=row.headers) for row in rows]
            await asyncio.gather(*sent)
            await producer.commit_transaction()
        for topic in {row.topic for row in rows}:
            telemetry.RELAYED.labels(topic).inc(sum(row.topic == topic for row in rows))

    async def _forget(self, link: Tx, rows: Sequence[Pending]) -> None:
        """Delete what the broker has, unless another relay took over meanwhile.

        That one has read rows of ours again and publishes them behind us. If we deleted the newest of a key that it did not
        read any more, an older one would stay last.

        Raises:
            Fenced: another relay took over; nothing was deleted.
        """
        async with link.transaction():
            if not await self._lease.still_ours(link):
                raise Fenced("another relay took over")
            await outbox.published(link, [row.seq for row in rows])

    async def _measure(self) -> None:
        if time.monotonic() - self._measured_at < STATE_S:
            return
        self._measured_at = time.monotonic()
        async with connection(self._pool) as link:
            waiting, age = await outbox.state(link)
        telemetry.OUTBOX_PENDING.set(waiting)
        telemetry.OUTBOX_AGE.set(age)

    async def _release(self) -> None:
        try:
            await asyncio.wait_for(self._lease.release(), 2)
        except Exception as error:  # noqa: BLE001  (a lease that was not given back expires)
            log.warning("lease was not given back", extra={"error": type(error).__name__})


async def _throw_away(producer: AIOKafkaProducer) -> None:
    """Stop a producer; one that does not stop in time is left behind with its connections cut off. Never raises.

    It waits for a broker that has fallen silent, and it does not heed being cancelled while it does.
    """
    stopping = asyncio.create_task(producer.stop())
    done, _ = await asyncio.wait({stopping}, timeout=STOP_S)
    if done:
        if not stopping.cancelled() and stopping.exception() is not None:
            log.warning("producer did not stop well", extra={"error": type(stopping.exception()).__name__})
        return
    log.warning("producer is left behind, the broker is silent")
    for link in list(producer.client._conns.values()):
        if link._writer is not None:
            link._writer.transport.abort()
    stopping.add_done_callback(lambda task: task.cancelled() or task.exception())
    stopping.cancel()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    await _pause_until(stop, seconds)


async def _pause_until(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
