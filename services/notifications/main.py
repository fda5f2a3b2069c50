"""Wiring of notifications: what it reads, what it serves, whom it tells."""

import asyncio
import csv
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from fastapi import FastAPI

from services.notifications import store
from services.notifications.api import create_router
from services.notifications.channels import mail
from services.notifications.deliver import Deliverer
from services.notifications.domain import Recipient, State, mistakes
from services.notifications.handlers import on_report_frozen
from services.notifications.settings import NotificationsSettings
from shared.chassis.consume import Subscription
from shared.chassis.database import Pool, transaction
from shared.chassis.service import BackgroundTask, Runtime, Service, load, open_runtime, run
from shared.contracts.reporting import REPORT_FROZEN
from shared.contracts.topics import REPORT_EVENTS

RECIPIENTS_CSV = Path(__file__).parent / "recipients.csv"
"""Offices shipped with the service; the addresses are placeholders that an operator replaces."""


def subscriptions(runtime: Runtime) -> list[Subscription]:
    """What notifications reads."""
    return [Subscription(REPORT_EVENTS, {REPORT_FROZEN: on_report_frozen(runtime.clock, runtime.settings.reports_url)})]


def routes(app: FastAPI, runtime: Runtime) -> None:
    """What notifications serves."""
    app.include_router(create_router(runtime))


def background(runtime: Runtime) -> list[BackgroundTask]:
    """What notifications does besides consuming."""
    return [BackgroundTask("deliver", create_deliverer(runtime.pool, runtime.settings).run)]


def create_deliverer(pool: Pool, settings: NotificationsSettings) -> Deliverer:
    """Who carries deliveries out, as the settings say."""
    server = mail.Server(
        host=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        timeout_s=settings.smtp_timeout_s,
        sender=settings.mail_from,
        domain=settings.mail_domain,
    )
    return Deliverer(pool, server, timedelta(seconds=settings.delivery_lease_s))


def load_recipients(
    file: Annotated[Path, typer.Argument(help="CSV with recipient, name_vi, scope, address", exists=True)] = RECIPIENTS_CSV,
) -> None:
    """Make the offices that are told those of the file; who is not in it is told no more. Safe to run at any time."""
    settings: NotificationsSettings = load(NotificationsSettings, "notifications")
    offices = read_recipients(file)

    async def put() -> tuple[int, int]:
        async with open_runtime(settings) as runtime, transaction(runtime.pool) as tx:
            dropped = await store.drop_others(tx, [office.recipient for office in offices])
            return await store.put_recipients(tx, offices), dropped

    changed, dropped = asyncio.run(put())
    typer.echo(f"notifications: {changed} of {len(offices)} offices were new or different, {dropped} were removed")


def read_recipients(file: Path) -> list[Recipient]:
    """The offices of a CSV file. A file that cannot be used ends the program with status 2 and the reasons."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        columns = ("recipient", "name_vi", "scope", "address")
        missing = [column for column in columns if column not in (rows.fieldnames or ())]
        offices = [] if missing else [Recipient(*((row[column] or "").strip() for column in columns)) for row in rows]
    wrong = [f"the column {column} is missing" for column in missing] or mistakes(offices)
    if wrong:
        typer.echo("\n".join([f"{file} was not loaded, nothing was changed:", *wrong]), err=True)
        raise typer.Exit(2)
    return offices


class Decision(StrEnum):
    """What a person may say of a delivery that is unknown or failed."""

    SENT = "sent"
    AGAIN = "again"


def decide(
    message_id: Annotated[UUID, typer.Argument(help="The message")],
    decision: Annotated[Decision, typer.Argument(help="sent: the mail server has it; again: send it once more")],
) -> None:
    """Decide on a delivery that is unknown or failed, after a look at the mail server's log."""
    settings: NotificationsSettings = load(NotificationsSettings, "notifications")
    state: State = "sent" if decision is Decision.SENT else "pending"

    async def put() -> bool:
        async with open_runtime(settings) as runtime, transaction(runtime.pool) as tx:
            return await store.decide(tx, message_id, state, f"a person decided: {decision}")

    if not asyncio.run(put()):
        typer.echo("No delivery of this message is unknown or failed; nothing was changed.", err=True)
        raise typer.Exit(1)
    typer.echo(f"notifications: the delivery is {state} now")


SERVICE = Service(
    name="notifications",
    title="hocvu notifications",
    settings=NotificationsSettings,
    migrations=Path(__file__).parent / "migrations",
    subscriptions=subscriptions,
    routes=routes,
    background=background,
    commands={"load-recipients": load_recipients, "decide": decide},
)
"""The service, for the chassis and for tests."""

if __name__ == "__main__":
    run(SERVICE)
