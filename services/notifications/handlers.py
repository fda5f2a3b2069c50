"""The way of a frozen report: who must know, what it says, one message each."""

from collections.abc import Sequence

from services.notifications import metrics, store, wording
from services.notifications.domain import REPORT_FROZEN, concerns, message_id
from services.notifications.store import Message
from shared.chassis.clock import Clock
from shared.chassis.consume import Handler
from shared.chassis.database import Tx
from shared.chassis.decode import Received, Refused
from shared.chassis.errors import Transient
from shared.contracts.reporting import Report


def on_report_frozen(clock: Clock, reports_url: str) -> Handler:
    """Make the handler of frozen reports.

    While no office is known at all it waits (`Transient`, not ready) instead of telling nobody: an empty table is a step
    of the installation that is still to come, and an event that is passed does not come again.

    Args:
        clock: the time.
        reports_url: where a reader finds reports.
    """

    async def handle(records: Sequence[Received[Report]], tx: Tx) -> Sequence[Refused]:
        offices = await store.recipients(tx)
        if not offices:
            raise Transient("no recipients are loaded yet")
        messages: list[Message] = []
        for record in records:
            report = record.data
            # A restatement is another subject, so it is told again; a copy of the event is not.
            subject = f"{report.report_id}:{report.version}"
            for office in offices:
                if concerns(report.scope, office):
                    title, body = wording.report_frozen(report, office, reports_url)
                    found = message_id(REPORT_FROZEN, subject, office.recipient)
                    messages.append(Message(found, REPORT_FROZEN, subject, office.recipient, title, body, clock()))
        metrics.MESSAGES.labels(REPORT_FROZEN).inc(await store.add(tx, messages))
        return ()

    return handle
