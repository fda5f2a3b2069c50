"""Wiring of notifications: what it reads, what it serves, whom it tells."""

import asyncio
import csv
from pathlib import Path
from typing import Annotated

import typer
from fastapi import FastAPI

from services.notifications import store
from services.notifications.api import create_router
from services.notifications.deliver import Deliverer
from services.notifications.domain import Recipient
from services.notifications.handlers import on_report_frozen
from services.notifications.settings import NotificationsSettings
from shared.chassis.consume import Subscription
from shared.chassis.database import transaction
from shared.chassis.service import BackgroundTask, Runtime, Service, load, open_runtime, run
from shared.contracts.reporting import REPORT_FROZEN
from shared.contracts.topics import REPORT_EVENTS

RECIPIENTS_CSV = Path(__file__).parent / "recipients.csv"
"""Offices shipped with the service; the addresses are placeholders that an operator replaces."""


def subscriptions(runtime: Runtime) -> list[Subscription]:
    """What notifications reads."""
    return [Subscription(REPORT_EVENTS, {REPORT_FROZEN: on_report_frozen(runtime.clock)})]


def routes(app: FastAPI, runtime: Runtime) -> None:
    """What notifications serves."""
    app.include_router(create_router(runtime))


def background(runtime: Runtime) -> list[BackgroundTask]:
    """What notifications does besides consuming."""
    return [BackgroundTask("deliver", Deliverer(runtime.pool, runtime.settings).run)]


def load_recipients(
    file: Annotated[Path, typer.Argument(help="CSV with recipient, name_vi, scope, address", exists=True)] = RECIPIENTS_CSV,
) -> None:
    """Enter or change the offices that are told; safe to run at any time."""
    settings: NotificationsSettings = load(NotificationsSettings, "notifications")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        offices = [Recipient(row["recipient"], row["name_vi"], row["scope"], row["address"]) for row in csv.DictReader(lines)]

    async def put() -> int:
        async with open_runtime(settings) as runtime, transaction(runtime.pool) as tx:
            return await store.put_recipients(tx, offices)

    typer.echo(f"notifications: {asyncio.run(put())} of {len(offices)} offices were new or different")


SERVICE = Service(
    name="notifications",
    title="hocvu notifications",
    settings=NotificationsSettings,
    migrations=Path(__file__).parent / "migrations",
    subscriptions=subscriptions,
    routes=routes,
    background=background,
    commands={"load-recipients": load_recipients},
)
"""The service, for the chassis and for tests."""

if __name__ == "__main__":
    run(SERVICE)
