"""Where a consumer stands on each of its partitions, and when it must stand still there rather than skip.

Nothing is applied from a partition before its offset row was read and the broker has shown that its log still goes on
there. The same is looked at again every two seconds, also where no record comes.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.chassis import broker, dead_letters, offsets, stops, telemetry
from shared.chassis.broker import Sight
from shared.chassis.clock import next_version, now
from shared.chassis.database import Pool, transaction
from shared.chassis.dead_letters import RawRecord
from shared.chassis.errors import Fenced, is_transient
from shared.chassis.fuse import WINDOW, Fuse
from shared.chassis.progress import Progress
from shared.chassis.standing import follows
from shared.chassis.stops import Extent, Place, Stop
from shared.contracts.topics import Topic

log = logging.getLogger(__name__)

METADATA_S = 2.0
"""Longest wait for the client to learn of new partitions before it joins again, seconds."""

SETTLE_S = 60.0
"""After so long without a record, the offsets that are left at the end of a log are read: are they only markers, seconds?"""

JOIN_AGAIN_S = 10.0
"""Pause between attempts to get partitions that nobody has, seconds."""


class Places:
    """The partitions of one topic that a consumer of one group has, and its position on each."""

    def __init__(self, topic: Topic, group: str, pool: Pool) -> None:
        self.topic = topic
        self.group = group
        self.progress = Progress()
        self.consumer: AIOKafkaConsumer | None = None
        self._pool = pool
        self._positions: dict[int, int] = {}
        self._looked_at: dict[int, int | None] = {}
        self._taken_over_at: dict[int, int] = {}
        self._standing: dict[int, int] = {}
        """Where the batch at work stands. Only its own commits move it; a rebalance in the meantime moves `_positions`."""
        self._rows: dict[int, Place] = {}
        self._fuses: dict[int, Fuse] = {}
        self._open_until: dict[int, int] = {}
        """By partition the offset of the last dead letter that was open when we took it up; what is read before is a replay."""
        self._known: set[int] = set()
        self._joined_again_at = -JOIN_AGAIN_S
        self._still: dict[int, tuple[int, float]] = {}
        self._resuming = asyncio.Lock()

    async def assigned(self, partitions: Iterable[int]) -> None:
        """Take partitions over: read the offset rows first, then seek. State is read per batch, so it is never older."""
        mine = sorted(partitions)
        telemetry.REBALANCES.labels(self.group, self.topic.name).inc()
        # Whoever had a partition meanwhile may have moved it; only the row knows.
        self._positions, self._fuses = {}, {}
        self.progress.halted = {}
        self.progress.lag = {}
        self.progress.trouble = None
        self._show_halted()
        await self._resume_unknown(mine)
        self.progress.joined = True

    async def revoked(self) -> None:
        """Give all partitions up. A batch still at work fails at its offset rows or commits before the next owner does."""
        self._positions = {}

    async def look_after(self) -> None:
        """Look at the broker: how far we are behind, and whether every log still goes on where we stand.

        Raises:
            Transient: the broker does not answer.
        """
        live = self.consumer
        if live is None:
            return
        mine = sorted(place.partition for place in live.assignment())
        before = dict(self._positions)
        seen = await broker.look(live, self.topic.name, mine)
        was_gone, self.progress.gone = self.progress.gone, stops.gone(self.topic.name) if seen is None else None
        if seen is None:
            self._halt_all(mine, stops.gone(self.topic.name))
            self._joined_again_at = -JOIN_AGAIN_S
            return
        for partition in mine:
            stop = self._lost(partition, before.get(partition), seen)
            if stop is not None:
                await self._stand_still(partition, stop, seen)
        await self._measure_lag(live, mine, seen)
        await self._follow_rows()
        await self._go_on_where_possible(mine)
        await self._pass_markers(live, seen)
        await self._join_again_if_needed(live, mine, seen, back=was_gone is not None)

    def _lost(self, partition: int, before: int | None, seen: Sight) -> Stop | None:
        """Compare a partition with what was just seen of it.

        Args:
            partition: one of ours.
            before: where we stood before the broker was asked: what it said of ends is older than what we applied since.
            seen: what the broker said.
        """
        row, at = self._rows.get(partition), self._positions.get(partition)
        if at is None or before is None or partition in self.progress.halted:
            return None
        extent = seen.extents.get(partition)
        if extent is None or at != before:
            # Nothing can be said of begin and end; the id can be compared all the same.
            extent = Extent(at, at)
        return stops.lost(self.topic.name, partition, replace(row or Place(at), next_offset=at), seen.topic_id, extent)

    async def _measure_lag(self, live: AIOKafkaConsumer, mine: Sequence[int], seen: Sight) -> None:
        """Take note of how far we are behind the ends of our partitions.

        A relay's transactions leave markers at the ends that are no records; while nothing is at work the fetch position,
        which has passed them, is what counts.
        """
        idle = self.progress.working_since is None
        lag: dict[int, int] = {}
        for partition in mine:
            at, row = self._positions.get(partition), self._rows.get(partition)
            if at is not None and idle and partition not in self.progress.halted:
                with suppress(TimeoutError):
                    at = max(at, await asyncio.wait_for(live.position(TopicPartition(self.topic.name, partition)), 1))
            elif at is None and row is not None:
                at = row.next_offset
            extent = seen.extents.get(partition)
            lag[partition] = max(0, extent.end - (at or 0)) if extent is not None else 0
            if lag[partition] == 0 or at != self._looked_at.get(partition):
                self.progress.moved_at[partition] = time.monotonic()
            self._looked_at[partition] = at
        self.progress.lag = lag
        self.progress.measured_at = time.monotonic()

    async def _follow_rows(self) -> None:
        """Give up positions whose rows stand elsewhere although nothing is at work; they are taken up again from the rows.

        A database that was restored to an earlier moment stands behind us, and a person who wants a replay sets rows back. The
        fence notices that with the next batch; a partition to which nothing comes any more would never notice.
        """
        stood = dict(self._positions)
        rows = await offsets.read(self._pool, self.group, self.topic.name)
        if self.progress.working_since is not None or self._positions != stood:
            return
        elsewhere = [partition for partition, at in stood.items() if partition in rows and rows[partition].next_offset != at]
        if elsewhere:
            log.warning("offset rows stand elsewhere", extra={"topic": self.topic.name, "partitions": sorted(elsewhere)})
        for partition in elsewhere:
            del self._positions[partition]

    async def _go_on_where_possible(self, mine: Collection[int]) -> None:
        """Try again where the row could not be read, and where a partition stands still: a person may have decided."""
        halted = [partition for partition in mine if partition in self.progress.halted]
        waiting = [partition for partition in mine if partition not in self._positions]
        if not halted and not waiting:
            return
        rows = await offsets.read(self._pool, self.group, self.topic.name)
        for partition in halted:
            row = rows.get(partition)
            released = row is not None and row.bad_until > row.next_offset
            if self.progress.halted[partition].reason != "fuse_blown" or released:
                waiting.append(partition)
        if waiting and self.progress.working_since is None:
            for partition in waiting:
                self._positions.pop(partition, None)
            await self._resume_unknown(sorted(waiting))

    async def _pass_markers(self, live: AIOKafkaConsumer, seen: Sight) -> None:
        """Move rows past markers of transactions at the end of an idle log.

        Retention deletes them one day together with the records before them; then the log begins behind where we stand
        although nothing was lost, and only a row that has passed them shows it.
        """
        at_the_moment = time.monotonic()
        spans = {}
        for partition, extent in seen.extents.items():
            at = self._positions.get(partition)
            if at is None or at >= extent.end or partition in self.progress.halted or self.progress.lag.get(partition) != 0:
                self._still.pop(partition, None)
                continue
            known, since = self._still.setdefault(partition, (at, at_the_moment))
            if known != at:
                self._still[partition] = (at, at_the_moment)
            elif at_the_moment - since > SETTLE_S:
                spans[partition] = (at, extent.end)
        if not spans:
            return
        for partition in await broker.without_records(live, self.topic.name, spans):
            at, end = spans[partition]
            with suppress(Fenced):
                async with transaction(self._pool) as tx:
                    await offsets.advance(tx, self.group, self.topic.name, {partition: (at, end)})
                if self._positions.get(partition) == at:
                    self._positions[partition] = end
        self._still.clear()

    async def _join_again_if_needed(self, live: AIOKafkaConsumer, mine: Collection[int], seen: Sight, *, back: bool) -> None:
        """Join the group again while the topic has partitions that nobody can have.

        aiokafka looks at a topic every five minutes, and the leader of a group not even then, once it was a static member
        and was started again. So partitions that were added would wait, and a topic that was made again would never be told.
        """
        if seen.partitions > len(self._known) or not mine:
            rows = await offsets.read(self._pool, self.group, self.topic.name)
            self._known = set(rows)
            back = back or any(row.topic_id not in {None, seen.topic_id} for row in rows.values())
        wanted = seen.partitions > len(self._known) or (back and not mine)
        if not wanted or time.monotonic() - self._joined_again_at < JOIN_AGAIN_S:
            return
        self._joined_again_at = time.monotonic()
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(live._client.force_metadata_update(), METADATA_S)
        live._coordinator.request_rejoin()

    async def _in_sequence(self, records: Sequence[RawRecord]) -> list[RawRecord]:
        """Keep the records that follow our positions; put right where a partition stands elsewhere."""
        self._standing = dict(self._positions)
        runs: dict[int, list[RawRecord]] = {}
        for record in records:
            if record.partition not in self.progress.halted:
                runs.setdefault(record.partition, []).append(record)
        gaps = {partition: at for partition, run in runs.items() if (at := self._standing.get(partition)) is not None and at != run[0].offset}
        if gaps:
            await self._halt_where_records_are_lost(gaps)
        usable: list[RawRecord] = []
        astray = set()
        for partition, run in runs.items():
            at = self._standing.get(partition)
            if partition in self.progress.halted:
                continue
            if follows(run[0].offset, at, self._positions.get(partition)):
                usable.extend(run)
            else:
                astray.add(partition)
        if astray:
            await self._reread(astray)
        return usable

    async def _halt_where_records_are_lost(self, gaps: Mapping[int, int]) -> None:
        """Tell lawful holes (compaction, markers of transactions) from records that are gone; there the partition stops.

        Args:
            gaps: by partition, where we stand while the next record stands elsewhere.
        """
        seen = await broker.look(self._live(), self.topic.name, gaps)
        if seen is None:
            self._halt_all(gaps, stops.gone(self.topic.name))
            return
        for partition, at in gaps.items():
            stop = self._lost(partition, at, seen)
            if stop is not None:
                await self._stand_still(partition, stop, seen)

    async def _reread(self, partitions: Iterable[int]) -> None:
        """Go back to the offset rows of partitions that are still ours."""
        consumer = self._live()
        mine = {place.partition for place in consumer.assignment()}
        wanted = sorted(set(partitions) & mine)
        for partition in wanted:
            # Without positions the next batch comes here again; nothing is applied before the rows could be read.
            self._positions.pop(partition, None)
        try:
            await self._resume_unknown(wanted)
        except Exception as error:
            if not is_transient(error):
                raise
            await asyncio.sleep(1)

    async def _resume_unknown(self, partitions: Iterable[int]) -> None:
        """Take up those of these partitions whose position is not known; whoever comes second finds it done."""
        async with self._resuming:
            await self._resume([partition for partition in partitions if partition not in self._positions])

    async def _resume(self, partitions: Sequence[int]) -> None:
        """Read the offset rows, look whether the logs go on there, and seek; where one does not, stand still."""
        if not partitions:
            return
        consumer = self._live()
        rows = await self._begun(partitions)
        # After the rows: behind an end that is older than its row, records would seem to be lost.
        seen = await broker.look(consumer, self.topic.name, partitions)
        if rows is None or seen is None:
            self._halt_all(partitions, stops.gone(self.topic.name))
            return
        await self._recall_letters({partition: rows[partition] for partition in partitions})
        fresh = []
        for partition in partitions:
            row, extent = rows[partition], seen.extents.get(partition)
            self._rows[partition] = replace(row, topic_id=row.topic_id or seen.topic_id)
            stop = stops.lost(self.topic.name, partition, row, seen.topic_id, extent or Extent(row.next_offset, row.next_offset))
            if stop is not None:
                await self._stand_still(partition, stop, seen)
                continue
            if extent is None:
                continue  # the broker does not tell yet; the next look comes here again
            if row.topic_id is None:
                fresh.append(partition)
            place = TopicPartition(self.topic.name, partition)
            with suppress(KafkaError, ValueError, AssertionError):  # taken from us meanwhile
                consumer.seek(place, row.next_offset)
                consumer.resume(place)
                self._positions[partition] = row.next_offset
                self._taken_over_at[partition] = next_version(None, now())
                if self.progress.halted.pop(partition, None) is not None:
                    log.warning("partition goes on", extra={"topic": self.topic.name, "partition": partition, "offset": row.next_offset})
                    self._show_halted()
        if fresh:
            await offsets.adopt(self._pool, self.group, self.topic.name, fresh, seen.topic_id)

    async def _begun(self, partitions: Sequence[int]) -> Mapping[int, Place] | None:
        """The offset rows; those that are missing are made. None when the topic is gone before it was begun."""
        rows = await offsets.read(self._pool, self.group, self.topic.name)
        if rows.keys() >= set(partitions):
            return rows
        seen = await broker.look(self._live(), self.topic.name)
        if seen is None:
            return None
        if not rows:
            # The group has never read this topic: every partition of it is begun now, whoever has it.
            firsts = {partition: extent.begin for partition, extent in seen.extents.items()}
            await offsets.begin_topic(self._pool, self.group, self.topic.name, seen.topic_id, firsts)
            if any(firsts.values()):
                log.warning("older records were gone before the group came", extra={"topic": self.topic.name, "first_offsets": firsts})
            rows = await offsets.read(self._pool, self.group, self.topic.name)
        missing = [partition for partition in partitions if partition not in rows]
        if missing:
            known = next((row.topic_id for row in rows.values() if row.topic_id is not None), seen.topic_id)
            await offsets.begin_partitions(self._pool, self.group, self.topic.name, known, missing)
            rows = await offsets.read(self._pool, self.group, self.topic.name)
        return rows

    async def _recall_letters(self, rows: Mapping[int, Place]) -> None:
        """What the dead letters tell of what is before and behind these rows, which may have been set back: for fuses, and for replays."""
        spans = {partition: (max(0, row.bad_until, row.next_offset - WINDOW), row.next_offset) for partition, row in rows.items()}
        found = await dead_letters.recent(self._pool, self.group, self.topic.name, spans)
        for partition, (first, after) in spans.items():
            self._fuses[partition] = Fuse.recall(first, after, found[partition])
        self._open_until |= dict.fromkeys(rows, -1) | await dead_letters.last_open(self._pool, self.group, self.topic.name, list(rows))

    async def _stand_still(self, partition: int, stop: Stop, seen: Sight) -> None:
        """Halt, and note what would not show again after a restart."""
        self._halt(partition, stop)
        if stop.reason == "topic_was_cut_back" and partition in seen.extents:
            await offsets.note_cut_back(self._pool, self.group, self.topic.name, partition, seen.extents[partition].end)

    def _halt_all(self, partitions: Iterable[int], stop: Stop) -> None:
        for partition in partitions:
            self._halt(partition, stop)

    def _halt(self, partition: int, stop: Stop) -> None:
        """Let a partition stand still until a person decides. Nothing of it is skipped."""
        with suppress(KafkaError, ValueError):
            self._live().pause(TopicPartition(self.topic.name, partition))
        known = self.progress.halted.get(partition)
        self.progress.halted[partition] = stop
        if known is not None and known.reason == stop.reason:
            return
        self._show_halted()
        log.error(
            "partition stands still",
            extra={
                "topic": self.topic.name, "partition": partition, "reason": stop.reason, "why": stop.sentence, "runbook": stops.RUNBOOK,
                "offset": self._positions.get(partition),
            },
        )  # fmt: skip

    def _show_halted(self) -> None:
        reasons = [stop.reason for stop in self.progress.halted.values()]
        for reason in stops.REASONS:
            telemetry.HALTED.labels(self.group, self.topic.name, reason).set(reasons.count(reason))

    def _live(self) -> AIOKafkaConsumer:
        if self.consumer is None:
            raise RuntimeError("the subscriber was not started")
        return self.consumer
