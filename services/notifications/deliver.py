"""Carry deliveries out: claim what is due, send it, note the outcome, one by one. Several workers share the work.

A message is claimed only when the connection stands and the one before it is settled, so a process that dies leaves one
message in doubt and no more (decision 0007).
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from services.notifications import metrics, store
from services.notifications.channels import mail
from services.notifications.domain import LOST_ANSWERS, AnswerLost, Later, Never, Outcome, Sent, next_state, pause
from services.notifications.store import Claimed, Settled
from shared.chassis.database import Pool, transaction
from shared.chassis.errors import is_transient

log = logging.getLogger(__name__)

EVERY_S = 0.5
"""Pause after a look that found nothing, seconds."""

LONGEST_PAUSE_S = 60.0
"""Longest pause between attempts at a mail server that does not let us in, seconds."""


class Deliverer:
    """The delivering loop of one worker."""

    def __init__(self, pool: Pool, server: mail.Server, lease: timedelta) -> None:
        """Plain construction; nothing happens yet.

        Args:
            pool: database of the service.
            server: where mails go.
            lease: how long one mail stays with the process that took it, until another tries.
        """
        self._pool = pool
        self._server = server
        self._lease = lease

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set. Trouble that passes never ends the loop."""
        refused = 0
        while not stop.is_set():
            wait = EVERY_S
            try:
                tried = await self.deliver(stop)
                refused = 0
                wait = 0 if tried else EVERY_S
            except mail.Unreachable as error:
                refused += 1
                wait = min(LONGEST_PAUSE_S, 2.0 ** min(refused, 10))
                metrics.DELIVERIES.labels("mail", "unreachable").inc()
                log.warning("mail server cannot be used, trying again", extra={"error": str(error), "pause_s": wait})
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("delivery is tried again", extra={"error": type(error).__name__})
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)

    async def deliver(self, stop: asyncio.Event | None = None) -> int:
        """Send what is due over one connection; returns how many messages were handed to the mail server.

        Raises:
            mail.Unreachable: nothing was claimed.
        """
        async with transaction(self._pool) as tx:
            seen = await store.look(tx)
        metrics.UNKNOWN.set(seen.unknown)
        metrics.OLDEST_WAITING.set(seen.oldest_waiting_s)
        if not seen.due:
            return 0
        tried = 0
        async with mail.connection(self._server) as connection:
            settled: Settled | None = None
            while (claimed := await self._next(settled, more=connection.usable and not (stop is not None and stop.is_set()))) is not None:
                one, address = claimed
                outcome = await connection.send(one, address)
                settled = _settled(one, outcome)
                tried += 1
                metrics.DELIVERIES.labels("mail", _label(outcome, settled)).inc()
        return tried

    async def _next(self, settled: Settled | None, *, more: bool) -> tuple[Claimed, str] | None:
        """Note what came of one message and claim the next, in one transaction; None when there is none to send."""
        async with transaction(self._pool) as tx:
            if settled is not None:
                await store.settle(tx, settled)
            while more and (one := await store.claim(tx, self._lease)) is not None:
                if one.lost_answers >= LOST_ANSWERS:
                    # Its senders died over it twice; it is not sent a third time.
                    await store.settle(tx, Settled(one, "unknown", "the answer was lost twice", timedelta(), one.lost_answers))
                elif one.address is None:
                    await store.settle(tx, Settled(one, "failed", "the office is no longer among the recipients", timedelta(), one.lost_answers))
                else:
                    return one, one.address
        return None


def _settled(one: Claimed, outcome: Outcome) -> Settled:
    reason = "" if isinstance(outcome, Sent) else outcome.reason
    lost = one.lost_answers + isinstance(outcome, AnswerLost)
    return Settled(one, next_state(outcome, one.lost_answers), reason, pause(one.attempts), lost)


def _label(outcome: Outcome, settled: Settled) -> str:
    """The word for metrics."""
    match outcome:
        case Sent():
            return "sent"
        case Later():
            return "later"
        case Never():
            return "failed"
        case AnswerLost():
            return "unknown" if settled.state == "unknown" else "answer_lost"
