"""Guards of relaying taken away."""

from collections.abc import Sequence
from unittest import mock

from aiokafka import AIOKafkaProducer

from shared.chassis import outbox, service
from shared.chassis.database import Tx
from shared.chassis.outbox import Pending
from shared.chassis.relay import Relay
from tests.support.careless import ForgetsFirst

_NEWEST = "SELECT seq, topic, partition, key, headers, value FROM outbox ORDER BY seq DESC LIMIT $1"

_BEHIND = "SELECT seq, topic, partition, key, headers, value FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2"

_PASSED = "DELETE FROM outbox WHERE seq <= $1"


def _pending(rows: Sequence[tuple[int, str, int | None, bytes, bytes, bytes]]) -> list[Pending]:
    return [Pending(seq, topic, partition, key, outbox._unpack(headers), value) for seq, topic, partition, key, headers, value in rows]


def newest_first() -> None:
    """What is fresh need not wait behind what is old: the newest rows of the outbox are published first."""

    async def pending(tx: Tx, limit: int, _limit_bytes: int) -> list[Pending]:
        return _pending([tuple(row) for row in await tx.fetch(_NEWEST, limit)])

    mock.patch.object(outbox, "pending", pending).start()


def paging_by_id() -> None:
    """The relay remembers the last number it has read, asks for greater ones, and deletes what it has passed."""
    last = 0

    async def pending(tx: Tx, limit: int, _limit_bytes: int) -> list[Pending]:
        nonlocal last
        found = _pending([tuple(row) for row in await tx.fetch(_BEHIND, last, limit)])
        last = max((row.seq for row in found), default=last)
        return found

    async def published(tx: Tx, sequence: Sequence[int]) -> None:
        await tx.execute(_PASSED, max(sequence))

    mock.patch.object(outbox, "pending", pending).start()
    mock.patch.object(outbox, "published", published).start()


class Unfenced(Relay):
    """Has a lease and no epoch: what it sends when it has lost the lease is taken."""

    def create_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(bootstrap_servers=self._bootstrap_servers, acks="all", enable_idempotence=True, request_timeout_ms=10_000)

    async def _publish(self, producer: AIOKafkaProducer, rows: Sequence[Pending]) -> None:
        for row in rows:
            await producer.send_and_wait(row.topic, key=row.key, value=row.value, partition=row.partition, headers=row.headers)


def without_epoch() -> None:
    """Relays of a service are producers like any others; the broker cannot tell which of two is the old one."""
    mock.patch.object(service, "Relay", Unfenced).start()


def deleting_first() -> None:
    """Rows leave the outbox before the broker has them."""
    mock.patch.object(service, "Relay", ForgetsFirst).start()
