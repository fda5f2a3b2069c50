"""`make bench`: how fast, and what decides it. Runs on a stack of its own that is thrown away; each part is written when it is measured.

Events/s through the whole way with the raw COPY rate of the same run beside it, CPU per event by process, time from
accepted to figure at half load, the fold alone, what the guards cost and what poison costs.
"""

import asyncio
import io
import json
import os
import secrets
import sys
import time
from typing import Any

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from deploy.demo.pipeline import System
from deploy.local import kafka, postgres, postgres_folders, processes, stack
from deploy.local.layout import REPOSITORY, SERVICES, Layout
from tests.bench.findings import Findings
from tests.bench.fold import fold_alone
from tests.bench.guards import cost_of_guards
from tests.bench.half_load import latencies
from tests.bench.load import communes, life_stories
from tests.bench.poison import cost_of_poison
from tests.support.infrastructure import SHIFT

PERSONS = int(os.environ.get("BENCH_PERSONS", "40000"))
"""Persons of the load; each gives five facts and a few copies."""

COPY_ROWS = 500_000
"""Rows of the raw COPY."""

FILE = REPOSITORY / ".stack" / "bench.json"
"""Where the measures are kept."""

console = Console()


async def bench() -> int:
    """Run everything; 0."""
    layout = Layout(REPOSITORY / ".stack" / "bench", SHIFT + 4000)
    found = Findings(FILE)
    stack.reset(layout)
    stack.up(layout)
    try:
        await _measure(layout, found)
    finally:
        stack.down(layout)
        _print(found.measures)
    stack.reset(layout)
    return 0


async def _measure(layout: Layout, found: Findings) -> None:
    system = System(layout)
    version = postgres_folders.version(postgres_folders.programs())
    found.add(machine={"cores": psutil.cpu_count(), "python": sys.version.split()[0], "postgres": version})
    copy_rate = await _raw_copy(layout)
    found.add(raw_copy_rows_per_second=round(copy_rate))
    sent = life_stories(PERSONS, communes())
    await system.register_courses()
    await system.send(sent[:1000], lambda _: None)
    await system.until_through(lambda done, there: None)
    before, started = _cpu(layout), time.monotonic()
    console.print(f"{len(sent) - 1000} facts are sent at once …")
    await system.send(sent[1000:], lambda _: None)
    done_at = await _until_applied(layout, system)
    seconds = done_at - started
    after = _cpu(layout)
    events = len(sent) - 1000
    rate = events / seconds
    found.add(
        whole_way_events_per_second=round(rate),
        events=events,
        seconds=round(seconds, 1),
        share_of_raw_copy=round(rate / copy_rate, 4),
        cpu_microseconds_per_event={name: round((after[name] - before.get(name, 0)) / events * 1e6, 1) for name in sorted(after)},
    )
    console.print(f"whole way: {rate:.0f} events/s; now at half of that for the time from accepted to figure …")
    p50, p99 = await latencies(system, layout, rate / 2)
    found.add(accepted_to_figure_seconds_at_half_load={"p50": round(p50, 3), "p99": round(p99, 3), "events_per_second": round(rate / 2)})
    await system.close()
    console.print("the fold alone, the guards and poison, without the services …")
    processes.stop(layout, ["watch"])
    processes.stop(layout, [f"{service}-{role}" for service in SERVICES for role in ("worker", "api")])
    found.add(fold_alone_events_per_second=await fold_alone(layout))
    found.add(guards=await cost_of_guards(layout))
    found.add(poison=await cost_of_poison(layout))
    found.finish()


async def _until_applied(layout: Layout, system: System) -> float:
    """When the last figure was committed: the moment the reporting database moved its offsets for the last time."""
    await system.until_through(lambda done, there: None)
    connection = await asyncpg.connect(postgres.dsn(layout, "reporting"))
    age = await connection.fetchval(
        "SELECT extract(epoch FROM clock_timestamp() - max(moved_at))::float FROM consumed_offset WHERE topic <> 'registry-events'"
    )
    await connection.close()
    return time.monotonic() - float(age)


async def _raw_copy(layout: Layout) -> float:
    """Rows per second of COPY into an unindexed, logged table in transactions of 10,000, on the same server: the ceiling."""
    connection = await asyncpg.connect(postgres.dsn(layout))
    await connection.execute("CREATE TABLE IF NOT EXISTS raw_copy (id uuid, person uuid, kind smallint, at timestamptz, course text)")
    text = "".join(f"{secrets.token_hex(16)}\t{secrets.token_hex(16)}\t1\t2026-06-01 00:00:00+00\tBBB\n" for _ in range(10_000)).encode()
    started = time.monotonic()
    for _ in range(COPY_ROWS // 10_000):
        await connection.copy_to_table("raw_copy", source=io.BytesIO(text))
    rate = COPY_ROWS / (time.monotonic() - started)
    await connection.execute("DROP TABLE raw_copy")
    await connection.close()
    return rate


def _cpu(layout: Layout) -> dict[str, float]:
    """CPU seconds used so far, by process; PostgreSQL with all its children."""
    found: dict[str, float] = {}
    names = [*(f"{service}-worker" for service in SERVICES), "postgres", *kafka.names(layout)]
    for name in names:
        pid = processes.pid_of(layout, name)
        if pid is None:
            continue
        process = psutil.Process(pid)
        times = process.cpu_times()
        # Backends come and go; those that went are in the children's times of the server.
        total = times.user + times.system + times.children_user + times.children_system
        for child in process.children():
            spent = child.cpu_times()
            total += spent.user + spent.system
        found[name] = total
    return found


def _print(result: dict[str, Any]) -> None:
    table = Table(title="hocvu, the whole way")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict) else str(value))
    console.print(table)


if __name__ == "__main__":
    sys.exit(asyncio.run(bench()))
