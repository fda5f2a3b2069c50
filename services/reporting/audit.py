"""Recount every figure by other code: entities from the topics, definitions in SQL of another engine, every cell compared.

It reads the topics up to the offsets that the figures of one database snapshot contain, so it can run beside live traffic.
What was set aside is left out, unless a clerk had it applied after all; then it counts as it was mended.
"""

import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import asyncpg
import duckdb
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.progress import Progress

from services.reporting import metrics
from shared.chassis import unpacking
from shared.chassis.database import Pool, connection
from shared.chassis.header_names import read_every_name

TOPICS = ("registry-events", "enrollment-events", "assessment-events")
"""What figures are made of."""

EXAMPLES = 20
"""Differing cells that are shown."""

_SQL = Path(__file__).with_name("audit.sql")

_TABLES = {
    "enrollment": "enrollment_id VARCHAR, person_ref VARCHAR, course VARCHAR, status VARCHAR, "
    "registered_at BIGINT, started_at BIGINT, withdrawn_at BIGINT, version BIGINT",
    "completion": "enrollment_id VARCHAR, person_ref VARCHAR, course VARCHAR, completed_at BIGINT, version BIGINT",
    "person": "person_ref VARCHAR, version BIGINT",
    "residence": "person_ref VARCHAR, version BIGINT, code VARCHAR, valid_from DATE, valid_to DATE",
    "membership": "person_ref VARCHAR, version BIGINT, code VARCHAR, valid_from DATE, valid_to DATE",
    "territory": "code VARCHAR, level VARCHAR, province VARCHAR, version BIGINT",
    "course": "code VARCHAR, course_sets VARCHAR[], version BIGINT",
    "figure": "indicator VARCHAR, course_set VARCHAR, node VARCHAR, day DATE, "
    "n_all BIGINT, n_cit BIGINT, n_stu BIGINT, n_pub BIGINT, n_ent BIGINT, n_ungrouped BIGINT",
}
"""Tables of the recount and their columns."""

_INSTANTS = ("registered_at", "started_at", "withdrawn_at", "completed_at")


@dataclass(frozen=True, slots=True)
class Finding:
    """What an audit found.

    Attributes:
        cells_compared: cells that are not zero on one side at least.
        cells_differing: of these, how many differ.
        records: records read from the topics.
        seconds: how long it took.
        examples: differing cells: indicator, course set, node, day, group, what stood, what was recounted.
    """

    cells_compared: int
    cells_differing: int
    records: int
    seconds: float
    examples: tuple[tuple[str, ...], ...]


async def audit(pool: Pool, bootstrap_servers: Sequence[str], progress: Progress | None = None) -> Finding:
    """Compare every cell of the figures with a recount; the result is also kept in `audit_run`."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="audit-") as name:
        folder = Path(name)
        async with pool.acquire() as connection:
            offsets, letters = await _snapshot(connection, folder / "figure.csv")
        records = await _collect(bootstrap_servers, offsets, letters, folder, progress)
        compared, differing, examples = _compare(folder)
    finding = Finding(compared, differing, records, time.monotonic() - started, examples)
    await _remember(pool, finding)
    return finding


@dataclass(frozen=True, slots=True)
class Letters:
    """What was set aside: where, and the type and data of what a clerk had applied after all, as they were mended."""

    positions: frozenset[tuple[str, int, int]]
    redriven: tuple[tuple[str, bytes], ...]


_LETTERS = """
SELECT topic, partition, record_offset, state, coalesce(edited_header_names, header_names) AS names,
    coalesce(edited_header_values, header_values) AS texts, CASE WHEN state = 'redriven' THEN coalesce(edited_value, value) END AS value,
    dead_letter.era = consumed_offset.era AS of_this_era
FROM dead_letter JOIN consumed_offset USING (consumer_group, topic, partition) WHERE consumer_group = 'reporting' AND topic = ANY($1::text[])
"""


async def _snapshot(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", target: Path) -> tuple[dict[tuple[str, int], int], Letters]:
    """Copy the figures out, together with the offsets they contain and what was set aside, as of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # A rebuild must not exchange the tables between the snapshot and its use.
        await connection.execute("LOCK TABLE figure IN ACCESS SHARE MODE")
        letters = await connection.fetch(_LETTERS, list(TOPICS))
        rows = await connection.fetch(
            "SELECT topic, partition, next_offset FROM consumed_offset WHERE consumer_group = 'reporting' AND topic = ANY($1::text[])", list(TOPICS)
        )
        await connection.copy_from_query(
            "SELECT indicator, course_set, node, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM figure",
            output=target,
            format="csv",
        )
    positions = frozenset((row["topic"], row["partition"], row["record_offset"]) for row in letters if row["of_this_era"])
    redriven = tuple((_type(row["names"], row["texts"]), row["value"]) for row in letters if row["state"] == "redriven")
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}, Letters(positions, redriven)


def _type(names: Sequence[str], texts: Sequence[bytes]) -> str:
    return next(text for name, text in zip(names, texts, strict=True) if name.lower() == "ce_type").decode()


async def _collect(
    bootstrap_servers: Sequence[str],
    offsets: dict[tuple[str, int], int],
    letters: Letters,
    folder: Path,
    progress: Progress | None,
) -> int:
    """Write what the topics hold up to these offsets as one file of JSON lines per table."""
    task = progress.add_task("reading topics", total=sum(offsets.values())) if progress else None
    with ExitStack() as files:
        lines = {table: files.enter_context((folder / f"{table}.json").open("w", encoding="utf-8")) for table in _TABLES if table != "figure"}
        records = 0
        async for event_type, value in _records(
            bootstrap_servers,
            offsets,
            letters.positions,
            lambda done: progress.update(task, completed=done) if progress and task is not None else None,
        ):
            _write(lines, event_type, json.loads(value))
            records += 1
        for event_type, value in letters.redriven:
            _write(lines, event_type, json.loads(value))
            records += 1
    return records


async def _records(
    bootstrap_servers: Sequence[str], offsets: dict[tuple[str, int], int], dead: frozenset[tuple[str, int, int]], tell: Callable[[int], None]
) -> AsyncIterator[tuple[str, bytes]]:
    places = {TopicPartition(topic, partition): after for (topic, partition), after in offsets.items() if after > 0}
    if not places:
        return
    # Records as the live consumer has them: what it set aside must be found at the same offsets.
    read_every_name()
    unpacking.bound()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(bootstrap_servers), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
        max_partition_fetch_bytes=16 * 1_048_576, isolation_level="read_uncommitted",
    )  # fmt: skip
    await consumer.start()
    try:
        consumer.assign(list(places))
        await consumer.seek_to_beginning(*places)
        open_places = set(places)
        while open_places:
            for place, batch in (await consumer.getmany(timeout_ms=500)).items():
                for record in batch:
                    set_aside = (record.topic, record.partition, record.offset) in dead
                    if record.offset < places[place] and record.value is not None and not set_aside:
                        yield next(value for name, value in record.headers if name == "ce_type").decode(), record.value
            at = {place: await consumer.position(place) for place in places}
            open_places = {place for place in open_places if at[place] < places[place]}
            consumer.pause(*(place for place in places if place not in open_places))
            tell(sum(min(position, places[place]) for place, position in at.items()))
    finally:
        await consumer.stop()


def _write(lines: Mapping[str, IO[str]], event_type: str, data: dict[str, object]) -> None:
    """File one entity under its table; instants become microseconds, nested affiliations rows of their own."""
    table = event_type.split(".")[3]
    row = {name: _microseconds(value) if name in _INSTANTS else value for name, value in data.items()}
    if table == "person":
        about = {"person_ref": data["person_ref"], "version": data["version"]}
        for name, code, target in (("residences", "code", "residence"), ("groups", "group", "membership")):
            for one in row.pop(name, ()):  # type: ignore[attr-defined]
                _line(lines[target], {**about, "code": one[code], "valid_from": one["valid_from"], "valid_to": one.get("valid_to")})
    _line(lines[table], row)


def _line(file: IO[str], row: dict[str, object]) -> None:
    file.write(json.dumps(row))
    file.write("\n")


def _microseconds(value: object) -> int | None:
    if value is None:
        return None
    instant = datetime.fromisoformat(str(value))
    whole = int(instant.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + instant.microsecond


def _compare(folder: Path) -> tuple[int, int, tuple[tuple[str, ...], ...]]:
    """Run the recount and compare; everything happens in an in-process engine, not in the service's database."""
    engine = duckdb.connect(":memory:")
    try:
        for table, columns in _TABLES.items():
            engine.execute(f"CREATE TABLE {table} ({columns})")
            source = folder / ("figure.csv" if table == "figure" else f"{table}.json")
            if source.stat().st_size:
                if table == "figure":
                    engine.execute(f"COPY {table} FROM '{source}' (FORMAT csv, HEADER false)")
                else:
                    names = {column.split()[0]: column.split()[1] for column in columns.split(", ")}
                    read = f"read_json('{source}', format = 'newline_delimited', columns = {names})"
                    # Every part is a name of this module or of the temporary folder.
                    engine.execute(f"INSERT INTO {table} SELECT {', '.join(names)} FROM {read}")  # noqa: S608
        engine.execute(_SQL.read_text("utf-8"))
        counts = engine.execute("SELECT count(*), count(*) FILTER (stood <> recounted) FROM compared").fetchone()
        examples = engine.execute(
            "SELECT indicator, course_set, node, day, grp, stood, recounted FROM compared WHERE stood <> recounted ORDER BY ALL LIMIT $1", [EXAMPLES]
        ).fetchall()
    finally:
        engine.close()
    compared, differing = counts or (0, 0)
    return compared, differing, tuple(tuple(str(part) for part in row) for row in examples)


async def _remember(pool: Pool, finding: Finding) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO audit_run (ended_at, cells_compared, cells_differing, seconds) VALUES ($1, $2, $3, $4)",
            datetime.now(UTC), finding.cells_compared, finding.cells_differing, finding.seconds,
        )  # fmt: skip


_LAST = """
SELECT cells_compared, cells_differing, (SELECT max(ended_at) FROM audit_run WHERE cells_differing = 0) AS last_success
FROM audit_run ORDER BY audit_run_id DESC LIMIT 1
"""


async def show_last(pool: Pool) -> None:
    """Set the metrics of this process to what the last audit found; it ran in a process that is gone."""
    async with connection(pool) as link:
        row = await link.fetchrow(_LAST)
    if row is not None:
        metrics.AUDIT_CELLS.set(row["cells_compared"])
        metrics.AUDIT_DRIFT.set(row["cells_differing"])
        metrics.AUDIT_AT.set(row["last_success"].timestamp() if row["last_success"] else 0)
