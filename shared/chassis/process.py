"""A process from its first signal handler to its exit: what it serves, what ends it, and that it ends in time."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

import uvicorn
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from shared.chassis.database import Pool

log = logging.getLogger(__name__)

STOP_S = 8.0
"""A stopping process gives up what still runs after this, seconds; an orchestrator kills at 10."""


END_S = 0.5
"""What was cancelled has so long to end, seconds."""


def run_to_the_end(main: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a process, and exit with the status that `main` returns.

    A cancelled task that wants to leave in good order may wait for a server that is silent. Nothing depends on it: the
    kernel ends its connections, and what was not committed never was.
    """
    runner = asyncio.Runner()
    try:
        code = runner.run(main)
    except BaseException:
        runner.close()
        raise
    if not runner.run(_all_end()):
        logging.shutdown()
        os._exit(code)
    runner.close()
    raise SystemExit(code)


async def _all_end() -> bool:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    return not tasks or not (await asyncio.wait(tasks, timeout=END_S))[1]


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stop.set)
    return stop


def spare_the_collector() -> None:
    """What lives from here on is short-lived; the collector need not walk the modules and every batch again and again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def until_stopped(
    tasks: list["asyncio.Task[None]"], stop: asyncio.Event, server: uvicorn.Server, finish: Callable[[], Awaitable[object]], pool: Pool
) -> int:
    """Wait for the signal or for the first task that fails; then end everything within STOP_S."""
    waiter = asyncio.create_task(stop.wait(), name="signal")
    watched: set[asyncio.Task[Any]] = {waiter, *tasks}
    code = 0
    while not stop.is_set():
        done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiter}:
            failure = task.exception() if not task.cancelled() else None
            if failure is not None or task.get_name() == "http":
                log.critical("process stops", exc_info=failure, extra={"task": task.get_name()})
                code = 1
                stop.set()
    # A task of its own, and not a time limit on us: what does not heed being cancelled would keep us waiting beyond it.
    ending = asyncio.create_task(_end(tasks, server, finish, pool), name="end")
    done, _ = await asyncio.wait({ending}, timeout=STOP_S)
    failure = ending.exception() if done else TimeoutError()
    if failure is not None:
        log.warning("did not stop in good order; what was not committed will be read again", extra={"error": type(failure).__name__})
        pool.terminate()
        for task in (ending, *tasks):
            task.cancel()
    return code


async def _end(tasks: list["asyncio.Task[None]"], server: uvicorn.Server, finish: Callable[[], Awaitable[object]], pool: Pool) -> None:
    await finish()
    server.should_exit = True
    done, _ = await asyncio.wait(tasks)
    for task in done:
        task.cancelled() or task.exception()  # told already, or of no use any more
    await pool.close()


async def start_broker(broker: KafkaBroker) -> bool:
    """Join the groups; False when the broker cannot be reached."""
    try:
        await broker.start()
    except (KafkaError, OSError) as error:
        log.warning("broker cannot be reached, trying again", extra={"error": type(error).__name__})
        with contextlib.suppress(KafkaError, OSError):
            await broker.stop()
        return False
    return True
