"""The clerk's commands: `dead-letters list | show | edit | redrive | drop | reasons`, for one service or for several at once."""

import asyncio
import getpass
import json
import re
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Literal

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from shared.chassis.errors import UnsafeSettings, is_transient
from shared.chassis.letters import telling, wording
from shared.chassis.letters.choosing import choose
from shared.chassis.letters.desk import Desk, Outcome, Tell
from shared.chassis.letters.mending import Mending, parse
from shared.chassis.letters.mistakes import Invalid, Mistake, insist_on_words
from shared.chassis.letters.reasons import Language
from shared.chassis.letters.settling import Settling, settle
from shared.chassis.letters.sources import Source, desks, meant, named, reasons_of, select
from shared.chassis.letters.store import Entry, Filter

WIDE = 200
"""Columns of a table that goes to a file or to another program."""


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return ""


Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Letters, as list writes them", show_default=False)]
Id = Annotated[str, typer.Argument(metavar="ID", help="A letter, as list writes it")]
Service = Annotated[str | None, typer.Option("--service", help="One service; without it all of them")]
ByReason = Annotated[str | None, typer.Option("--reason", help="Reason code; 'reasons' lists them")]
ByTopic = Annotated[str | None, typer.Option("--topic", help="Topic")]
ByType = Annotated[str | None, typer.Option("--type", help="CloudEvents type")]
Since = Annotated[str | None, typer.Option("--since", help="Set aside from this day or moment on: 2026-11-24, 2026-11-24T15:00 (Viet Nam time)")]
Until = Annotated[str | None, typer.Option("--until", help="Set aside before this moment; a day means all of that day")]
Every = Annotated[bool, typer.Option("--all", help="Every open letter; needed when nothing else is said")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]
By = Annotated[str, typer.Option("--by", help="Who does it; stands in the journal", default_factory=_login, show_default="login name")]
Why = Annotated[str, typer.Option("--why", help="In words; stands in the journal")]
Lang = Annotated[Language, typer.Option("--lang", envvar="HOCVU_LANG", help="Language of what is printed")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs")]
State = Annotated[Literal["open", "redriven", "dropped", "all"], typer.Option("--state", help="What has become of them")]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="One field anew: name=text, or name:=JSON for numbers and lists; list.0.name is a field inside"
    ),
]
Headers = Annotated[list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="One header anew: ce_type=…; never ce_id or ce_source")]
Data = Annotated[str | None, typer.Option("--data", metavar="FILE", help="File with all of the data anew, JSON; - reads standard input")]


def create_commands(sources: Sequence[Source]) -> typer.Typer:
    """The commands, over these services."""
    app = typer.Typer(help="Records that were set aside (bản ghi bị gác lại): read, mend, apply after all, drop.", no_args_is_help=True)
    known = reasons_of(sources)

    @app.command("list", help="List them: where, when and why, never what they hold (liệt kê).")
    def list_(
        service: Service = None, reason: ByReason = None, topic: ByTopic = None, event_type: ByType = None, since: Since = None, until: Until = None,
        state: State = "open", limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most letters")] = 50,
        after: Annotated[str | None, typer.Option("--after", metavar="ID", help="Go on behind this id")] = None,
        lang: Lang = "vi", as_json: AsJson = False,
    ) -> None:  # fmt: skip
        async def carry_out() -> None:
            wanted = None if state == "all" else state
            chosen = choose(known, reason=reason, topic=topic, event_type=event_type, since=since, until=until, state=wanted)
            looked_at, behind = list(select(sources, service)), 0
            if after is not None:
                source, behind = named(sources, service, after)
                looked_at = looked_at[looked_at.index(source) :]
            found: list[tuple[Desk, Entry]] = []
            async with desks(looked_at) as opened:
                for desk in opened:
                    page = await desk.page(chosen, after=behind if desk is opened[0] else 0, limit=limit + 1 - len(found))
                    found.extend((desk, entry) for entry in page)
            shown = found[:limit]
            following = shown[-1][0].name(shown[-1][1].letter_id) if len(found) > limit else None
            if as_json:
                _print_json({"dead_letters": [telling.entry(desk, entry) for desk, entry in shown], "after": following})
                return
            if not shown:
                typer.echo(wording.say("nothing", lang))
                return
            _print_table(wording.table(shown, lang))
            if following:
                typer.echo(wording.say("more", lang, after=following))

        _run(carry_out(), lang)

    @app.command(help="Show one: what is wrong, what to do, what was done (xem).")
    def show(
        letter: Id, service: Service = None,
        with_data: Annotated[bool, typer.Option("--with-data", help="Also what it holds, for who must mend it")] = False,
        lang: Lang = "vi", as_json: AsJson = False,
    ) -> None:  # fmt: skip
        async def carry_out() -> None:
            source, number = named(sources, service, letter)
            async with source.open() as desk:
                found, acts = await desk.show(number)
                if as_json:
                    _print_json(telling.letter(desk, found, acts, with_data=with_data))
                else:
                    typer.echo(wording.letter(desk, found, acts, lang, with_data=with_data))

        _run(carry_out(), lang)

    @app.command(help="Mend one; what came is kept, and nothing is applied yet (sửa).")
    def edit(
        letter: Id, why: Why, by: By, service: Service = None, data: Data = None, fields: Fields = None, headers: Headers = None, lang: Lang = "vi",
    ) -> None:  # fmt: skip
        async def carry_out() -> None:
            wanted = Mending(_read(data), dict(map(_field, fields or [])), dict(map(_header, headers or [])))
            source, number = named(sources, service, letter)
            async with source.open() as desk:
                still = await desk.edit(number, wanted, by, why)
                _, acts = await desk.show(number)
                typer.echo(wording.say("edited", lang, letter=desk.name(number), changed=", ".join(acts[-1].changed)))
            if still is not None:
                typer.echo(wording.say("still", lang, reason=still.reason, detail=still.detail))

        _run(carry_out(), lang)

    @app.command(help="Apply open letters after all; a second time nothing happens (áp dụng lại).")
    def redrive(
        by: By, letters: Ids = None, service: Service = None, reason: ByReason = None, topic: ByTopic = None, event_type: ByType = None,
        since: Since = None, until: Until = None, every: Every = False, yes: Yes = False, lang: Lang = "vi", as_json: AsJson = False,
    ) -> None:  # fmt: skip
        async def act(desk: Desk, chosen: Filter, tell: Tell) -> Outcome:
            return await desk.redrive(chosen, by, tell=tell)

        async def carry_out() -> int:
            insist_on_words(by)
            chosen = choose(known, reason=reason, topic=topic, event_type=event_type, since=since, until=until)
            targets = meant(sources, service, letters or [], chosen, every=every)
            return await settle(targets, Settling("redriven", "redriving", "redrive?", act), lang, ask=not (yes or letters), as_json=as_json)

        _run(carry_out(), lang)

    @app.command(help="Settle open letters as never to be applied; they stay readable (bỏ).")
    def drop(
        why: Why, by: By, letters: Ids = None, service: Service = None, reason: ByReason = None, topic: ByTopic = None, event_type: ByType = None,
        since: Since = None, until: Until = None, every: Every = False, yes: Yes = False, lang: Lang = "vi", as_json: AsJson = False,
    ) -> None:  # fmt: skip
        async def act(desk: Desk, chosen: Filter, tell: Tell) -> Outcome:
            return await desk.drop(chosen, by, why, tell=tell)

        async def carry_out() -> int:
            insist_on_words(by, why)
            chosen = choose(known, reason=reason, topic=topic, event_type=event_type, since=since, until=until)
            targets = meant(sources, service, letters or [], chosen, every=every)
            return await settle(targets, Settling("dropped", "dropping", "drop?", act), lang, ask=not (yes or letters), as_json=as_json)

        _run(carry_out(), lang)

    @app.command(help="List the reason codes with what to do about each (mã lý do).")
    def reasons(service: Service = None, lang: Lang = "vi", as_json: AsJson = False) -> None:
        async def carry_out() -> None:
            found = reasons_of(select(sources, service)).values()
            if as_json:
                _print_json({"reasons": [telling.reason(one) for one in found]})
            else:
                _print_table(wording.reasons(found, lang))

        _run(carry_out(), lang)

    return app


def _run(work: Coroutine[object, object, int | None], language: Language) -> None:
    """Carry out a command. What goes wrong is one sentence: 2 for what makes no sense, 1 for what cannot be done."""
    try:
        status = asyncio.run(work)
    except Mistake as mistake:
        typer.echo(mistake.sentence(language), err=True)
        raise typer.Exit(2 if isinstance(mistake, Invalid) else 1) from None
    except Exception as error:
        if not (isinstance(error, OSError | asyncpg.PostgresError | asyncpg.InterfaceError | UnsafeSettings) or is_transient(error)):
            raise
        typer.echo(wording.say("not now", language, error=str(error) or type(error).__name__), err=True)
        raise typer.Exit(1) from None
    if status:
        raise typer.Exit(status)


def _print_json(told: object) -> None:
    typer.echo(json.dumps(told, ensure_ascii=False))


def _print_table(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _read(data: str | None) -> bytes | None:
    if data is None:
        return None
    try:
        return sys.stdin.buffer.read() if data == "-" else Path(data).read_bytes()
    except OSError as error:
        raise Invalid(f"Không đọc được tệp {data} ({error.strerror}).", f"The file {data} cannot be read ({error.strerror}).") from None


def _field(text: str) -> tuple[str, object]:
    found = re.fullmatch(r"([^=:]+)(:?)=(.*)", text, re.DOTALL)
    if found is None:
        raise Invalid("Viết --set trường=giá_trị, hoặc trường:=JSON.", "Write --set field=value, or field:=JSON.")
    path, colon, value = found.groups()
    return path, parse(value.encode("utf-8", "surrogateescape")) if colon else value


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Invalid("Viết --header tên=giá_trị.", "Write --header name=value.")
    return name, value
