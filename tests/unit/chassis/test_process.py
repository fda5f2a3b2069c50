"""A process that was told to stop ends, also when one of its tasks does not heed being cancelled, as behind a silent server."""

import subprocess
import sys

import pytest

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
