"""Carry deliveries out: claim what is due, send, note the outcome. Several workers share the work."""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from services.notifications import metrics, store
from services.notifications.channels import mail
from services.notifications.domain import LOST_ANSWERS, AnswerLost, Later, Never, Sent, State, next_state, pause
from services.notifications.settings import NotificationsSettings
from services.notifications.store import Claimed
from shared.chassis.database import Pool, transaction
from shared.chassis.errors import is_transient

log = logging.getLogger(__name__)

BATCH = 20
"""Deliveries claimed at once: as many as a mail server that takes the full time-out for each lets through within LEASE."""

LEASE = timedelta(minutes=5)
"""How long a claim lasts; longer than a batch takes at the mail server's slowest (20 × 10 s)."""

EVERY_S = 0.5
"""Pause after a look that found nothing, seconds."""


class Deliverer:
    """The delivering loop of one worker."""

    def __init__(self, pool: Pool, settings: NotificationsSettings) -> None:
        self._pool = pool
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set."""
        while not stop.is_set():
            done = 0
            try:
                done = await self.deliver()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("delivery is tried again", extra={"error": type(error).__name__})
            if not done:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), EVERY_S)

    async def deliver(self) -> int:
        """One round; returns how many deliveries were tried."""
        async with transaction(self._pool) as tx:
            claimed = await store.claim(tx, BATCH, LEASE)
            metrics.UNKNOWN.set(await store.unknown(tx))
            # The answer of a process that died twice over the same message was lost twice; it is not sent a third time.
            lost = [one for one in claimed if one.lost_answers >= LOST_ANSWERS]
            await store.settle(tx, [(one, "unknown", "the answer was lost twice", timedelta(), one.lost_answers) for one in lost])
        due = [one for one in claimed if one not in lost]
        if not due:
            return len(claimed)
        outcomes = await mail.send(self._settings, due)
        async with transaction(self._pool) as tx:
            await store.settle(tx, [_settled(one, outcome) for one, outcome in zip(due, outcomes, strict=True)])
        for outcome in outcomes:
            metrics.DELIVERIES.labels("mail", type(outcome).__name__.lower()).inc()
        return len(claimed)


def _settled(one: Claimed, outcome: Sent | Later | Never | AnswerLost) -> tuple[Claimed, State, str, timedelta, int]:
    reason = "" if isinstance(outcome, Sent) else outcome.reason
    lost = one.lost_answers + isinstance(outcome, AnswerLost)
    return one, next_state(outcome, one.lost_answers), reason, pause(one.attempts), lost
