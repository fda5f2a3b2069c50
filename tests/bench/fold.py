"""The fold alone: entities in memory to committed figures in the real database, no broker, one process."""

import random
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from deploy.local import postgres
from deploy.local.layout import Layout
from services.reporting.figures.handlers import Folding
from shared.chassis.database import create_pool, transaction
from shared.chassis.decode import Received
from shared.chassis.migrations import migrate
from shared.chassis.process import spare_the_collector
from shared.contracts import assessment, enrollment
from shared.contracts.envelope import EventType
from tests.bench.load import communes

PERSONS = 60_000
BATCH = 10_000

_encode = msgspec.json.Encoder().encode


async def fold_alone(layout: Layout) -> int:
    """Events per second of one process, warm: half of the persons are known before the clock starts."""
    admin = await asyncpg.connect(postgres.dsn(layout))
    await admin.execute("CREATE DATABASE fold_alone")
    pool = await create_pool(postgres.dsn(layout, "fold_alone"), size=2)
    await migrate(postgres.dsn(layout, "fold_alone"), "reporting", Path("services/reporting/migrations"))
    folding = Folding()
    places = communes()
    units = [
        {"code": code, "level": "commune", "name": code, "type": "Xã", "province": "51", "valid_from": "2025-07-01", "version": 1} for code in places
    ]
    async with transaction(pool) as tx:
        await folding.on_register([_received(enrollment.TERRITORY_REGISTERED, unit) for unit in units], tx)
        await folding.on_register(
            [_received(enrollment.COURSE_PUBLISHED, {"code": "BBB", "title": "B", "launched_by": "BXD", "course_sets": ["KH-440"], "version": 1})], tx
        )
    stories = _stories(places)
    spare_the_collector()  # as a worker does
    warm, timed = stories[: len(stories) // 2], stories[len(stories) // 2 :]
    for batch in _batches(warm):
        async with transaction(pool) as tx:
            await folding.on_entities(batch, tx)
    started = time.monotonic()
    for batch in _batches(timed):
        async with transaction(pool) as tx:
            await folding.on_entities(batch, tx)
    rate = len(timed) / (time.monotonic() - started)
    await pool.close()
    await admin.execute("DROP DATABASE fold_alone WITH (FORCE)")
    await admin.close()
    return round(rate)


def _stories(places: list[str]) -> list[Received[Any]]:
    chance = random.Random(5)  # noqa: S311  # reproducible, not secret
    found: list[Received[Any]] = []
    for _ in range(PERSONS):
        ref, key, day = str(uuid.UUID(int=chance.getrandbits(128))), str(uuid.UUID(int=chance.getrandbits(128))), chance.randrange(1, 28)
        person = {
            "person_ref": ref, "assurance": 1, "version": 1,
            "residences": [{"code": chance.choice(places), "valid_from": "2025-07-01", "valid_to": None}],
            "groups": [{"group": chance.choice(("CIT", "STU", "PUB", "ENT")), "valid_from": "2025-07-01", "valid_to": None}],
        }  # fmt: skip
        state = {"enrollment_id": key, "person_ref": ref, "course": "BBB", "status": "ACTIVE", "registered_at": f"2026-05-{day:02d}T00:00:00Z"}
        found.append(_received(enrollment.PERSON_REGISTERED, person))
        found.append(_received(enrollment.ENROLLMENT_REGISTERED, {**state, "version": 1}))
        found.append(_received(enrollment.ENROLLMENT_STARTED, {**state, "started_at": f"2026-06-{day:02d}T00:00:00Z", "version": 2}))
        if day % 2:
            done = {"enrollment_id": key, "person_ref": ref, "course": "BBB", "completed_at": f"2026-08-{day:02d}T00:00:00Z", "version": 1}
            found.append(_received(assessment.COMPLETION_RECORDED, done))
    chance.shuffle(found)
    return found


def _received(known: EventType[Any], data: dict[str, object]) -> Received[Any]:
    return Received(known.name, "1", "/bench", known.decode(_encode(data)), known.topic, 0, 0)


def _batches(stories: list[Received[Any]]) -> "list[list[Received[Any]]]":
    return [stories[at : at + BATCH] for at in range(0, len(stories), BATCH)]
