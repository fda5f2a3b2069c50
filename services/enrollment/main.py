"""Wiring of enrollment: what it reads, what it serves, what can be asked of it on the command line."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from fastapi import FastAPI

from services.enrollment.api import create_router
from services.enrollment.handlers import on_platform_facts
from services.enrollment.persons.domain import Pseudonyms
from services.enrollment.reasons import REASONS
from services.enrollment.registers import handlers as registers
from services.enrollment.settings import EnrollmentSettings
from shared.chassis.clock import now
from shared.chassis.consume import Subscription
from shared.chassis.database import transaction
from shared.chassis.service import Runtime, Service, load, open_runtime, run
from shared.contracts import platform
from shared.contracts.topics import PLATFORM_EVENTS


def subscriptions(runtime: Runtime) -> list[Subscription]:
    """What enrollment reads."""
    settings: EnrollmentSettings = runtime.settings
    pseudonyms = Pseudonyms(bytes.fromhex(settings.pseudonym_key.get_secret_value()))
    handler = on_platform_facts(pseudonyms, settings.history_sources, runtime.clock)
    return [Subscription(PLATFORM_EVENTS, dict.fromkeys(platform.FACTS, handler))]


def routes(app: FastAPI, runtime: Runtime) -> None:
    """What enrollment serves."""
    app.include_router(create_router(runtime, runtime.settings.history_sources))


def load_registers(
    courses: Annotated[Path | None, typer.Option(help="CSV with code, title, launched_by, course_sets (separated by ;)", exists=True)] = None,
) -> None:
    """Load the shipped register of territory, and courses from a file; only what is different is announced."""
    settings: EnrollmentSettings = load(EnrollmentSettings, "enrollment")
    try:
        told = registers.read_courses(courses) if courses else []
    except registers.UnusableFile as error:
        typer.echo(f"nothing was loaded, {courses} cannot be used: {error}", err=True)
        raise typer.Exit(2) from error

    async def put() -> tuple[int, int]:
        async with open_runtime(settings) as runtime, transaction(runtime.pool) as tx:
            units = await registers.put_territory(tx, registers.read_territory(registers.TERRITORY_CSV), now())
            return units, await registers.put_courses(tx, told, now())

    units, changed = asyncio.run(put())
    typer.echo(f"enrollment: {units} units of territory and {changed} courses were new or different")


SERVICE = Service(
    name="enrollment",
    title="hocvu enrollment",
    settings=EnrollmentSettings,
    migrations=Path(__file__).parent / "migrations",
    subscriptions=subscriptions,
    routes=routes,
    commands={"load-registers": load_registers},
    reasons=REASONS,
)
"""The service, for the chassis and for tests."""

if __name__ == "__main__":
    run(SERVICE)
