"""Wait for something to become true; never for time to pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(check: Callable[[], Awaitable[T]], within: float = 30.0) -> T:
    """Ask until the answer is true; give it back. Raises AssertionError with the last answer after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        answer = await check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not true after {within} s; last answer: {answer!r}")
        await asyncio.sleep(0.05)
