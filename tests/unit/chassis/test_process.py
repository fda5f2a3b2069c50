"""A process that was told to stop ends, also when one of its tasks does not heed being cancelled, as behind a silent server."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from shared.chassis import process

STUBBORN = """
import asyncio
from shared.chassis.process import run_to_the_end

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def main():
    global task
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    return 3

"""

LONG_S = 30.0
"""Far more than a process needs to start and to give up, seconds."""


def _run(last_line: str, within: float) -> int:
    return subprocess.run([sys.executable, "-c", STUBBORN + last_line], timeout=within, check=False).returncode


def test_a_task_that_does_not_heed_being_cancelled_is_left_behind() -> None:
    assert _run("run_to_the_end(main())", LONG_S) == 3


def test_without_it_the_process_waits_for_ever() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        _run("raise SystemExit(asyncio.run(main()))", 5.0)


class Servers:
    """What a stopping process gives back: an HTTP server and a pool."""

    should_exit = False
    terminated = False

    async def close(self) -> None:
        return

    def terminate(self) -> None:
        self.terminated = True


async def stopped(finish: Callable[[], Awaitable[None]]) -> tuple[int, Servers]:
    stop, there = asyncio.Event(), Servers()
    stop.set()
    loop = asyncio.create_task(asyncio.sleep(0))
    ending = asyncio.create_task(process.until_stopped([loop], stop, cast(Any, there), finish, cast(Any, there)))
    done, _ = await asyncio.wait({ending}, timeout=10)
    assert done, "it waits for whoever does not heed being cancelled"
    return ending.result(), there


async def test_who_does_not_heed_being_cancelled_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_S", 0.05)
    server_answers = asyncio.Event()

    async def deaf() -> None:
        while not server_answers.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await server_answers.wait()

    code, there = await stopped(deaf)
    server_answers.set()
    assert (code, there.terminated) == (0, True)


async def test_what_fails_at_the_stop_is_told_and_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise OSError("the database was restarted")

    code, there = await stopped(fails)
    assert (code, there.terminated) == (0, True)
    assert [vars(record)["error"] for record in caplog.records] == ["OSError"]


async def test_a_stop_in_good_order_cuts_nothing_off() -> None:
    async def finishes() -> None:
        return

    code, there = await stopped(finishes)
    assert (code, there.terminated, there.should_exit) == (0, False, True)
