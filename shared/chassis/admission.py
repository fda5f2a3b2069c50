"""Whether a process may work: settings of its servers, and its name. While one of them refuses, it lives, works not, and says why.

A process that ended instead would be started again and again, and what a person must mend would stand in a log that
nobody sees; here it stands in readiness and in the metric `service_refused`, and work begins as soon as it is mended.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from shared.chassis import telemetry
from shared.chassis.errors import MustNotWork, is_transient

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""Pause between two looks while work is done, seconds."""

ANSWER_S = 10.0
"""Longest wait for an answer of the database, seconds."""

WAIT_S = 1.0
"""Pause between two looks while work waits, seconds."""

RUNBOOK = "docs/runbook/service-refuses.md"
"""Where a person reads what to do."""


@dataclass(frozen=True)
class Look:
    """One thing that must be well.

    Attributes:
        reason: a word, label of the metric.
        ask: raises `MustNotWork` when it is not well, and anything that passes when it cannot be known now.
        every_s: how old an answer may be, seconds; 0: it is asked at every look.
        within_s: longest wait for an answer, seconds; without one nothing is known, and the next thing is looked at.
    """

    reason: str
    ask: Callable[[], Awaitable[None]]
    every_s: float = 0.0
    within_s: float = ANSWER_S


class Admission:
    """What was seen last."""

    def __init__(self, *looks: Look) -> None:
        self._looks = looks
        self._well_at: dict[str, float] = {}
        self.refusals: dict[str, str] = {}
        """By reason, what a person must mend."""
        for look in looks:
            telemetry.REFUSED.labels(look.reason).set(0)

    @property
    def granted(self) -> bool:
        """Whether everything was seen to be well, and nothing refuses since."""
        return not self.refusals and all(look.reason in self._well_at for look in self._looks)

    async def look(self) -> None:
        """Look at everything whose answer is too old. What cannot be known now is left as it was seen last."""
        for look in self._looks:
            if look.reason not in self.refusals and time.monotonic() - self._well_at.get(look.reason, -look.every_s) < look.every_s:
                continue
            try:
                async with asyncio.timeout(look.within_s):
                    await look.ask()
            except MustNotWork as refusal:
                self._refuse(look.reason, str(refusal))
            except Exception as error:
                if not isinstance(error, KafkaError) and not is_transient(error):
                    raise
            else:
                self._well_at[look.reason] = time.monotonic()
                if self.refusals.pop(look.reason, None) is not None:
                    telemetry.REFUSED.labels(look.reason).set(0)
                    log.warning("refuses no longer", extra={"reason": look.reason})

    async def guard(self, stop: asyncio.Event, begin: Callable[[], Awaitable[bool]], end: Callable[[], Awaitable[object]]) -> None:
        """Let work begin when everything is well, and end when it is not, until `stop` is set.

        Args:
            stop: set when the process stops; who sets it ends the work.
            begin: begins the work; False when it could not, and will be tried again.
            end: ends it.
        """
        work = asyncio.create_task(self._guard(begin, end))
        stopped = asyncio.create_task(stop.wait())
        # A server that does not answer must not keep a process that was told to stop.
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, stopped):
            task.cancel()
        (failure, _) = await asyncio.gather(work, stopped, return_exceptions=True)
        if isinstance(failure, Exception):
            raise failure

    async def _guard(self, begin: Callable[[], Awaitable[bool]], end: Callable[[], Awaitable[object]]) -> None:
        working = False
        while True:
            await self.look()
            if self.granted and not working:
                working = await begin()
            elif self.refusals and working:
                await end()
                working = False
            await asyncio.sleep(LOOK_EVERY_S if working else WAIT_S)

    async def check(self) -> str | None:
        """For readiness: what refuses."""
        told = "; ".join(self.refusals.values())
        return f"refuses to work: {told}; see {RUNBOOK}" if told else None

    def _refuse(self, reason: str, sentence: str) -> None:
        if self.refusals.get(reason) != sentence:
            log.critical("refuses to work", extra={"reason": reason, "why": sentence, "runbook": RUNBOOK})
        self.refusals[reason] = sentence
        telemetry.REFUSED.labels(reason).set(1)
