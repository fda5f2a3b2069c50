"""More workers, fewer workers, other workers, while events keep coming."""

import asyncio

from deploy.local.layout import SERVICES
from tests.fault.harness.faults import fault
from tests.fault.harness.freshness import measured
from tests.fault.harness.run import SLACK, Run
from tests.fault.harness.system import API, WITH_API, Replica

FRESH_S = 10.0
"""A fact stands in the figures after this, whatever is restarted, seconds."""


@fault("P9", "workers of two services 1, 4, 2, 3, under load", seconds=8.0)
async def scaled(run: Run) -> None:
    services = run.draw.sample(SERVICES, 2)
    async with measured(run) as freshness:
        for workers in (1, 4, 2, 3, run.system.workers):
            await asyncio.gather(*(_scale(run, service, workers) for service in services))
    run.note("freshness_seconds", freshness.worst, at_most=SLACK * FRESH_S)


@fault("ROLL", "rolling restart of every worker and API of all services, under load", seconds=8.0)
async def rolling_restart(run: Run) -> None:
    async with measured(run) as freshness:
        for number in range(1, run.system.workers + 1):
            await asyncio.gather(*(_restart(run, (service, number)) for service in SERVICES))
        await asyncio.gather(*(_restart(run, (service, API)) for service in WITH_API))
    run.note("freshness_seconds", freshness.worst, at_most=SLACK * FRESH_S)


async def _scale(run: Run, service: str, workers: int) -> None:
    """Stop the workers above this number, start those below it that are missing."""
    replicas = [number for name, number in run.system.processes if name == service and number != API]
    for number in sorted(replicas, reverse=True):
        if number > workers:
            await run.stopped((service, number))
            del run.system.processes[service, number]
    missing = [number for number in range(1, workers + 1) if number not in replicas]
    await asyncio.gather(*(run.system.restart(service, number, wait=True) for number in missing))


async def _restart(run: Run, replica: Replica) -> None:
    await run.stopped(replica)
    await run.system.restart(*replica, wait=True)
