"""Wiring of reporting: what it reads, what it serves, what can be asked of it on the command line."""

import asyncio
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from rich.console import Console
from rich.progress import Progress

from services.reporting.api import create_router
from services.reporting.audit import Finding
from services.reporting.audit import audit as recount
from services.reporting.audit import show_last as show_audit
from services.reporting.figures.handlers import Folding
from services.reporting.periods import handlers as periods
from services.reporting.periods.domain import MOVEMENT_BEGAN, UnknownPeriod, period
from services.reporting.periods.handlers import BeforeMovement, Frozen, NotFrozen, NotOver, UnknownNode
from services.reporting.publication.publisher import Publisher
from services.reporting.publication.read_back import read_back
from services.reporting.rebuild.rebuilding import Rebuilt
from services.reporting.rebuild.rebuilding import rebuild as make_again
from services.reporting.rebuild.screen import Screen, told
from services.reporting.rebuild.store import CannotRebuild
from services.reporting.rebuild.store import show_last as show_rebuild
from services.reporting.settings import ReportingSettings
from shared.chassis.clock import now
from shared.chassis.consume import Subscription
from shared.chassis.database import transaction
from shared.chassis.errors import MustNotWork, Transient
from shared.chassis.looking import look_always
from shared.chassis.process import spare_the_collector
from shared.chassis.service import BackgroundTask, Runtime, Service, load, open_runtime, run
from shared.contracts import assessment, enrollment
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS

SHOWN_EVERY_S = 15.0
"""How often metrics are brought to what the last runs of commands found, seconds."""


def subscriptions(_: Runtime) -> list[Subscription]:
    """What reporting reads."""
    folding = Folding()
    return [
        Subscription(REGISTRY_EVENTS, dict.fromkeys(enrollment.REGISTERS, folding.on_register)),
        Subscription(ENROLLMENT_EVENTS, dict.fromkeys(enrollment.ENTITIES, folding.on_entities)),
        Subscription(ASSESSMENT_EVENTS, dict.fromkeys(assessment.ENTITIES, folding.on_entities)),
    ]


def routes(app: FastAPI, runtime: Runtime) -> None:
    """What reporting serves."""
    app.include_router(create_router(runtime))


def background(runtime: Runtime) -> list[BackgroundTask]:
    """What reporting does besides consuming."""
    look_back = partial(read_back, runtime.settings.kafka_bootstrap_servers)
    publisher = Publisher(runtime.pool, runtime.clock, runtime.wake_relay, look_back, runtime.settings.takeover_s)
    return [
        BackgroundTask("publisher", publisher.run),
        BackgroundTask("last audit", partial(look_always, "the last audit", partial(show_audit, runtime.pool), SHOWN_EVERY_S)),
        BackgroundTask("last rebuild", partial(look_always, "the last rebuild", partial(show_rebuild, runtime.pool), SHOWN_EVERY_S)),
    ]


def freeze(
    code: Annotated[str, typer.Option("--period", help="2026Q3, 2026M09, 2026H1, 2026N9 or 2026")],
    scope: Annotated[str, typer.Option(help="Node of the territory")] = "VN",
) -> None:
    """Freeze the figures of a scope over a period; the second time nothing happens."""
    settings: ReportingSettings = load(ReportingSettings, "reporting")

    try:
        over = period(code)
    except UnknownPeriod as error:
        raise _refused(str(error)) from error

    async def carry_out() -> Frozen | NotFrozen:
        async with open_runtime(settings) as runtime, transaction(runtime.pool, "repeatable_read") as tx:
            return await periods.freeze(tx, scope, over, now())

    outcome = asyncio.run(carry_out())
    match outcome:
        case UnknownNode():
            raise _refused("the territory has no such node, or the register has not arrived yet; write VN, VN/51 or VN/51/23377")
        case BeforeMovement():
            raise _refused(f"{code} was over before the movement began on {MOVEMENT_BEGAN.isoformat()}; there is nothing to report")
        case NotOver(ends_at):
            raise _refused(f"{code} is not over; it can be frozen from {ends_at.isoformat()} on")
    state = "was frozen before" if outcome.already else "is frozen now"
    typer.echo(f"report {outcome.report.report_id} on {scope} {code} {state}: {outcome.report.figures} figures, sha256 {outcome.report.sha256}")


def _refused(reason: str) -> typer.Exit:
    """Say in one sentence why nothing was frozen."""
    typer.echo(f"nothing was frozen: {reason}", err=True)
    return typer.Exit(2)


def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON")] = False,
) -> None:
    """Recount every figure from the topics by other code; exit status 1 when a cell differs."""
    settings: ReportingSettings = load(ReportingSettings, "reporting")

    async def carry_out() -> Finding:
        async with open_runtime(settings) as runtime:
            with Progress(transient=True, console=Console(stderr=True), disable=as_json) as progress:
                return await recount(runtime.pool, settings.kafka_bootstrap_servers, progress)

    found = asyncio.run(carry_out())
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{found.cells_compared} cells compared, {found.cells_differing} differing; {found.records} records read, {found.seconds:.1f} s")
        for example in found.examples:
            typer.echo("  " + " ".join(example))
    raise typer.Exit(1 if found.cells_differing else 0)


def rebuild(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON")] = False,
) -> None:
    """Make all figures again from the topics, beside live traffic, compare with what stood, and switch to them.

    Workers and readers go on; at the end folds wait for a moment. Exit status: 0 what stood was byte for byte the same; 1 it was
    not, and is mended now; 2 it was refused or broken off. See docs/runbook/rebuild.md.
    """
    settings: ReportingSettings = load(ReportingSettings, "reporting")

    async def carry_out() -> Rebuilt:
        async with open_runtime(settings) as runtime:
            spare_the_collector()
            with Screen() as screen:
                return await make_again(runtime.pool, settings.kafka_bootstrap_servers, screen.tell)

    try:
        made = asyncio.run(carry_out())
    except CannotRebuild as error:
        typer.echo(f"nothing was changed: {error}", err=True)
        raise typer.Exit(2) from error
    except (Transient, MustNotWork, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError) as error:
        typer.echo(f"the rebuild was broken off ({error or type(error).__name__}); figures are whole, the old ones or the new; begin again", err=True)
        raise typer.Exit(2) from error
    typer.echo(json.dumps({"equal": made.equal, **asdict(made)}) if as_json else "\n".join(told(made)))
    raise typer.Exit(0 if made.equal else 1)


SERVICE = Service(
    name="reporting",
    title="hocvu reporting",
    settings=ReportingSettings,
    migrations=Path(__file__).parent / "migrations",
    subscriptions=subscriptions,
    routes=routes,
    background=background,
    commands={"freeze": freeze, "audit": audit, "rebuild": rebuild},
)
"""The service, for the chassis and for tests."""

if __name__ == "__main__":
    run(SERVICE)
