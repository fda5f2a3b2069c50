"""Crash points times recoveries: a driver for each service goes through its points, all side by side; then the checker looks.

The services stand in a row, so each can be hurt while the others are: every driver has one point at a time. After a leg of
so many seconds everything comes to rest, and the checker looks at all that was ever offered.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.local.layout import SERVICES
from tests.fault.harness.crash_lab import CrashLab
from tests.fault.harness.crash_system import Order
from tests.fault.harness.findings import Finding
from tests.fault.harness.points import STARTING, Point, Recovery, Run
from tests.fault.harness.settled import SETTLED_S, until_settled
from tests.fault.harness.topic_reader import TopicReader
from tests.support.waiting import eventually

OBEYED_S = 60.0
"""Longest wait until a process reaches a point, seconds; what it waits for may be hurt by another driver meanwhile."""

MOMENT_S = 2.0
"""How long a process has to come to a point before the act is done again, seconds."""

LEG_S = 60.0
"""After so many seconds of runs the checker looks."""


@dataclass
class Leg:
    """Runs between two looks of the checker.

    Attributes:
        healed: seconds from the death or the freezing until the work went on, by run.
        broken: why a run did not come to its end, by run.
        findings: what the checker found after them.
        seconds: how long all of it took.
    """

    healed: dict[Run, float] = field(default_factory=dict)
    broken: dict[Run, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0


async def legs(lab: CrashLab, runs: Iterable[Run], leg_s: float = LEG_S) -> AsyncIterator[Leg]:
    """Carry the runs out, in their order for each service; after each leg the checker has looked.

    What a leg found is still there in the next one, so whoever cares which runs did it stops there.
    """
    waiting: dict[str, deque[Run]] = {service: deque() for service in SERVICES}
    for run in runs:
        waiting[run[0].service].append(run)
    drivers = [Driver(lab, service, waiting[service]) for service in SERVICES]
    try:
        await asyncio.gather(*(lab.system.have(service, 1) for service in SERVICES))
        while any(waiting.values()):
            leg, began = Leg(), time.monotonic()
            await asyncio.gather(*(driver.drive(leg, began + leg_s) for driver in drivers))
            leg.findings = await lab.verdict()
            leg.seconds = time.monotonic() - began
            yield leg
    finally:
        for driver in drivers:
            await driver.close()


class Driver:
    """Takes one service through its runs."""

    def __init__(self, lab: CrashLab, service: str, waiting: "deque[Run]") -> None:
        self._lab = lab
        self._system = lab.system
        self._service = service
        self._waiting = waiting
        self._reader = TopicReader(lab.system.bootstrap_servers)

    async def close(self) -> None:
        """Give connections back."""
        await self._reader.close()

    async def drive(self, leg: Leg, until: float) -> None:
        """Carry out runs until there are none or it is late."""
        while self._waiting and time.monotonic() < until:
            run = self._waiting.popleft()
            try:
                leg.healed[run] = await self.carry_out(run)
            except AssertionError as error:
                leg.broken[run] = str(error)
                self._system.end_all(self._service)
                await self._system.have(self._service, 1)

    async def carry_out(self, run: Run) -> float:
        """Let a process reach the point and die or freeze there; see the work go on; give the seconds that took.

        Raises:
            AssertionError: the point was not reached, or the work does not go on.
        """
        point, recovery = run
        await self._system.have(self._service, 1 if recovery is Recovery.RESTART else 2)
        order = self._system.order("freeze" if recovery is Recovery.ZOMBIE else "kill", point.name)
        acting = asyncio.create_task(self._act_until_obeyed(point, order))
        try:
            number = self._replica(await self._obeyed(order, acting, point))
            struck = time.monotonic()
            await self._recover(number, point, recovery, acting)
            return time.monotonic() - struck
        except AssertionError as error:
            # Now, before anybody is started again.
            stands = await self._system.write_stacks(self._service)
            self._system.keep_logs(f"{point.name} {recovery}".replace("/", " "))
            raise AssertionError(f"{error}; {stands}") from error
        finally:
            # Nothing is offered by halves, or the checker would miss the other half.
            order.withdraw()
            await acting

    async def _recover(self, number: int, point: Point, recovery: Recovery, acting: "asyncio.Task[None]") -> None:
        victim = self._system.process(self._service, number)
        if recovery is Recovery.ZOMBIE:
            await self._until_settled(point, acting)
            victim.wake()
            await victim.wait_ready()
            return
        await asyncio.to_thread(victim.child.wait, 10)
        if recovery is Recovery.TAKEOVER:
            await self._until_settled(point, acting)
        await self._system.ensure(self._service, number)
        if recovery is Recovery.RESTART:
            await self._until_settled(point, acting)

    async def _until_settled(self, point: Point, acting: "asyncio.Task[None]") -> None:
        """Until what was there to be done when the process died or froze is done, by whoever is left."""
        await until_settled(self._system, self._reader, self._service, point.piece)
        if point.piece.startswith(("POST ", "PUT ")):
            await asyncio.wait_for(asyncio.shield(acting), SETTLED_S)

    async def _act_until_obeyed(self, point: Point, order: Order) -> None:
        """Do what leads to the point until somebody was there, or nobody is to go there any more."""
        # Some points are reached only by a process that has just started, or when a register has changed meanwhile.
        for act in itertools.chain((point.act, point.act), itertools.cycle(("start", point.act, "course", point.act))):
            if act in STARTING:
                await self._start_until_obeyed(act, order)
            else:
                await self._lab.acts.do(act)
            await _a_moment(order)
            if order.is_over:
                return

    async def _start_until_obeyed(self, act: str, order: Order) -> None:
        """Workers are killed and started again in turn, which is when they take work over, until one has come to the point."""
        match act:
            case "quarter" if self._service == "reporting":
                await self._lab.acts.forget_a_quarter()
                await self._start_the_dead(order)
            case "nameless":
                await self._lab.acts.forget_ids(self._service)
                await self._start_the_dead(order)
            case "newcomer":
                await self._lab.acts.forget_topics(self._service)
                await self._start_the_dead(order)
        for number in (1, 2):
            process = self._system.processes.get((self._service, number))
            if process is not None and not order.is_over:
                process.kill()
                self._system.start_replica(self._service, number)
                await _a_moment(order)

    async def _start_the_dead(self, order: Order) -> None:
        """All at once: when one dies at the point, the other must be there to take over."""
        for number in (1, 2):
            process = self._system.processes.get((self._service, number))
            if process is not None and not process.alive:
                self._system.start_replica(self._service, number)
        await _a_moment(order)

    async def _obeyed(self, order: Order, acting: "asyncio.Task[None]", point: Point) -> int:
        deadline = time.monotonic() + OBEYED_S
        while (pid := order.obeyed_by) is None:
            if acting.done():
                acting.result()  # whatever failed says why
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody came to {point} in {OBEYED_S:.0f} s although there was '{point.act}'")
            await asyncio.sleep(0.01)
        return pid

    def _replica(self, pid: int) -> int:
        found = [number for (service, number), process in self._system.processes.items() if service == self._service and process.child.pid == pid]
        assert found, f"pid {pid} is no process of {self._service} that is known"
        return found[0]


async def _a_moment(order: Order) -> None:
    """Give somebody the time to come to the point."""
    with suppress(AssertionError):
        await eventually(lambda: _is_over(order), within=MOMENT_S)


async def _is_over(order: Order) -> bool:
    await asyncio.sleep(0)
    return order.is_over
