"""Declare a fault or a negative control in one place, as data and an async function; `matrix/` holds them all."""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fault import matrix

if TYPE_CHECKING:
    from tests.fault.harness.findings import Finding
    from tests.fault.harness.run import Run

Inject = Callable[["Run"], Awaitable[None]]
"""Does the harm and takes it back; returns when the fault is over. Load runs meanwhile."""

Break = Callable[["Run"], Awaitable[Sequence["Finding"]]]
"""Breaks something and lets the checker look; returns what it found. Damage by hand is taken back, services stay as they are left."""


@dataclass(frozen=True)
class Fault:
    """One fault of the matrix.

    Attributes:
        name: as in the matrix: N1 to O2.
        what: what is done, for the report.
        inject: does it.
        seconds: how long the load during the fault lasts, about.
        persons: how many persons' stories are offered.
        copies: share of facts that are offered once, twice and so on.
        http: share of facts that go over HTTP.
        bad: share of further records that are bad.
        report: whether a report is frozen in the middle of it.
        needs: says why this machine cannot do it; None if it can.
    """

    name: str
    what: str
    inject: Inject
    seconds: float = 5.0
    persons: int = 60
    copies: Sequence[float] = (0.75, 0.15, 0.06, 0.03, 0.01)
    http: float = 0.3
    bad: float = 0.005
    report: bool = True
    needs: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Control:
    """A run that the checker must not let pass.

    Attributes:
        name: short, unique.
        what: which guard is gone, or what is broken by hand.
        catches: what must be found, at least one of these: an invariant, or an invariant and a harm (`I2 double`).
        carry_out: does it, and offers `run.ledger` if there are persons.
        persons: how many persons' stories the run brings; without any it looks at what earlier runs have offered.
        copies: as of a fault.
        http: as of a fault.
        bad: as of a fault.
        guarded: whether the same run must be clean when no guard is removed (`run.guarded`).
    """

    name: str
    what: str
    catches: Sequence[str]
    carry_out: Break
    persons: int = 0
    copies: Sequence[float] = (0.75, 0.15, 0.06, 0.03, 0.01)
    http: float = 0.3
    bad: float = 0.0
    guarded: bool = False

    def caught_by(self, findings: "Sequence[Finding]") -> bool:
        """Whether what was found is what had to be found."""
        return any(one.invariant in self.catches or f"{one.invariant} {one.harm}" in self.catches for one in findings)


FAULTS: dict[str, Fault] = {}
CONTROLS: dict[str, Control] = {}


def fault(name: str, what: str, **story: object) -> Callable[[Inject], Inject]:
    """Declare the decorated function as a fault; `story` are further attributes of `Fault`."""

    def declare(inject: Inject) -> Inject:
        if name in FAULTS:
            raise ValueError(f"fault {name} is declared twice")
        FAULTS[name] = Fault(name, what, inject, **story)  # type: ignore[arg-type]
        return inject

    return declare


def control(name: str, what: str, catches: Sequence[str], **story: object) -> Callable[[Break], Break]:
    """Declare the decorated function as a negative control."""

    def declare(carry_out: Break) -> Break:
        if name in CONTROLS:
            raise ValueError(f"control {name} is declared twice")
        CONTROLS[name] = Control(name, what, catches, carry_out, **story)  # type: ignore[arg-type]
        return carry_out

    return declare


def load_all() -> None:
    """Import every module of `matrix/`, so that what they declare is known."""
    for module in pkgutil.iter_modules(matrix.__path__):
        importlib.import_module(f"{matrix.__name__}.{module.name}")
