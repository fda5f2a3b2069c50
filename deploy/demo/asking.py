"""Ask a service that may be starting again: a request waits for it, with a bound."""

import asyncio
import time
from http import HTTPStatus
from typing import Any

import httpx

READY_S = 60.0
"""Longest wait for a service that is being started again, seconds."""

PAUSE_S = 0.3
"""Pause between two attempts, seconds."""


class NotReady(Exception):
    """A service did not come back in time; the message names it and what to do."""


async def ask(http: httpx.AsyncClient, service: str, method: str, url: str, *, within: float = READY_S, **told: Any) -> httpx.Response:
    """A service's answer. Everything the demo asks may be asked twice, so what got no answer is asked again.

    Raises:
        NotReady: it does not answer, or not yet, for so long.
        httpx.HTTPStatusError: it refuses.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            answer = await http.request(method, url, **told)
        except httpx.TransportError:
            wrong = "does not answer"
        else:
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                return answer.raise_for_status()
            wrong = "is not ready"
        if time.monotonic() >= deadline:
            raise NotReady(f"{service} {wrong} at {url.partition('/v1/')[0]} for {within:.0f} s: 'make up' starts what is missing.")
        await asyncio.sleep(PAUSE_S)
