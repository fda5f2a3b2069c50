"""Apply batches of one topic exactly once: fence, handlers, dead letters and offset in one transaction, then commit.

A batch that fails is tried again while the error passes by itself, and otherwise cut in halves down to the one record
that is bad; that one is set aside with its reason and its neighbours are applied. Nothing is ever skipped: a position
moves only in the transaction of the effect or of the dead letter.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from shared.chassis import dead_letters, offsets, standing, stops, telemetry
from shared.chassis.applying import Applying, Handler, Item, Subscription, blame, halves, pause
from shared.chassis.database import Pool, opened_at, transaction
from shared.chassis.dead_letters import DeadLetter, RawRecord
from shared.chassis.errors import Fenced, is_transient
from shared.chassis.fuse import Fuse
from shared.chassis.logging import CONTEXT
from shared.chassis.places import Places

__all__ = ["BatchConsumer", "FuseBlown", "Handler", "Subscription"]

log = logging.getLogger(__name__)

RETRY_IN_PLACE_S = 60.0
"""Longest time a batch is retried before it is given back to the broker, seconds; far below max.poll.interval (300 s),
so the consumer stays in its group however long the trouble lasts."""

TELL_S = 2.0
"""Longest time for telling Kafka where we stand, seconds; nothing depends on it, and the next batch waits."""


class FuseBlown(Exception):
    """Too much of a partition is bad; what comes before `offset` may still be applied."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(f"fuse of partition {partition} has blown at {offset}")
        self.partition = partition
        self.offset = offset


class BatchConsumer(Places):
    """Consumes one subscription for one consumer group."""

    def __init__(self, subscription: Subscription, group: str, pool: Pool, committed: Callable[[], None]) -> None:
        """Plain construction; nothing happens yet.

        Args:
            subscription: topic and handlers.
            group: consumer group.
            pool: database of the service.
            committed: called after each commit (wakes the relay).
        """
        super().__init__(subscription.topic, group, pool)
        self.stopping = False
        self._committed = committed
        self._applying = Applying(subscription)

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
            # Another process has done this work, so whatever trouble we had with it is over.
            self.progress.trouble = None
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
        parents = [value.decode("ascii", "replace") for record in records for name, value in record.headers if name == "traceparent" and value]
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
            waiting = [[self._applying.read(record, self._taken_over_at.get(record.partition, 0)) for record in records]]
            while waiting and not self.stopping:
                items = [item for item in waiting.pop() if item.record.partition not in self.progress.halted]
                if items:
                    waiting.extend(await self._apply_or_split(items))
        telemetry.BATCH_SECONDS.labels(self.group, self.topic.name).observe(time.monotonic() - started)

    async def _apply_or_split(self, items: list[Item]) -> list[list[Item]]:
        """Apply these items, or say what is left to try, last first."""
        attempts = 0
        deadline = time.monotonic() + RETRY_IN_PLACE_S
        while True:
            try:
                await self._transact(items)
            except FuseBlown as blown:
                fitting: list[Item] = []
                rest: list[Item] = []
                for item in items:
                    (rest if item.record.partition == blown.partition and item.record.offset >= blown.offset else fitting).append(item)
                if fitting:
                    # Applied first, so that a person finds the reasons of the first bad ones among the dead letters.
                    return [rest, fitting]
                self._halt(blown.partition, stops.fuse_blown(self.topic.name, blown.partition))
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
                    await pause(attempts)
                elif len(items) > 1:
                    return halves(items)
                elif (rejected := blame(error, attempts)) is not None:
                    log.error("record fails alone and is set aside", extra={"error": type(error).__name__})  # noqa: TRY400
                    items[0].letter = DeadLetter(items[0].record, rejected.reason, rejected.detail)
                    items[0].event = None
                    deadline = time.monotonic() + RETRY_IN_PLACE_S
            else:
                self.progress.trouble = None
                return []

    async def _transact(self, items: Sequence[Item]) -> None:
        """One transaction: offsets, effects, dead letters; then positions, fuses and metrics, which only a commit moves."""
        moves: dict[int, tuple[int, int]] = {}
        for partition, group in groupby(items, lambda item: item.record.partition):
            run = [item.record.offset for item in group]
            moves[partition] = (self._before(partition, run[0]), run[-1] + 1)
        async with transaction(self._pool) as tx:
            await offsets.advance(tx, self.group, self.topic.name, moves)
            self._take_over_again(items, opened_at(tx))
            letters = await self._applying.apply(items, tx)
            verdicts = {(letter.record.partition, letter.record.offset) for letter in letters}
            self._check_fuses(items, verdicts)
            await dead_letters.set_aside(tx, self.topic, self.group, letters)
            if replayed := self._replayed(items, moves, verdicts):
                await dead_letters.settle_applied(tx, self.group, self.topic.name, replayed)
        for partition, (before, after) in moves.items():
            self._standing[partition] = after
            position = standing.moved(self._positions.get(partition), before, after)
            if position is not None:
                self._positions[partition] = position
        for item in self._watched(items):
            self._fuse(item.record.partition).add([(item.record.partition, item.record.offset) in verdicts])
        self._count(items, letters)
        self._committed()
        await self._tell_kafka({partition: after for partition, (_, after) in moves.items()})

    def _replayed(self, items: Sequence[Item], moves: Mapping[int, tuple[int, int]], verdicts: set[tuple[int, int]]) -> list[tuple[int, int]]:
        """Places of applied records before which a dead letter was open when we took their partition up; hardly ever any."""
        again = {partition: until for partition, (before, _) in moves.items() if before <= (until := self._open_until.get(partition, -1))}
        if not again:
            return []
        places = ((item.record.partition, item.record.offset) for item in items)
        return [place for place in places if place[1] <= again.get(place[0], -1) and place not in verdicts]

    def _check_fuses(self, items: Sequence[Item], verdicts: set[tuple[int, int]]) -> None:
        if not verdicts:
            return
        for partition, group in groupby(self._watched(items), lambda item: item.record.partition):
            several = list(group)
            number = self._fuse(partition).blows_at((partition, item.record.offset) in verdicts for item in several)
            if number is not None:
                raise FuseBlown(partition, several[number].record.offset)

    def _count(self, items: Sequence[Item], letters: Sequence[DeadLetter]) -> None:
        self.progress.last_done = time.monotonic()
        telemetry.EVENTS.labels(self.group, self.topic.name, "applied").inc(len(items) - len(letters))
        for letter in letters:
            telemetry.EVENTS.labels(self.group, self.topic.name, "dead").inc()
            telemetry.DEAD_LETTERS.labels(self.group, self.topic.name, letter.reason).inc()
        oldest = min(item.record.timestamp for item in items)
        telemetry.EVENT_AGE.labels(self.group, self.topic.name).observe(max(0.0, time.time() - oldest / 1000))

    async def _tell_kafka(self, after: Mapping[int, int]) -> None:
        """Commit to Kafka too, for lag tools. Whether it works does not matter; against a silent broker it would try for ever."""
        with suppress(KafkaError, ValueError, TimeoutError):
            async with asyncio.timeout(TELL_S):
                await self._live().commit({TopicPartition(self.topic.name, partition): offset for partition, offset in after.items()})

    def _take_over_again(self, items: Sequence[Item], opened: int) -> None:
        """Count a connection that is younger than our takeover as a takeover: it may lead to a database put back to an earlier moment.

        Where the offset row stands then is no sign: a consumer that was frozen may stand exactly there (decision 0011).
        """
        for item in items:
            self._taken_over_at[item.record.partition] = max(opened, self._taken_over_at.get(item.record.partition, 0))
            if item.event is not None and item.event.taken_over_at < opened:
                item.event = replace(item.event, taken_over_at=opened)

    def _before(self, partition: int, first: int) -> int:
        """Where the offset row must stand for these records of the batch at work."""
        return standing.row_before(first, self._standing[partition], self._positions.get(partition))

    def _fuse(self, partition: int) -> Fuse:
        return self._fuses.setdefault(partition, Fuse())

    def _watched(self, items: Iterable[Item]) -> Iterator[Item]:
        """The records that the fuses count: all but those that a person lets be set aside."""
        rows = self._rows
        return (item for item in items if item.record.partition not in rows or item.record.offset >= rows[item.record.partition].bad_until)
