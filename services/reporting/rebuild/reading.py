"""What a rebuild reads: the topics, exactly as far as the live figures are, folded into its own tables by the handlers that run live."""

from collections.abc import Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.reporting.figures.handlers import Folding
from services.reporting.rebuild import store
from services.reporting.rebuild.store import GROUP, CannotRebuild
from shared.chassis import broker, stops, unpacking
from shared.chassis.database import Tx
from shared.chassis.dead_letters import RawRecord
from shared.chassis.decode import Received, decode
from shared.chassis.errors import Rejected
from shared.chassis.header_names import read_every_name
from shared.chassis.letters.store import redriven
from shared.chassis.stops import Extent
from shared.contracts.assessment import ENTITIES as COMPLETIONS
from shared.contracts.enrollment import ENTITIES, REGISTERS
from shared.contracts.envelope import by_name
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS

BATCH = 10_000
"""Records in one transaction of the rebuild."""

FETCH_BYTES = 2 * 1_048_576
"""Most bytes that are fetched ahead of each partition; all partitions together fit into some ten megabytes."""

FETCH_WAIT_MS = 50
"""How long the broker waits for records before it answers, milliseconds: at the exchange every fetch keeps folds waiting."""

REGISTERS_TOPIC = REGISTRY_EVENTS.name
"""Read first, so that nobody is computed again because a register came later."""

TOPICS = (REGISTERS_TOPIC, ENROLLMENT_EVENTS.name, ASSESSMENT_EVENTS.name)
"""What figures are made of."""

TYPES = by_name(ENTITIES, REGISTERS, COMPLETIONS)
"""What is known of those topics."""

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how many offsets of the topics are behind us, and how many there are up to where the live figures are."""


def create_consumer(bootstrap_servers: Sequence[str]) -> AIOKafkaConsumer:
    """A consumer without a group, which never goes on by itself where records are missing, and unpacks what the live one does."""
    read_every_name()
    unpacking.bound()
    return AIOKafkaConsumer(
        bootstrap_servers=list(bootstrap_servers), group_id=None, enable_auto_commit=False, auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=FETCH_BYTES, isolation_level="read_uncommitted",
    )  # fmt: skip


class Making:
    """Reads up to where the live figures are and folds into the tables of the rebuild.

    Attributes:
        records: how many were folded.
    """

    def __init__(self, consumer: AIOKafkaConsumer, connection: Tx, tell: Tell) -> None:
        self._consumer = consumer
        self._connection = connection
        self._tell = tell
        self._folding = Folding()
        self._begun: dict[TopicPartition, int] = {}
        self._at: dict[TopicPartition, int] = {}
        self._set_aside: frozenset[tuple[str, int, int]] = frozenset()
        self.records = 0

    async def look(self) -> None:
        """See whether the logs still hold everything that the live figures contain; take up partitions that were begun meanwhile.

        Raises:
            CannotRebuild: they do not.
            Transient: the broker does not tell.
        """
        # The rows before the logs: an end that is older than its row would look like a loss.
        rows = await store.places(self._connection, TOPICS)
        for topic in TOPICS:
            mine = {row.at.partition: row for row in rows if row.at.topic == topic}
            if not mine:
                continue
            seen = await broker.look(self._consumer, topic, mine)
            if seen is None:
                raise CannotRebuild(stops.gone(topic).sentence)
            for partition, live in mine.items():
                extent = seen.extents.get(partition, Extent(0, 0))
                stop = stops.lost(topic, partition, live.row, seen.topic_id, extent)
                if stop is not None:
                    raise CannotRebuild(stop.sentence)
                if extent.begin > live.first_offset:
                    raise CannotRebuild(
                        f"partition {partition} of {topic} begins at offset {extent.begin}: retention has removed records that the figures contain "
                        f"(from offset {live.first_offset} on), so the topic cannot give them again"
                    )
                self._begun.setdefault(live.at, extent.begin)
        if self._begun.keys() != self._at.keys():
            self._go_on_at(self._begun | self._at)

    def _go_on_at(self, at: Mapping[TopicPartition, int]) -> None:
        """Stand at these offsets; nothing is fetched before it is wanted."""
        self._consumer.assign(list(at))
        for place, offset in at.items():
            self._consumer.seek(place, offset)
        self._consumer.pause(*at)
        self._at = dict(at)

    def standing(self) -> tuple[Mapping[TopicPartition, int], int]:
        """Where we are, and after how many records, for `go_back`."""
        return dict(self._at), self.records

    def go_back(self, standing: tuple[Mapping[TopicPartition, int], int]) -> None:
        """Forget what was read since; its transaction was rolled back."""
        at, self.records = standing
        self._go_on_at(at)

    async def behind(self) -> int:
        """Offsets between us and the live figures."""
        there = await self._targets()
        return sum(there.values()) - sum(self._at[place] for place in there)

    async def live(self) -> int:
        """How many offsets the live figures contain."""
        return sum(after - self._begun[place] for place, after in (await self._targets()).items())

    async def catch_up(self) -> None:
        """Read and fold everything that the live figures contain, as this transaction sees them.

        Raises:
            CannotRebuild: the live figures went back, or hold a record that this program cannot read.
        """
        there = await self._targets()
        # After the offsets: what was set aside was so in the transaction that moved them.
        self._set_aside = await store.set_aside(self._connection, TOPICS)
        await self._read({place: after for place, after in there.items() if place.topic == REGISTERS_TOPIC}, there)
        await self._read({place: after for place, after in there.items() if place.topic != REGISTERS_TOPIC}, there)

    async def apply_redriven(self) -> None:
        """Fold what was set aside and applied after all, as it was mended; a second time changes nothing."""
        async for records in redriven(self._connection, GROUP, TOPICS):
            await self._fold(records)

    async def _targets(self) -> dict[TopicPartition, int]:
        found = {live.at: live.row.next_offset for live in await store.places(self._connection, TOPICS)}
        if not found.keys() <= self._at.keys():
            await self.look()
        for place, after in found.items():
            if after < self._at[place]:
                raise CannotRebuild(f"partition {place.partition} of {place.topic} was put back to offset {after} meanwhile; begin again")
        return found

    async def _read(self, targets: Mapping[TopicPartition, int], there: Mapping[TopicPartition, int]) -> None:
        """Read up to these offsets.

        Args:
            targets: by partition, the offset before which everything is wanted.
            there: the same of all partitions, to tell how much is left.
        """
        missing = {place for place, after in targets.items() if self._at[place] < after}
        self._consumer.resume(*missing)
        while missing:
            batch: list[RawRecord] = []
            for place, records in (await self._consumer.getmany(*missing, timeout_ms=200, max_records=BATCH)).items():
                wanted = [record for record in records if record.offset < targets[place]]
                if len(wanted) < len(records):
                    self._consumer.seek(place, targets[place])
                batch.extend(wanted)
            # What was set aside is in no figure; what was applied after all comes last.
            await self._fold([record for record in batch if (record.topic, record.partition, record.offset) not in self._set_aside])
            for place in list(missing):
                # Compaction and markers leave holes, so the fetch position counts, not the last record.
                self._at[place] = min(await self._consumer.position(place), targets[place])
                if self._at[place] == targets[place]:
                    missing.discard(place)
                    self._consumer.pause(place)
            self._tell(
                "reading topics",
                sum(self._at[place] - self._begun[place] for place in there),
                sum(after - self._begun[place] for place, after in there.items()),
            )

    async def _fold(self, records: Sequence[RawRecord]) -> None:
        if not records:
            return
        events = [event for record in records if (event := _read_again(record)) is not None]
        registers = [event for event in events if event.topic == REGISTERS_TOPIC]
        entities = [event for event in events if event.topic != REGISTERS_TOPIC]
        async with self._connection.transaction():
            await store.aside(self._connection)
            if registers:
                await self._folding.on_register(registers, self._connection)  # type: ignore[arg-type]  # types of the catalogue
            if entities:
                await self._folding.on_entities(entities, self._connection)  # type: ignore[arg-type]  # types of the catalogue
        self.records += len(records)


def _read_again(record: RawRecord) -> Received[object] | None:
    """The event of a record that was applied live.

    Raises:
        CannotRebuild: only this program cannot read it; leaving it out would change figures.
    """
    try:
        return decode(record, TYPES)
    except Rejected as rejected:
        raise CannotRebuild(
            f"offset {record.offset} of partition {record.partition} of {record.topic} is in the figures, "
            f"but this program cannot read it ({rejected})"
        ) from rejected
