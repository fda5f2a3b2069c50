"""Processes of a service replaced by such as lack a guard, for controls; in a guarded run by such as lack none."""

import asyncio
from collections.abc import Mapping, Sequence

import psutil

from shared.chassis.crash_points import ALLOWED, VARIABLE
from tests.fault.harness.crash_system import Order
from tests.fault.harness.run import Run
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually

BUGS = "tests.fault.harness.careless"
"""Where guards are removed."""

QUICK_S = 30.0
"""Longest wait for everything to be through in a run of few persons, seconds."""

WORKERS = (1, 2)


def end(run: Run, service: str, numbers: Sequence[int] = WORKERS) -> None:
    """SIGKILL processes of a service."""
    for number in numbers:
        process = run.system.process(service, number)
        if process.alive:
            process.wake()
            process.kill()


async def begin(
    run: Run,
    service: str,
    bug: str | None = None,
    numbers: Sequence[int] = WORKERS,
    env: Mapping[str, str] | None = None,
    also: Sequence[str] = (),
) -> None:
    """Start processes of a service, and wait until they are ready.

    Args:
        run: the control's run.
        service: which.
        bug: `module:function` in `careless`, which a guarded run leaves out.
        numbers: which of its processes; those that live are killed first.
        env: besides the usual.
        also: further functions that are called in them, in a guarded run as well.
    """
    end(run, service, [number for number in numbers if (service, number) in run.system.processes])
    prepare = [*also, *([f"{BUGS}.{bug}"] if bug is not None and not run.guarded else [])]
    await asyncio.gather(*(run.system.start_replica(service, number, env, prepare).wait_ready() for number in numbers))


def at_point(deed: str, point: str) -> dict[str, str]:
    """Environment of processes each of which does this to itself at its first hit of a crash point."""
    return {VARIABLE: f"{deed}:{point}", ALLOWED: "yes"}


def on_order(run: Run) -> dict[str, str]:
    """Environment of processes of which the first to come by obeys what `order` says."""
    folder = run.system.layout.root / "orders"
    folder.mkdir(exist_ok=True)
    return {VARIABLE: f"orders:{folder}", ALLOWED: "yes"}


def order(run: Run, deed: str, point: str) -> Order:
    """Lay an order down for processes that were started with `on_order`."""
    return Order(run.system.layout.root / "orders", deed, point)


async def until_one_died(run: Run, service: str, numbers: Sequence[int] = WORKERS) -> None:
    """Wait until one of these processes has killed itself."""

    async def died() -> bool:
        return not all(run.system.process(service, number).alive for number in numbers)

    await eventually(died)


async def until_frozen(run: Run, service: str, numbers: Sequence[int] = WORKERS) -> ServiceProcess:
    """Wait until one of these processes has frozen itself, and say which."""

    async def frozen() -> ServiceProcess | None:
        processes = (run.system.process(service, number) for number in numbers)
        return next((one for one in processes if psutil.Process(one.child.pid).status() == psutil.STATUS_STOPPED), None)

    found = await eventually(frozen)
    assert found is not None
    return found
