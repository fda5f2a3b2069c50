"""Settle many letters at a terminal: count first, ask, show how far it is, say what came of them."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.chassis.letters import telling, wording
from shared.chassis.letters.desk import Desk, Outcome, Tell
from shared.chassis.letters.mistakes import Invalid
from shared.chassis.letters.reasons import Language
from shared.chassis.letters.sources import Source, desks
from shared.chassis.letters.store import Filter


@dataclass(frozen=True)
class Settling:
    """What is done to the letters.

    Attributes:
        state: what they are afterwards; also the phrase of the summary.
        doing: phrase beside the progress bar.
        question: phrase that asks whether to go on.
        act: does it at one desk.
    """

    state: str
    doing: str
    question: str
    act: Callable[[Desk, Filter, Tell], Awaitable[Outcome]]


async def settle(targets: Mapping[str, tuple[Source, Filter]], settling: Settling, language: Language, *, ask: bool, as_json: bool) -> int:
    """Do it to what is meant at each service.

    Returns:
        Exit status: 1 when a letter was refused again, else 0.

    Raises:
        Mistake: a letter that was named is not there or not open, or nobody can be asked.
    """
    async with desks([source for source, _ in targets.values()]) as opened:
        chosen = {desk: targets[desk.service][1] for desk in opened}
        for desk, wanted in chosen.items():
            for letter_id in wanted.ids or ():
                await desk.insist_on_open(letter_id)
        counted: dict[str, int] = {}
        for desk, wanted in chosen.items():
            for reason, letters in (await desk.count(wanted)).items():
                counted[reason] = counted.get(reason, 0) + letters
        total = sum(counted.values())
        if total and not as_json:
            typer.echo(wording.say("counted", language, letters=total, reasons=wording.by_reason(counted)))
        if total and ask:
            _ask(settling.question, language)
        outcomes = await _act(chosen, settling, language, total, quiet=as_json)
    if as_json:
        typer.echo(json.dumps({service: telling.outcome(outcome, settling.state) for service, outcome in outcomes.items()}))
    elif total:
        typer.echo(wording.summary(outcomes.values(), settling.state, language))
    else:
        typer.echo(wording.say("nothing", language))
    return 1 if any(outcome.refused for outcome in outcomes.values()) else 0


async def _act(chosen: Mapping[Desk, Filter], settling: Settling, language: Language, total: int, *, quiet: bool) -> dict[str, Outcome]:
    outcomes = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task(wording.say(settling.doing, language), total=total)
        for desk, wanted in chosen.items():
            outcomes[desk.service] = await settling.act(desk, wanted, lambda letters: progress.advance(task, letters))
    return outcomes


def _ask(question: str, language: Language) -> None:
    if not sys.stdin.isatty():
        raise Invalid("Thêm --yes để làm mà không hỏi.", "Add --yes to go on without being asked.")
    if not typer.confirm(wording.say(question, language)):
        raise typer.Exit(1)
