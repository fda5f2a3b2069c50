"""Looking at something again and again beside the work; trouble that passes is told and never ends it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from shared.chassis.errors import is_transient

log = logging.getLogger(__name__)


async def look_always(what: str, look: Callable[[], Awaitable[object]], every_s: float, stop: asyncio.Event) -> None:
    """Look until `stop` is set.

    Args:
        what: what is looked at, for the log.
        look: looks once; an error that does not pass by itself is the caller's.
        every_s: pause between two looks, seconds.
        stop: set when the process stops.
    """
    while not stop.is_set():
        try:
            await look()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("cannot be looked at now, trying again", extra={"what": what, "error": type(error).__name__})
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)
