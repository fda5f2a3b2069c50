"""One fault run: offer before, during and after; do harm; heal; wait until everything is through; check."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import httpx

from shared.chassis.process import spare_the_collector
from tests.fault.harness.books import Books
from tests.fault.harness.check_mails import MAILS_S, all_are_sent
from tests.fault.harness.checker import check
from tests.fault.harness.faults import Control, Fault
from tests.fault.harness.findings import Finding, finding
from tests.fault.harness.forgetting import forget
from tests.fault.harness.ledger import Ledger, Offer
from tests.fault.harness.ledger_making import make
from tests.fault.harness.offer import Pace, offer
from tests.fault.harness.proxy import Proxy
from tests.fault.harness.recount import territory
from tests.fault.harness.servers import Doors
from tests.fault.harness.stories import SCRIPTS, stories
from tests.fault.harness.system import LAYOUT, Replica, System
from tests.fault.harness.through import THROUGH_S, until_through
from tests.fault.harness.topic_reader import TopicReader
from tests.support.waiting import eventually

BEFORE, DURING = 0.2, 0.6
"""Shares of the offers before and during the fault; the rest comes after it."""

FREEZE_S = 60.0
"""Longest wait for a report to be frozen, seconds."""

READY_S = 20.0
"""Longest wait until everybody is ready once everything is through, seconds."""

STOP_S = 10.0
"""A process that was told to stop has ended after this, seconds: an orchestrator kills it then."""

SLACK = 3.0
"""Freshness fails a run when it is this many times what was promised, because a busy machine is no fault; the report shows what it was."""

_PERIODS = [f"{year}{part}" for year, part in (("2025", "Q2"), ("2025", "Q3"), ("2025", "Q4"), ("2026", "Q1"), ("2026", "Q2"))]
_PERIODS += [f"2025M{month:02d}" for month in range(4, 13)] + [f"2026M{month:02d}" for month in range(1, 9)]
_SCOPES = ("VN/51", "VN/79", "VN/01", "VN/48", "VN/?", "VN")

MOST_FACTS = 100_000
"""With more than these a new system is made, because the checker looks at all of them after every run."""

FEW_FACTS = 2_000
"""With more than these a control by hand lets the system forget them first."""

REPORTS = [(period, scope) for period in _PERIODS for scope in _SCOPES]
"""Reports that runs freeze, one each; later runs freeze what is frozen already, which changes nothing."""

COMMUNES = sorted((commune, province) for commune, province in territory().items() if commune != province)
"""Every commune with its province."""


@dataclass
class Lab:
    """The system of a session, and all that was offered to it."""

    system: System = field(default_factory=lambda: System(LAYOUT, Doors.behind_proxy(LAYOUT)))
    reader: TopicReader = field(init=False)
    books: Books = field(default_factory=Books)
    state: Literal["whole", "muddled", "gone"] = "gone"
    """Muddled: broken on purpose, and its servers are sound. Gone: there is none, or nobody knows what is wrong with it."""
    started_in: float = 0.0

    async def ready(self) -> None:
        """A system that is whole: the same as before, or one that knows nothing of what was offered before."""
        if len(self.books.facts) > MOST_FACTS:
            self.state = "gone"
        if self.state == "whole":
            return
        began, fresh = time.monotonic(), self.state == "gone"
        self.state = "gone"
        self.books = Books()
        if fresh:
            await self.close()
            await self.system.start()
            self.started_in = time.monotonic() - began
        else:
            await self.reader.close()
        self.reader = TopicReader(self.system.bootstrap_servers)
        if not fresh:
            await forget(self.system, self.reader)
        spare_the_collector()  # the books live as long as the system
        self.state = "whole"

    async def close(self) -> None:
        """End the system."""
        if hasattr(self, "reader"):
            await self.reader.close()
        await self.system.stop()


@dataclass
class Run:
    """What a fault's function is given.

    Attributes:
        name: of the fault or control.
        seed: everything that chance decides in this run follows from it.
        lab: the system, and what was offered to it before.
        draw: where chance comes from.
        ledger: what this run offers.
        guarded: a control leaves every guard where it is, and does the same harm; nothing may be found then.
        notes: what the fault's function measured, the worst of each.
    """

    name: str
    seed: int
    lab: Lab
    draw: random.Random
    ledger: Ledger
    guarded: bool = False
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def system(self) -> System:
        """The system under fault."""
        return self.lab.system

    @property
    def proxy(self) -> Proxy:
        """What stands between services and servers."""
        assert self.system.proxy is not None
        return self.system.proxy

    def note(self, name: str, seconds: float, *, at_most: float) -> None:
        """Remember a measurement for the report.

        Raises:
            AssertionError: it is more than may be.
        """
        self.notes[name] = max(seconds, self.notes.get(name, 0.0))
        assert seconds <= at_most, f"{name} is {seconds:.1f}, and may be {at_most:.0f}"

    async def stopped(self, replica: Replica) -> None:
        """Tell a process to stop, and wait until it has ended by itself."""
        began = time.monotonic()
        status = await asyncio.to_thread(self.system.process(*replica).terminate, SLACK * STOP_S)
        self.note("stop_seconds", time.monotonic() - began, at_most=STOP_S)
        assert status == 0, f"{replica} ended with {status} after SIGTERM"

    async def offer(self, offers: list[Offer], pace: Pace | None = None) -> None:
        """Offer these, at some pace or as fast as they go, until all are acknowledged."""
        await offer(self.system, self.ledger, offers, pace)

    async def offer_of(self, ledger: Ledger, offers: list[Offer]) -> None:
        """Offer some of another ledger, as fast as they go."""
        await offer(self.system, ledger, offers)

    def another(self, persons: int, *, http: float = 0.3, scripts: Sequence[Sequence[str]] = SCRIPTS) -> Ledger:
        """A further ledger of this run with persons of its own, entered in the books; its offers are for the caller to make.

        Args:
            persons: how many.
            http: share of facts that go over HTTP.
            scripts: what may happen to an enrollment.
        """
        source = f"/platforms/{self.name}-{self.seed}-{len(self.lab.books.ledgers)}"
        made = make(source, stories(self.draw.randrange(2**32), persons, scripts), self.draw, http=http)
        self.lab.books.enter(made)
        return made

    async def offer_all(self, ledger: Ledger, pace: Pace | None = None) -> None:
        """Offer everything of a further ledger, until all is acknowledged."""
        await offer(self.system, ledger, ledger.offers, pace)

    async def until_through(self) -> None:
        """Wait until everything offered so far has gone its whole way."""
        await until_through(self.system, self.lab.reader)

    async def check(self) -> list[Finding]:
        """What is wrong now."""
        return await check(self.system, self.lab.reader, self.lab.books)

    async def healed(self, within: float = THROUGH_S) -> list[Finding]:
        """Wait until everything is through and everybody is ready; what does not come through is a finding, and so is who died."""
        try:
            await until_through(self.system, self.lab.reader, within)
            await eventually(lambda: all_are_sent(self.system), within=MAILS_S)
        except AssertionError as standing:
            return [Finding("I11", "other", "does not heal by itself", 1, [str(standing)])]
        dead = [f"{process.name} on port {process.port}" for process in self.system.processes.values() if not process.alive]
        try:
            await self.system.ready(READY_S)
        except AssertionError as unready:
            return [*finding("I11", "other", "died by itself", dead), Finding("I11", "other", "does not become ready again", 1, [str(unready)])]
        return finding("I11", "other", "died by itself", dead)

    async def verdict(self, within: float = THROUGH_S) -> list[Finding]:
        """Everything that is wrong when nothing moves any more."""
        return [*await self.healed(within), *await self.check()]

    async def freeze_new_report(self) -> None:
        """Freeze the report of a commune that hardly any run has drawn before, so that there is something to announce."""
        commune, province = self.draw.choice(COMMUNES)
        await self.freeze_report(self.draw.choice(_PERIODS), f"VN/{province}/{commune}")

    async def freeze_report(self, period: str | None = None, scope: str | None = None) -> None:
        """Freeze a report, by default the next of `REPORTS`, over HTTP; asked again until there is an answer."""
        next_period, next_scope = REPORTS[len(self.lab.books.ledgers) % len(REPORTS)]
        period, scope = period or next_period, scope or next_scope
        deadline = time.monotonic() + FREEZE_S
        async with self.system.http() as http:
            while True:
                with suppress(httpx.HTTPError):
                    answer = await http.post(f"{self.system.api_url('reporting')}/v1/reports", json={"period": period, "scope": scope})
                    if answer.status_code < 500:
                        answer.raise_for_status()
                        return
                if time.monotonic() > deadline:
                    raise AssertionError(f"report {period} {scope} could not be frozen in {FREEZE_S:.0f} s")
                await asyncio.sleep(0.2)


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        findings: what is wrong; empty is good.
        heal_seconds: from the end of the fault until everything was through.
        seconds: the whole run.
        offers: how many sends were made.
        notes: what the fault's function measured.
    """

    findings: list[Finding]
    heal_seconds: float
    seconds: float
    offers: int
    notes: dict[str, float] = field(default_factory=dict)


def open_run(lab: Lab, wanted: Fault | Control, seed: int, *, guarded: bool = False) -> Run:
    """A run with stories of its own, entered in the books."""
    draw = random.Random(f"{wanted.name} {seed}")  # noqa: S311
    source = f"/platforms/{wanted.name}-{seed}-{len(lab.books.ledgers)}"
    made = make(source, stories(draw.randrange(2**32), wanted.persons), draw, wanted.copies, wanted.http, wanted.bad)
    lab.books.enter(made)
    return Run(wanted.name, seed, lab, draw, made, guarded)


async def carry_out(lab: Lab, fault: Fault, seed: int) -> Outcome:
    """One run of a fault.

    Raises:
        AssertionError: offers were not taken, or not everything came through.
    """
    await lab.ready()
    began = time.monotonic()
    run = open_run(lab, fault, seed)
    lab.state = "gone"  # until the checker has said otherwise
    offers = run.ledger.offers
    first, second = round(len(offers) * BEFORE), round(len(offers) * (BEFORE + DURING))
    await run.offer(offers[:first])
    pace = Pace(fault.seconds)
    load = asyncio.gather(run.offer(offers[first:second], pace), _freeze_in_the_middle(run, pace) if fault.report else _nothing(run))
    try:
        await fault.inject(run)
        ended = time.monotonic()
        pace.hurry()
        await run.system.heal()
        await load
    finally:
        load.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await load
    await run.offer(offers[second:])
    standing = await run.healed()
    heal_seconds = time.monotonic() - ended
    findings = [*standing, *await run.check()]
    lab.state = "gone" if findings else "whole"
    return Outcome(findings, heal_seconds, time.monotonic() - began, sum(one.attempts for one in offers), run.notes)


async def _freeze_in_the_middle(run: Run, pace: Pace) -> None:
    await pace.until(0.5)
    await run.freeze_report()


async def carry_out_control(lab: Lab, control: Control, seed: int, *, guarded: bool = False) -> list[Finding]:
    """Let a control break something in a system that is whole; what the checker found.

    A control with persons of its own offers them itself, under the bug. One without looks at what others have offered.
    `guarded` leaves the bug out and does everything else.
    """
    if not control.persons and len(lab.books.facts) > FEW_FACTS and lab.state == "whole":
        lab.state = "muddled"  # the checker looks twice in each of these
    await lab.ready()
    if not control.persons and not lab.books.ledgers:
        await carry_out(lab, _SOMETHING, seed)
    run = open_run(lab, control, seed, guarded=guarded)
    lab.state = "gone"
    found = list(await control.carry_out(run))
    lab.state = "muddled" if control.persons or await run.check() else "whole"
    return found


async def _nothing(run: Run) -> None:
    await asyncio.sleep(0)


_SOMETHING = Fault("-", "no fault", _nothing, seconds=0.0, persons=60, bad=0.05)
"""What a control looks at that is run alone."""
