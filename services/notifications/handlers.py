"""The way of a frozen report: who must know, what it says, one message each."""

from collections.abc import Sequence

from services.notifications import metrics, store, wording
from services.notifications.domain import REPORT_FROZEN, concerns, message_id
from services.notifications.store import Message
from shared.chassis.clock import Clock
from shared.chassis.consume import Handler
from shared.chassis.database import Tx
from shared.chassis.decode import Received, Refused
from shared.contracts.reporting import Report


def on_report_frozen(clock: Clock) -> Handler:
    """Make the handler of frozen reports."""

    async def handle(records: Sequence[Received[Report]], tx: Tx) -> Sequence[Refused]:
        offices = await store.recipients(tx)
        messages: list[Message] = []
        for record in records:
            report = record.data
            # A restatement is another subject, so it is told again; a copy of the event is not.
            subject = f"{report.report_id}:{report.version}"
            for office in offices:
                if concerns(report.scope, office):
                    title, body = wording.report_frozen(report, office)
                    found = message_id(REPORT_FROZEN, subject, office.recipient)
                    messages.append(Message(found, REPORT_FROZEN, subject, office.recipient, title, body, clock()))
        metrics.MESSAGES.labels(REPORT_FROZEN).inc(await store.add(tx, messages))
        return ()

    return handle
