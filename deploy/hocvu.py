"""The command `hocvu` for people: dead letters of all four services at once, and the commands of each.

It finds the stack of this machine by itself. A service whose database is named in the environment is taken from there,
with everything it is told: a key of one place must never meet the database of another.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import typer

from deploy.local import secrets as stack_secrets
from deploy.local.layout import SERVICES, Layout, Refusal
from deploy.local.services import service_env
from shared.chassis.letters.commands import create_commands
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.mistakes import Invalid
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.letters.sources import Source
from shared.chassis.service import Service, add_commands, carry_out, letters_of


def main() -> None:
    """Carry out one command."""
    try:
        names = within_reach(Layout.from_environment())
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        raise SystemExit(2) from None
    sources = [letters_of(_service(name)) for name in names] or [_nowhere(name) for name in SERVICES]
    app = typer.Typer(help="hocvu: what people do by hand.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.add_typer(create_commands(sources), name="dead-letters")
    for name in SERVICES:
        app.add_typer(_commands(_service(name)), name=name)
    carry_out(app, "hocvu", "hocvu")


def within_reach(layout: Layout) -> list[str]:
    """The services that can be worked on from here; what they must be told stands in the environment afterwards."""
    found = []
    for service in SERVICES:
        prefix = f"{service.upper()}_"
        if f"{prefix}DATABASE_URL" not in os.environ:
            if not stack_secrets.made(layout):
                continue
            for name in [name for name in os.environ if name.startswith(prefix)]:
                del os.environ[name]
            os.environ.update({name: value for name, value in service_env(layout, service, "api").items() if name.startswith(prefix)})
        found.append(service)
    return found


def _service(name: str) -> Service:
    found: Service = import_module(f"services.{name}.main").SERVICE
    return found


def _commands(service: Service) -> typer.Typer:
    """The commands of one service; its processes are started by the stack."""
    told = ", ".join(service.commands) or "nothing of its own"
    app = typer.Typer(help=f"{service.title}: {told}, and what every service has.", no_args_is_help=True)
    add_commands(app, service)
    return app


def _nowhere(name: str) -> Source:
    """A service of which only the help can be shown."""

    @asynccontextmanager
    async def refuse() -> AsyncIterator[Desk]:
        raise Invalid(
            "Ở đây không có hệ thống nào ('make up' khởi động) và biến <DỊCH_VỤ>_DATABASE_URL cũng không chỉ tới cơ sở dữ liệu nào.",
            "There is no stack here ('make up' starts one), and no <SERVICE>_DATABASE_URL names a database.",
        )
        yield

    return Source(name, ReasonBook(_service(name).reasons), refuse)


if __name__ == "__main__":
    main()
