"""What a session's runs say together: two tables on the screen and one file."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.layout import REPOSITORY
from tests.fault.harness.findings import Finding, Harm

if TYPE_CHECKING:
    from tests.fault.harness.run import Outcome

FILE = REPOSITORY / ".stack" / "fault.json"


@dataclass
class Line:
    """One fault over all its runs."""

    what: str
    runs: int = 0
    harms: dict[Harm, int] = field(default_factory=lambda: {"lost": 0, "double": 0, "drifted": 0, "other": 0})
    unfinished: int = 0
    heal_seconds: float = 0.0
    seconds: float = 0.0
    failed_seeds: list[int] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)


@dataclass
class Report:
    """Collects outcomes; the file is written after each, the tables are printed at the end of the session."""

    faults: dict[str, Line] = field(default_factory=dict)
    controls: dict[str, tuple[str, bool]] = field(default_factory=dict)
    not_here: dict[str, str] = field(default_factory=dict)
    """Faults that this machine cannot do, and why."""
    started_in: float = 0.0

    def add(self, name: str, what: str, seed: int, outcome: "Outcome | None", why: str = "") -> None:
        """Note a run; without an outcome it did not come to its end, and `why` says what stood in its way."""
        line = self.faults.setdefault(name, Line(what))
        line.runs += 1
        if outcome is None:
            line.unfinished += 1
            line.failed_seeds.append(seed)
            line.found.append(f"seed {seed}: {why}")
            return
        line.heal_seconds = max(line.heal_seconds, outcome.heal_seconds)
        line.seconds += outcome.seconds
        line.notes |= {name: max(worst, line.notes.get(name, 0.0)) for name, worst in outcome.notes.items()}
        for found in outcome.findings:
            line.harms[found.harm] += found.count
            line.found.append(f"seed {seed}: {found}")
        if outcome.findings:
            line.failed_seeds.append(seed)

    def add_control(self, name: str, what: str, *, caught: bool) -> None:
        """Note a control; caught only if every run of it was."""
        self.controls[name] = what, caught and self.controls.get(name, (what, True))[1]

    def lines(self) -> Iterable[str]:
        """The two tables."""
        if self.faults:
            yield f"{'fault':6} {'what it is':64} {'runs':>4} {'lost':>5} {'double':>6} {'drifted':>7} {'other':>5} {'s to heal':>9} {'s a run':>7}"
            for name, line in sorted(self.faults.items()):
                harms = line.harms
                told = f"{name:6} {line.what[:64]:64} {line.runs:4} {harms['lost']:5} {harms['double']:6} {harms['drifted']:7} {harms['other']:5}"
                ended = line.runs - line.unfinished
                yield f"{told} {line.heal_seconds:9.1f} {line.seconds / ended if ended else 0:7.1f}" + (
                    f"  UNFINISHED {line.unfinished}" if line.unfinished else ""
                )
                for note, worst in sorted(line.notes.items()):
                    yield f"{'':6} {note} at most {worst:.1f}"
        if self.controls:
            yield ""
            yield f"{'control':24} {'what is broken':80} {'caught':>6}"
            for name, (what, caught) in sorted(self.controls.items()):
                yield f"{name:24} {what[:80]:80} {'yes' if caught else 'NO':>6}"
        for name, why in sorted(self.not_here.items()):
            yield f"{name} was not done: {why}"
        for name, line in sorted(self.faults.items()):
            for seed in line.failed_seeds:
                yield f"{name} failed; run it again with: {reproduce(name, seed)}"

    def write(self, path: Path = FILE) -> None:
        """The same for programs."""
        told = {
            "commit": commit(),
            "faults": {
                name: {
                    "what": line.what, "runs": line.runs, **line.harms, "unfinished": line.unfinished,
                    "heal_seconds": round(line.heal_seconds, 2), "run_seconds": round(line.seconds, 2),
                    "failed_seeds": line.failed_seeds, "found": line.found,
                    **{note: round(worst, 2) for note, worst in line.notes.items()},
                }
                for name, line in sorted(self.faults.items())
            },
            "not_here": self.not_here,
            "controls": {name: {"what": what, "caught": caught} for name, (what, caught) in sorted(self.controls.items())},
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")


def reproduce(name: str, seed: int) -> str:
    """The one command that runs the same again."""
    return f"git checkout {commit()} && make test-fault only={name} seed={seed}"


def commit() -> str:
    """The commit that is being tested; `+` when the tree holds more than that."""
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def explain(findings: Iterable[Finding], name: str, seed: int) -> str:
    """What a failed run says."""
    return "\n".join([f"{name}, seed {seed}:", *(f"    {found}" for found in findings), f"    {reproduce(name, seed)}"])
