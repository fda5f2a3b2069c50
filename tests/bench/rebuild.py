"""`make bench only=rebuild events=1000000`: a rebuild of reporting beside live traffic, on a stack of its own that is thrown away.

So many events are on the topics and applied by two workers; then a rebuild runs while further events keep coming and figures are read all the
time. At the end every cell is recounted. Exit status 0 when nothing differs and no reader saw anything wrong.
"""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from deploy.local.layout import REPOSITORY
from shared.chassis.migrations import migrate
from tests.bench import alone
from tests.support.entities import Traffic, create_producer, entities, registers, send
from tests.support.infrastructure import Infrastructure
from tests.support.reporting_reader import Reader
from tests.support.reporting_town import Town

EVENTS = 1_000_000
"""Events that are there before the rebuild, unless told otherwise."""

PER_SECOND = 1000
"""Events that come while it is at work, at most; fewer when the workers do not get through."""

CHUNK = 40_000
"""Events that are sent at once."""

APPLIED_S = 1800.0
"""Longest wait for the workers to apply everything, seconds."""

FILE = REPOSITORY / ".stack" / "rebuild.json"

console = Console()


async def bench(events: int) -> int:
    """Run it; 0 when nothing differs and nobody saw anything wrong."""
    async with alone.servers() as layout:
        result = await _measure(Infrastructure(layout), layout.root, events)
    FILE.write_text(json.dumps(result, indent=2))
    table = Table(title="a rebuild beside live traffic")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if name == "tables":
            for one, found in value.items():
                table.add_row(one, f"{found['rows']} rows, {'equal' if found['equal'] else 'DIFFERENT'}")
        else:
            table.add_row(name, json.dumps(value) if isinstance(value, dict | list) else str(value))
    console.print(table)
    console.print(f"the same in {FILE.relative_to(REPOSITORY)}")
    well = result["equal"] and not result["cells_differing"] and not result["reads_wrong"] and result["signed_reports_kept"]
    return 0 if well else 1


async def _measure(infra: Infrastructure, folder: Path, events: int) -> dict[str, Any]:
    _, dsn = await infra.create_database()
    await migrate(dsn, "reporting", Path("services/reporting/migrations"))
    town, source = Town(infra, dsn, folder, ""), entities()
    try:
        began = time.monotonic()
        producer = create_producer(infra.bootstrap_servers)
        await producer.start()
        await send(producer, town.topics, registers())
        for start in range(0, events, CHUNK):
            await send(producer, town.topics, list(islice(source, min(CHUNK, events - start))))
        await producer.stop()
        _say(f"{events:,} events are on the topics after {time.monotonic() - began:.0f} s")
        await asyncio.gather(town.start("worker"), town.start("worker"), town.start("api"))
        applied_s = await _applied(town)
        _say(f"applied by two workers in {applied_s:.0f} s")
        await town.command("freeze", "--period", "2026Q2")
        signed = await town.digests()
        traffic = Traffic(infra.bootstrap_servers, dsn, town.topics, source, PER_SECOND)
        reader = Reader(town.processes[2].url, dsn)
        running = [asyncio.create_task(asyncio.to_thread(one.run)) for one in (traffic, reader)]
        try:
            _say("the rebuild begins")
            done = await town.command("rebuild", "--json")
            _say(f"it ended with status {done.status}")
            made: dict[str, Any] = done.told if done.output else {"equal": False, "errors": done.errors[-2000:]}
            traffic.stop()
            await running[0]
            await _applied(town)
        finally:
            traffic.stop()
            reader.stop()
            await asyncio.gather(*running)
        _say("everything is applied; the recount begins")
        audited = (await town.command("audit", "--json")).told
        stands = await town.digests()
        return {
            "events": events,
            "came_meanwhile": traffic.sent,
            "equal": made.get("equal"),
            "tables": {
                one["table"]: {"rows": one["rows"], "sha256": one["made"], "equal": one["stood"] == one["made"]} for one in made.get("compared", ())
            },
            "rebuild_seconds": round(made.get("seconds", 0.0), 1),
            "rebuild_records": made.get("records"),
            "rebuild_records_per_second": round(made.get("records", 0) / max(made.get("seconds", 0.0), 0.001)),
            "switch_seconds": round(made.get("switch_seconds", 0.0), 3),
            "switch_attempts": made.get("attempts"),
            "reads": reader.reads,
            "reads_wrong": len(reader.wrong),
            "wrong_examples": reader.wrong[:5],
            "longest_read_seconds": round(reader.longest_s, 3),
            "cells_compared": audited["cells_compared"],
            "cells_differing": audited["cells_differing"],
            "audit_seconds": round(audited["seconds"], 1),
            "signed_reports_kept": all(stands[table] == signed[table] for table in ("report", "report_figure")),
            "applied_seconds": round(applied_s, 1),
            "errors": done.errors[-500:] if done.status else "",
            "machine": {"cores": psutil.cpu_count(), "load": [round(one, 1) for one in psutil.getloadavg()], "python": sys.version.split()[0]},
        }
    finally:
        town.stop()


async def _applied(town: Town) -> float:
    """Wait until the workers have applied everything; the seconds that took."""
    began, told_at = time.monotonic(), time.monotonic()
    while True:
        done, there = await town.offsets()
        if done == there:
            return time.monotonic() - began
        if time.monotonic() - began > APPLIED_S:
            raise TimeoutError(f"{done:,} of {there:,} applied after {APPLIED_S:.0f} s")
        if time.monotonic() - told_at > 20:
            told_at = time.monotonic()
            _say(f"{done:,} of {there:,} applied")
        await asyncio.sleep(0.5)


def _say(what: str) -> None:
    console.print(f"{datetime.now(UTC):%H:%M:%S}  {what}", highlight=False)


if __name__ == "__main__":
    sys.exit(asyncio.run(bench(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)))
