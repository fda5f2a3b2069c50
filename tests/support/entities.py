"""Entities in bulk, as enrollment and assessment announce them: fast to make, without end, and no total of the nation ever falls."""

import asyncio
import csv
import random
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer

from deploy.local.layout import REPOSITORY
from shared.contracts import assessment, enrollment
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS, Topic

COURSES = {"BXD1": "KH-440", "BXD2": "KH-440;KH-441", "MOOC": "", "NEW1": "KH-441"}
"""Codes of the courses, and the sets they belong to."""

WINDOW = 2000
"""Events are shuffled in windows of so many: newer versions come before older ones, completions before enrollments."""

COPIES = 0.03
"""Share of events that come twice."""

BATCH_BYTES = 524_288
"""Largest batch that is sent, bytes."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One announced entity: name of its topic in the closed list, number of its person or place, key, type, data."""

    topic: str
    number: int
    key: str
    type: str
    data: str
    version: int

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        found = {"specversion": "1.0", "type": self.type, "source": "/services/test", "id": f"{self.key}:{self.type}:{self.version}"}
        return [(f"ce_{name}", text.encode()) for name, text in found.items()] + [("content-type", b"application/json")]


def registers() -> list[Entity]:
    """The territory that ships with enrollment, and the courses."""
    found = []
    with (REPOSITORY / "services" / "enrollment" / "registers" / "territory.csv").open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            data = (
                f'{{"code": "{row["code"]}", "level": "{row["level"]}", "name": "{row["name"]}", "type": "{row["type"]}", '
                f'"province": "{row["province"]}", "valid_from": "2025-07-01", "valid_to": null, "version": 1}}'
            )
            found.append(Entity(REGISTRY_EVENTS.name, number, f"territory:{row['code']}", enrollment.TERRITORY_REGISTERED.name, data, 1))
    return found + [course(code, sets) for code, sets in COURSES.items()]


def course(code: str, sets: str, version: int = 1) -> Entity:
    """A course with its sets, separated by semicolons."""
    told = ", ".join(f'"{one}"' for one in sets.split(";") if one)
    data = f'{{"code": "{code}", "title": "Khóa {code}", "launched_by": "BXD", "course_sets": [{told}], "version": {version}}}'
    return Entity(REGISTRY_EVENTS.name, len(code), f"course:{code}", enrollment.COURSE_PUBLISHED.name, data, version)


def entities(seed: int = 1) -> Iterator[Entity]:
    """Persons, their enrollments and completions, person after person, shuffled in windows and with copies; without end."""
    chance = random.Random(seed)  # noqa: S311  # repeats
    communes = sorted(one.key.split(":")[1] for one in registers() if '"level": "commune"' in one.data)
    window: list[Entity] = []
    number = 0
    while True:
        window.extend(_life(number, seed, chance, communes))
        number += 1
        if len(window) >= WINDOW:
            window.extend(chance.sample(window, round(len(window) * COPIES)))
            chance.shuffle(window)
            yield from window
            window = []


def _life(number: int, seed: int, chance: random.Random, communes: Sequence[str]) -> Iterator[Entity]:
    """One person: told once or twice (moved), one enrollment in two states, and for two in three a completion."""
    person, key = str(UUID(int=chance.getrandbits(128))), str(UUID(int=chance.getrandbits(128)))
    # One in fifty lives where no register knows, and is counted as unattributed.
    here = f"9{seed % 10}{number % 1000:03}"[:5] if number % 50 == 0 else chance.choice(communes)
    group = chance.choice(("CIT", "CIT", "STU", "PUB", "ENT"))
    code, month, day = chance.choice(list(COURSES)), chance.randrange(1, 9), chance.randrange(1, 28)
    groups = f'"groups": [{{"group": "{group}", "valid_from": "2020-01-01", "valid_to": null}}]'
    lived = f'{{"code": "{here}", "valid_from": "2020-01-01", "valid_to": %s}}'
    about = f'{{"person_ref": "{person}", "assurance": 1, {groups}, "residences": [%s], "version": %d}}'
    yield Entity(ENROLLMENT_EVENTS.name, number, person, enrollment.PERSON_REGISTERED.name, about % (lived % "null", 1), 1)
    if number % 10 == 0:
        moved = lived % '"2026-06-01"' + f', {{"code": "{chance.choice(communes)}", "valid_from": "2026-06-01", "valid_to": null}}'
        yield Entity(ENROLLMENT_EVENTS.name, number, person, enrollment.PERSON_AFFILIATED.name, about % (moved, 2), 2)
    state = (
        f'{{"enrollment_id": "{key}", "person_ref": "{person}", "course": "{code}", "status": "ACTIVE", '
        f'"registered_at": "2026-{month:02}-{day:02}T02:00:00Z", "started_at": %s, "withdrawn_at": null, "version": %d}}'
    )
    began = f'"2026-{month:02}-{day:02}T0{chance.randrange(3, 9)}:00:00Z"'
    yield Entity(ENROLLMENT_EVENTS.name, number, key, enrollment.ENROLLMENT_REGISTERED.name, state % ("null", 1), 1)
    yield Entity(ENROLLMENT_EVENTS.name, number, key, enrollment.ENROLLMENT_STARTED.name, state % (began, 2), 2)
    if number % 3:
        at = f"2026-{month + 2:02}-{day:02}T02:00:00Z"
        done = f'{{"enrollment_id": "{key}", "person_ref": "{person}", "course": "{code}", "completed_at": "{at}", "version": 1}}'
        yield Entity(ASSESSMENT_EVENTS.name, number, key, assessment.COMPLETION_RECORDED.name, done, 1)


async def send(producer: AIOKafkaProducer, topics: dict[str, Topic], sent: Sequence[Entity]) -> None:
    """Put entities on their topics, everything of a person on the partition of the person, in this order."""
    places: defaultdict[tuple[str, int], list[Entity]] = defaultdict(list)
    for one in sent:
        places[one.topic, one.number % topics[one.topic].partitions].append(one)
    answers = []
    for (topic, partition), mine in places.items():
        batch = producer.create_batch()
        for one in mine:
            told = {"key": one.key.encode(), "value": one.data.encode(), "timestamp": None, "headers": one.headers}
            if batch.append(**told) is None:
                answers.append(await producer.send_batch(batch, topics[topic].name, partition=partition))
                batch = producer.create_batch()
                batch.append(**told)
        answers.append(await producer.send_batch(batch, topics[topic].name, partition=partition))
    await asyncio.gather(*answers)


def create_producer(bootstrap_servers: Sequence[str]) -> AIOKafkaProducer:
    """A producer of large batches that keeps their order."""
    return AIOKafkaProducer(
        bootstrap_servers=list(bootstrap_servers), acks="all", enable_idempotence=True, compression_type="lz4", max_batch_size=BATCH_BYTES
    )


_APPLIED = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumed_offset"


class Traffic:
    """Events that keep coming, from a thread of their own, until it is told to stop; never more than the worker gets through.

    Attributes:
        sent: how many so far.
    """

    def __init__(self, bootstrap_servers: Sequence[str], dsn: str, topics: dict[str, Topic], source: Iterator[Entity], per_second: int) -> None:
        """Plain construction; nothing happens yet.

        Args:
            bootstrap_servers: where they go.
            dsn: of the database whose worker applies them.
            topics: by the name in the closed list.
            source: what is sent.
            per_second: at most so many.
        """
        self._servers = bootstrap_servers
        self._dsn = dsn
        self._topics = topics
        self._source = source
        self._per_second = per_second
        self._stop = threading.Event()
        self.sent = 0

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        producer = create_producer(self._servers)
        await producer.start()
        database = await asyncpg.connect(self._dsn)
        before = await database.fetchval(_APPLIED)
        try:
            while not self._stop.is_set():
                if self.sent - (await database.fetchval(_APPLIED) - before) < self._per_second:
                    some = [next(self._source) for _ in range(max(1, self._per_second // 10))]
                    await send(producer, self._topics, some)
                    self.sent += len(some)
                await asyncio.sleep(0.1)  # what paces it; nothing is waited for
        finally:
            await database.close()
            await producer.stop()
