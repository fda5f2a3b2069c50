"""I10, the promise of mail: never lost, and once more only after an answer that was lost, under the same Message-ID."""

from collections import Counter
from email import message_from_bytes
from pathlib import Path

from tests.fault.harness.findings import Finding, finding
from tests.fault.harness.system import System

_DELIVERIES = "SELECT message_id, state, lost_answers FROM delivery"

MOST = 2
"""A mail is repeated once at most; after the second lost answer a person decides."""


async def check_mails(system: System) -> list[Finding]:
    """The files of the mail server against what notifications believes to have sent."""
    async with system.database("notifications") as connection:
        deliveries = {str(row["message_id"]): row for row in await connection.fetch(_DELIVERIES)}
    taken = Counter(_message_id(path) for path in system.mails.glob("*.eml"))
    may = {message: min(MOST, 1 + row["lost_answers"]) for message, row in deliveries.items()}
    sent = {message for message, row in deliveries.items() if row["state"] == "sent"}
    again = [f"{message} ({taken[message]} times)" for message, times in may.items() if taken[message] > times]
    return [
        *finding("I10", "lost", "mail is noted as sent and nobody took it", sent - taken.keys()),
        *finding("I10", "double", "mail was sent again though no answer was lost", again),
        *finding("I10", "other", "mail was sent that nobody ordered", taken.keys() - deliveries.keys()),
    ]


def _message_id(path: Path) -> str:
    return str(message_from_bytes(path.read_bytes())["Message-ID"]).strip("<>").partition("@")[0]
