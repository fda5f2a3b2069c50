"""Apply batches of one topic exactly once: fence, handlers, dead letters and offset in one transaction, then commit.

A batch that fails is tried again while the error passes by itself, and otherwise cut in halves down to the one record
that is bad; that one is set aside with its reason and its neighbours are applied. Nothing is ever skipped: a position
moves only in the transaction of the effect or of the dead letter.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from shared.chassis import dead_letters, offsets, telemetry
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.dead_letters import DeadLetter, RawRecord
from shared.chassis.decode import Received, Refused, decode
from shared.chassis.errors import Fenced, Rejected, is_transient
from shared.chassis.fuse import Fuse
from shared.chassis.logging import CONTEXT
from shared.contracts.envelope import EventType
from shared.contracts.topics import Topic

log = logging.getLogger(__name__)

Handler = Callable[[Sequence[Received[Any]], Tx], Awaitable[Sequence[Refused]]]
"""Applies events in the transaction it is given and returns those it refuses. It may be called again with the same
events after a rollback, so it keeps nothing in memory that a rollback would make untrue."""

RETRY_IN_PLACE_S = 60.0
"""Longest time a batch is retried before it is given back to the broker, seconds; far below max.poll.interval (300 s),
so the consumer stays in its group however long the trouble lasts."""

LONGEST_PAUSE_S = 5.0
"""Longest pause between two attempts, seconds."""

BUG_ATTEMPTS = 3
"""How often a record that fails alone, for no known reason, is tried before it is set aside."""


@dataclass(frozen=True)
class Subscription:
    """What a service reads of one topic, and with which function.

    Attributes:
        topic: of the closed list; the service must be among its readers.
        handlers: by event type. Several types may share a handler; it gets their events together, in offset order.
        ignored: event types of the topic that this service knows and has no use for.
    """

    topic: Topic
    handlers: Mapping[EventType[Any], Handler]
    ignored: tuple[EventType[Any], ...] = ()


@dataclass(slots=True)
class Progress:
    """What readiness looks at: not whether a connection stands, but whether work gets done."""

    joined: bool = False
    working_since: float | None = None
    last_done: float = field(default_factory=time.monotonic)
    lag: dict[int, int] = field(default_factory=dict)
    measured_at: float = field(default_factory=time.monotonic)
    halted: dict[int, str] = field(default_factory=dict)
    trouble: str | None = None


class FuseBlown(Exception):
    """Too much of a partition is bad."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"fuse of partition {partition} has blown")
        self.partition = partition


@dataclass(slots=True)
class _Item:
    """A record with its event, its refusal, or neither (a tombstone, an ignored type)."""

    record: RawRecord
    event: Received[Any] | None = None
    letter: DeadLetter | None = None


class BatchConsumer:
    """Consumes one subscription for one consumer group."""

    def __init__(self, subscription: Subscription, group: str, pool: Pool, committed: Callable[[], None]) -> None:
        """Plain construction; nothing happens yet.

        Args:
            subscription: topic and handlers.
            group: consumer group.
            pool: database of the service.
            committed: called after each commit (wakes the relay).
        """
        self.topic = subscription.topic
        self.group = group
        self.progress = Progress()
        self.consumer: AIOKafkaConsumer | None = None
        self.stopping = False
        self._pool = pool
        self._committed = committed
        self._types = {known.name: known for known in (*subscription.handlers, *subscription.ignored)}
        self._handlers = {known.name: handler for known, handler in subscription.handlers.items()}
        self._positions: dict[int, int] = {}
        self._fuses: dict[int, Fuse] = {}

    async def assigned(self, partitions: Iterable[int]) -> None:
        """Take partitions over: read the offset rows first, then seek. State is read per batch, so it is never older."""
        mine = sorted(partitions)
        telemetry.REBALANCES.labels(self.group, self.topic.name).inc()
        self._positions = {partition: at for partition, at in self._positions.items() if partition in mine}
        self.progress.halted = {}
        self.progress.lag = {}
        telemetry.HALTED.labels(self.group, self.topic.name).set(0)
        await self._resume(mine)
        self.progress.joined = True

    async def revoked(self) -> None:
        """Give all partitions up. A batch still at work fails at its offset rows or commits before the next owner does."""
        self._positions = {}

    async def measure_lag(self) -> None:
        """Take note of how far we are behind the ends of our partitions.

        A relay's transactions leave markers at the ends that are no records; while nothing is at work the fetch position,
        which has passed them, is what counts.
        """
        live = self.consumer
        if live is None:
            return
        places = sorted(live.assignment())
        ends = await live.end_offsets(places) if places else {}
        idle = self.progress.working_since is None
        lag: dict[int, int] = {}
        for place in places:
            at = self._positions.get(place.partition)
            if at is not None and idle and place.partition not in self.progress.halted:
                at = max(at, await asyncio.wait_for(live.position(place), 1))
            lag[place.partition] = max(0, ends[place] - (at or 0))
        self.progress.lag = lag
        self.progress.measured_at = time.monotonic()

    async def on_records(self, records: Sequence[RawRecord]) -> None:
        """Apply what one poll brought. Never raises; what could not be applied is read again."""
        self.progress.working_since = time.monotonic()
        bound = CONTEXT.set({"topic": self.topic.name, "group": self.group, "partitions": sorted({record.partition for record in records})})
        try:
            usable = await self._in_sequence(records)
            if usable:
                await self._apply(usable)
        except Fenced:
            telemetry.FENCED.labels(self.group, self.topic.name).inc()
            await self._reread({record.partition for record in records})
        except Exception as error:
            self.progress.trouble = type(error).__name__
            log.exception("batch was given back")
            await self._reread({record.partition for record in records})
            await asyncio.sleep(1)
        finally:
            self.progress.working_since = None
            CONTEXT.reset(bound)

    async def _apply(self, records: Sequence[RawRecord]) -> None:
        """Apply records in order, the whole if possible, else in halves."""
        started = time.monotonic()
        parents = [value.decode("ascii", "replace") for record in records for name, value in record.headers if name == "traceparent"]
        span = telemetry.batch_span(
            f"process {self.topic.name}", SpanKind.CONSUMER,
            {
                "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
                "messaging.destination.name": self.topic.name, "messaging.consumer.group.name": self.group,
                "messaging.batch.message_count": len(records),
            },
            dict.fromkeys(parents),
        )  # fmt: skip
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            waiting = [[self._decoded(record) for record in records]]
            while waiting and not self.stopping:
                items = [item for item in waiting.pop() if item.record.partition not in self.progress.halted]
                if items:
                    waiting.extend(await self._apply_or_split(items))
        telemetry.BATCH_SECONDS.labels(self.group, self.topic.name).observe(time.monotonic() - started)

    async def _apply_or_split(self, items: list[_Item]) -> list[list[_Item]]:
        """Apply these items, or say what is left to try, last first."""
        attempts = 0
        deadline = time.monotonic() + RETRY_IN_PLACE_S
        while True:
            try:
                await self._transact(items)
            except FuseBlown as blown:
                self._halt(blown.partition, "fuse_blown")
                return [items]
            except (Fenced, asyncio.CancelledError):
                raise
            except Exception as error:
                attempts += 1
                self.progress.trouble = type(error).__name__
                if is_transient(error):
                    telemetry.RETRIES.labels(self.group, self.topic.name).inc()
                    log.warning("passing error, trying again", extra={"error": type(error).__name__, "attempt": attempts})
                    if self.stopping or time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(min(LONGEST_PAUSE_S, 0.05 * 2**attempts) * random.uniform(0.5, 1))  # noqa: S311
                elif len(items) > 1:
                    middle = len(items) // 2
                    return [items[middle:], items[:middle]]
                elif isinstance(error, Rejected) or attempts >= BUG_ATTEMPTS:
                    log.error("record fails alone and is set aside", extra={"error": type(error).__name__})  # noqa: TRY400
                    items[0].letter = _letter(items[0].record, error)
                    items[0].event = None
                    deadline = time.monotonic() + RETRY_IN_PLACE_S
            else:
                self.progress.trouble = None
                return []

    async def _transact(self, items: Sequence[_Item]) -> None:
        """One transaction: offsets, effects, dead letters; then positions, fuses and metrics, which only a commit moves."""
        moves = {
            partition: (self._position(partition), list(group)[-1].record.offset + 1)
            for partition, group in groupby(items, lambda item: item.record.partition)
        }
        async with transaction(self._pool) as tx:
            await offsets.advance(tx, self.group, self.topic.name, moves)
            letters = await self._handle(items, tx)
            verdicts = {(letter.record.partition, letter.record.offset) for letter in letters}
            self._check_fuses(items, verdicts)
            await dead_letters.set_aside(tx, self.topic, self.group, letters)
        for partition, (_, after) in moves.items():
            self._positions[partition] = after
        for item in items:
            self._fuse(item.record.partition).add([(item.record.partition, item.record.offset) in verdicts])
        self._count(items, letters)
        self._committed()
        await self._tell_kafka({partition: after for partition, (_, after) in moves.items()})

    async def _handle(self, items: Sequence[_Item], tx: Tx) -> list[DeadLetter]:
        """Call each handler once with its events, in offset order; collect what is to be set aside."""
        letters = [item.letter for item in items if item.letter is not None]
        calls: dict[Handler, list[Received[Any]]] = {}
        for item in items:
            if item.event is not None:
                calls.setdefault(self._handlers[item.event.type], []).append(item.event)
        if not calls:
            return letters
        by_position = {(item.record.partition, item.record.offset): item.record for item in items}
        for handler, events in calls.items():
            for refused in await handler(events, tx):
                record = by_position[refused.record.partition, refused.record.offset]
                letters.append(DeadLetter(record, refused.reason, refused.detail))
        return letters

    def _decoded(self, record: RawRecord) -> _Item:
        try:
            event = decode(record, self._types)
        except Rejected as rejected:
            return _Item(record, letter=DeadLetter(record, rejected.reason, rejected.detail))
        handled = event is not None and event.type in self._handlers
        return _Item(record, event=event if handled else None)

    async def _in_sequence(self, records: Sequence[RawRecord]) -> list[RawRecord]:
        """Keep the records that follow our positions; put right where a partition stands elsewhere."""
        runs: dict[int, list[RawRecord]] = {}
        for record in records:
            if record.partition not in self.progress.halted:
                runs.setdefault(record.partition, []).append(record)
        gaps = {partition: at for partition, run in runs.items() if (at := self._positions.get(partition)) is not None and at != run[0].offset}
        if gaps:
            await self._halt_where_records_are_lost(gaps)
        usable: list[RawRecord] = []
        astray = set()
        for partition, run in runs.items():
            at = self._positions.get(partition)
            if partition in self.progress.halted:
                continue
            if at is None or run[0].offset < at:
                astray.add(partition)
            else:
                usable.extend(run)
        if astray:
            await self._reread(astray)
        return usable

    async def _halt_where_records_are_lost(self, gaps: Mapping[int, int]) -> None:
        """Tell lawful holes (compaction, markers of transactions) from records that are gone; there the partition stops.

        Args:
            gaps: by partition, where we stand while the next record stands elsewhere.
        """
        places = {TopicPartition(self.topic.name, partition): at for partition, at in gaps.items()}
        begins = await self._live().beginning_offsets(list(places))
        ends = await self._live().end_offsets(list(places))
        for place, at in places.items():
            if ends[place] < at:
                self._halt(place.partition, "topic_was_recreated")
            elif begins[place] > at > 0:
                self._halt(place.partition, "records_lost_to_retention")

    async def _reread(self, partitions: Iterable[int]) -> None:
        """Go back to the offset rows of partitions that are still ours."""
        consumer = self._live()
        mine = {place.partition for place in consumer.assignment()}
        wanted = sorted(set(partitions) & mine)
        try:
            await self._resume(wanted)
        except Exception as error:
            if not is_transient(error):
                raise
            # Without positions the next batch comes here again; nothing is applied before the rows could be read.
            for partition in wanted:
                self._positions.pop(partition, None)
            await asyncio.sleep(1)

    async def _resume(self, partitions: Sequence[int]) -> None:
        consumer = self._live()
        rows = await offsets.read(self._pool, self.group, self.topic.name, partitions)
        for partition in partitions:
            with suppress(KafkaError, ValueError, AssertionError):  # taken from us meanwhile
                consumer.seek(TopicPartition(self.topic.name, partition), rows[partition])
                self._positions[partition] = rows[partition]

    def _halt(self, partition: int, reason: str) -> None:
        """Let a partition stand still until a person decides. Nothing of it is skipped."""
        self.progress.halted[partition] = reason
        telemetry.HALTED.labels(self.group, self.topic.name).set(len(self.progress.halted))
        log.error(
            "partition stands still",
            extra={"topic": self.topic.name, "partition": partition, "reason": reason, "offset": self._positions.get(partition)},
        )
        with suppress(KafkaError, ValueError):
            self._live().pause(TopicPartition(self.topic.name, partition))

    def _check_fuses(self, items: Sequence[_Item], verdicts: set[tuple[int, int]]) -> None:
        if not verdicts:
            return
        for partition, group in groupby(items, lambda item: item.record.partition):
            if self._fuse(partition).would_blow((partition, item.record.offset) in verdicts for item in group):
                raise FuseBlown(partition)

    def _count(self, items: Sequence[_Item], letters: Sequence[DeadLetter]) -> None:
        self.progress.last_done = time.monotonic()
        telemetry.EVENTS.labels(self.group, self.topic.name, "applied").inc(len(items) - len(letters))
        for letter in letters:
            telemetry.EVENTS.labels(self.group, self.topic.name, "dead").inc()
            telemetry.DEAD_LETTERS.labels(self.group, self.topic.name, letter.reason).inc()
        oldest = min(item.record.timestamp for item in items)
        telemetry.EVENT_AGE.labels(self.group, self.topic.name).observe(max(0.0, time.time() - oldest / 1000))

    async def _tell_kafka(self, after: Mapping[int, int]) -> None:
        """Commit to Kafka too, for lag tools. Whether it works does not matter."""
        with suppress(KafkaError, ValueError):
            await self._live().commit({TopicPartition(self.topic.name, partition): offset for partition, offset in after.items()})

    def _position(self, partition: int) -> int:
        at = self._positions.get(partition)
        if at is None:
            raise Fenced(f"partition {partition} is no longer ours")
        return at

    def _fuse(self, partition: int) -> Fuse:
        return self._fuses.setdefault(partition, Fuse())

    def _live(self) -> AIOKafkaConsumer:
        if self.consumer is None:
            raise RuntimeError("the subscriber was not started")
        return self.consumer


def _letter(record: RawRecord, error: Exception) -> DeadLetter:
    if isinstance(error, Rejected):
        return DeadLetter(record, error.reason, error.detail)
    return DeadLetter(record, "handler_failed", f"the handler failed {BUG_ATTEMPTS} times on this record alone: {type(error).__name__}")
