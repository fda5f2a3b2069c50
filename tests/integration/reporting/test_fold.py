"""The fold on a real PostgreSQL: two workers at once, codes that come later, registers that change."""

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest

from services.reporting.figures import store
from services.reporting.figures.domain import Row, calendar_day
from services.reporting.figures.handlers import Folding
from shared.chassis.database import Pool, Tx, transaction
from shared.contracts.topics import ASSESSMENT_EVENTS
from tests.integration.reporting.told import TERRITORY, Told, completed, course, enrolled, figures, fold, person, tell, unit, value

pytestmark = pytest.mark.service("reporting")

COURSES = (course("BXD1", "KH-440"), course("BXD2", "KH-440"), course("MOOC"))


def life(number: int) -> list[Told]:
    """One person's story over both topics."""
    name = f"person {number}"
    there = ("23377", "23400", "00004", "51", "99999")[number % 5]
    day = f"2026-0{number % 8 + 1}-1{number % 9}"
    return [
        person(name, (there, "2020-01-01"), groups=(("CIT", "STU", "PUB", "ENT")[number % 4],)),
        person(name, (there, "2020-01-01"), ("00004", "2026-09-20"), groups=("CIT",), version=2),
        enrolled(name, "BXD1", f"{day}T02:00:00Z"),
        enrolled(name, "BXD1", f"{day}T02:00:00Z", f"{day}T18:00:00Z", version=2),
        enrolled(name, "MOOC", f"{day}T03:00:00Z", status="VOIDED" if number % 7 == 0 else "ACTIVE"),
        completed(name, "BXD1", "2026-09-14T16:59:59Z" if number % 2 else "2026-09-14T17:00:00Z"),
        completed(name, "MOOC", "2026-09-30T02:00:00Z"),
        completed(name, "MOOC", None, version=2),
    ]


async def work(pool: Pool, events: Sequence[Told], size: int) -> None:
    """One worker with its own memory: batches, each tried again when the database asks for it."""
    folding = Folding()
    for start in range(0, len(events), size):
        await tell(pool, *events[start : start + size], folding=folding)


async def both_topics_at_once(pool: Pool) -> None:
    """Two workers on the two topics of the same 200 persons, shuffled and with copies."""
    told = [one for number in range(200) for one in life(number)]
    order = random.Random(1)  # noqa: S311  # repeats
    told += order.sample(told, 60)
    order.shuffle(told)
    completions = [one for one in told if one.type.topic == ASSESSMENT_EVENTS.name]
    rest = [one for one in told if one.type.topic != ASSESSMENT_EVENTS.name]
    await asyncio.gather(work(pool, completions, 37), work(pool, rest, 53), work(pool, rest[::-1], 41))


async def test_workers_on_the_same_persons_and_rows_lose_nothing(pool: Pool) -> None:
    await tell(pool, *TERRITORY, *COURSES)
    await both_topics_at_once(pool)
    together = await figures(pool)
    await pool.execute("TRUNCATE figure, person_document, awaiting")
    await tell(pool, *(one for number in range(200) for one in life(number)))
    assert together == await figures(pool)
    assert await value(pool, "I-02", "VN") == 200 + 200 - 29


async def test_control_update_then_insert_loses_counts(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write path that looks right and is not: what two workers insert at the same moment is counted once."""
    await tell(pool, *TERRITORY, *COURSES)
    both_updated = asyncio.Barrier(2)

    async def update_then_insert(tx: Tx, rows: Mapping[Row, Sequence[int]]) -> None:
        await tx.execute(store._STAGE)
        await tx.copy_records_to_table("figure_difference", records=[(*row[:3], calendar_day(row[3]), *counts) for row, counts in rows.items()])
        await tx.execute(
            "UPDATE figure SET n_all = figure.n_all + d.n_all FROM figure_difference d "
            "WHERE (figure.indicator, figure.course_set, figure.node, figure.day) = (d.indicator, d.course_set, d.node, d.day)"
        )
        await both_updated.wait()
        await tx.execute("INSERT INTO figure SELECT * FROM figure_difference ON CONFLICT DO NOTHING")

    monkeypatch.setattr(store, "add", update_then_insert)
    pair = [[person(name, ("23377", "2020-01-01")), enrolled(name, "BXD1", "2026-06-01T02:00:00Z")] for name in ("Lan", "Minh")]
    await asyncio.gather(*(tell(pool, *events) for events in pair))
    assert await value(pool, "I-02", "VN") == 1


async def test_a_batch_that_rolls_back_leaves_nothing_and_may_come_again(pool: Pool) -> None:
    folding = Folding()
    await tell(pool, *TERRITORY, *COURSES)

    async def fails() -> None:
        async with transaction(pool) as tx:
            await fold(folding, tx, [course("NEW", "KH-440"), *life(1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert await figures(pool) == []
    await tell(pool, *life(1), folding=folding)
    await tell(pool, *life(1), folding=folding)
    assert await value(pool, "I-01", "VN") == 1


async def test_who_waits_for_a_course_counts_for_its_sets_once_it_is_published(pool: Pool) -> None:
    await tell(pool, *TERRITORY)
    await tell(pool, person("Lan", ("23377", "2020-01-01")), enrolled("Lan", "BXD1", "2026-06-01T02:00:00Z", "2026-06-02T02:00:00Z"))
    assert (await value(pool, "I-01", "VN/51/23377"), await value(pool, "I-01", "VN", "KH-440")) == (1, 0)
    assert await pool.fetchval("SELECT code FROM awaiting") == "course:BXD1"
    await tell(pool, course("BXD1", "KH-440"))
    assert (await value(pool, "I-01", "VN/51/23377"), await value(pool, "I-01", "VN", "KH-440")) == (1, 1)
    assert await pool.fetchval("SELECT count(*) FROM awaiting") == 0


async def test_who_waits_for_a_commune_moves_there_once_the_register_knows_it(pool: Pool) -> None:
    await tell(pool, *TERRITORY, course("BXD1"))
    await tell(pool, person("Lan", ("23500", "2020-01-01")), enrolled("Lan", "BXD1", "2026-06-01T02:00:00Z", "2026-06-02T02:00:00Z"))
    assert [await value(pool, "I-01", node) for node in ("VN/?", "VN/51", "VN")] == [1, 0, 1]
    await tell(pool, unit("23500", "51"))
    assert [await value(pool, "I-01", node) for node in ("VN/?", "VN/51/23500", "VN/51", "VN")] == [0, 1, 1, 1]
    assert [await value(pool, "I-02", node) for node in ("VN/?", "VN/51/23500", "VN/51", "VN")] == [0, 1, 1, 1]


async def test_a_course_that_changes_its_sets_takes_all_its_learners_along_and_an_old_version_none(pool: Pool) -> None:
    await tell(pool, *TERRITORY, course("BXD1", "KH-440"))
    await tell(pool, *(one for number in range(20) for one in life(number)))
    assert await value(pool, "I-01", "VN", "KH-440") == 20
    await tell(pool, course("BXD1", "KH-441", version=3))
    assert (await value(pool, "I-01", "VN", "KH-440"), await value(pool, "I-01", "VN", "KH-441"), await value(pool, "I-01", "VN")) == (0, 20, 20)
    before = await figures(pool)
    await tell(pool, course("BXD1", "KH-440", version=2))
    assert await figures(pool) == before


async def test_a_set_that_is_told_twice_and_the_set_of_all_courses_count_once(pool: Pool) -> None:
    await tell(pool, *TERRITORY, course("BXD1", "KH-440", "KH-440", "ALL"))
    await tell(pool, person("Lan", ("23377", "2020-01-01")), enrolled("Lan", "BXD1", "2026-06-01T02:00:00Z"))
    assert (await value(pool, "I-02", "VN"), await value(pool, "I-02", "VN", "KH-440")) == (1, 1)


async def test_a_worker_notices_that_another_changed_the_registers(pool: Pool) -> None:
    mine, other = Folding(), Folding()
    await tell(pool, *TERRITORY, course("BXD1"), folding=mine)
    await tell(pool, person("Lan", ("23377", "2020-01-01")), folding=mine)
    await tell(pool, course("BXD1", "KH-440", version=2), folding=other)
    await tell(pool, enrolled("Lan", "BXD1", "2026-06-01T02:00:00Z"), folding=mine)
    assert await value(pool, "I-02", "VN", "KH-440") == 1
