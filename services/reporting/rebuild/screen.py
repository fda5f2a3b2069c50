"""What a person sees of a rebuild: how far it is, how fast, how long still, and what came of it."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from services.reporting.rebuild.rebuilding import Rebuilt

LINE_EVERY_S = 10.0
"""Pause between two lines where there is no screen to draw on, seconds."""


class Screen:
    """Draws on a terminal, and writes a line now and then elsewhere; standard output is left to the result."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f} records"),
            TextColumn("{task.fields[rate]:,.0f}/s"), TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._console = console
        self._task = self._progress.add_task("beginning", total=0, rate=0)
        self._began = time.monotonic()
        self._line_at = self._began

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def tell(self, stage: str, done: int, there: int) -> None:
        """Show what is being done, how many records are behind us, and how many there are; more come while we read."""
        now = time.monotonic()
        rate = done / max(now - self._began, 0.001)
        self._progress.update(self._task, description=stage, completed=done, total=there, rate=rate)
        if not self._console.is_terminal and now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            left = (there - done) / max(rate, 1)
            self._console.print(f"{stage}: {done:,} of {there:,} records, {rate:,.0f}/s, {left:,.0f} s left", soft_wrap=True, highlight=False)


def told(made: Rebuilt) -> list[str]:
    """A rebuild in lines."""
    lines = []
    for one in made.compared:
        lines.append(f"{one.table}: {one.rows} rows, {'equal' if one.equal else 'DIFFERENT'}")
        lines.append(f"  before  {one.stood}")
        lines.append(f"  rebuilt {one.made}")
    lines += ["  " + " ".join(example) for example in made.examples]
    verdict = "equal" if made.equal else f"DIFFERENT, {made.figures_differing} rows of figures: what comes from the topics is in place now"
    return [
        *lines,
        f"{verdict}; {made.records} records, {made.meanwhile} came meanwhile, {made.seconds:.1f} s, folds waited {made.switch_seconds:.2f} s",
    ]
