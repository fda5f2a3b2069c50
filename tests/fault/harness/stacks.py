"""What a process is waiting for: on SIGUSR2 it writes the stacks of its tasks into its log."""

import asyncio
import faulthandler
import signal
import sys
from typing import Any

ON_SIGNAL = f"{__name__}:on_signal"
"""Called in a process that shall answer."""

WISH = signal.SIGUSR2

WRITTEN_S = 0.5
"""A process has written them after this, seconds."""


def on_signal() -> None:
    """Let this process answer the signal, and write the stack of its threads when it breaks down or hangs outside Python."""
    signal.signal(WISH, lambda *_: _write())
    faulthandler.enable(sys.stderr)
    faulthandler.register(WISH, sys.stderr, chain=True)


def _write() -> None:
    for task in asyncio.all_tasks():
        print(f"task {task.get_name()}", file=sys.stderr)
        waits: Any = task.get_coro()
        while waits is not None:
            frame = getattr(waits, "cr_frame", None) or getattr(waits, "ag_frame", None) or getattr(waits, "gi_frame", None)
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" if frame else repr(waits)
            print(f"    {place}", file=sys.stderr)
            waits = getattr(waits, "cr_await", None) or getattr(waits, "ag_await", None) or getattr(waits, "gi_yieldfrom", None)
    sys.stderr.flush()
