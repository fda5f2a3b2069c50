"""I10, the promise of mail: never lost, and once more only after an answer that was lost, under the same Message-ID."""

import asyncio
import email.parser
import email.policy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.fault.harness.books import Books
from tests.fault.harness.findings import Finding, finding
from tests.fault.harness.system import System

_WAITING = """
SELECT count(*) FROM delivery JOIN message USING (message_id) WHERE state IN ('pending', 'sending') AND ($1::timestamptz IS NULL OR created_at < $1)
"""

_DELIVERIES = "SELECT message_id, state, lost_answers FROM delivery"

MAILS_S = 60.0
"""Longest wait for the last mail when everything else is through, seconds."""

MOST = 2
"""A mail is repeated once at most; after the second lost answer a person decides."""


@dataclass(frozen=True)
class Delivery:
    """What notifications believes of one mail."""

    state: str
    lost_answers: int

    @property
    def at_most(self) -> int:
        """How often it may have gone out."""
        return min(MOST, 1 + self.lost_answers)

    @property
    def is_too_early(self) -> bool:
        """Whether a person is asked to decide although it could be sent once more."""
        return self.state == "unknown" and self.lost_answers < MOST


async def all_are_sent(system: System, before: datetime | None = None) -> bool:
    """Whether no message, or none that was written before a moment, still waits to be mailed."""
    async with system.database("notifications") as connection:
        return not await connection.fetchval(_WAITING, before)


async def check_mails(system: System, books: Books) -> list[Finding]:
    """The files of the mail server against what notifications believes to have sent."""
    async with system.database("notifications") as connection:
        deliveries = {str(row[0]): Delivery(row[1], row[2]) for row in await connection.fetch(_DELIVERIES)}
    return compare(deliveries, await asyncio.to_thread(_taken, system.mails), books.mailed_before)


def compare(deliveries: Mapping[str, Delivery], taken: Counter[str], mailed_before: Counter[str]) -> list[Finding]:
    """What is wrong, by message: what notifications believes, how often the server took it, and what a lost database had sent besides."""
    sent = {message for message, one in deliveries.items() if one.state == "sent"}
    waiting = [f"{message} is {one.state}" for message, one in deliveries.items() if one.state in ("pending", "sending")]
    given_up = [f"{message} is {one.state}" for message, one in deliveries.items() if one.state == "failed" or one.is_too_early]
    again = [
        f"{message}: {taken[message]} mails, {one.lost_answers} lost answers"
        for message, one in deliveries.items()
        if taken[message] > one.at_most + mailed_before[message]
    ]
    return [
        *finding("I10", "lost", "mail is noted as sent and nobody took it", sent - taken.keys()),
        *finding("I10", "lost", "mail still waits", waiting),
        *finding("I10", "other", "mail was given up without two lost answers", given_up),
        *finding("I10", "double", "mail was sent again though no answer was lost, or more than once", again),
        *finding("I10", "other", "mail was sent that nobody ordered", taken.keys() - deliveries.keys() - mailed_before.keys()),
    ]


async def check_sent(system: System) -> list[Finding]:
    """Where no mail met more than one death: none is left for a person to decide."""
    async with system.database("notifications") as connection:
        rows = await connection.fetch(_DELIVERIES)
    return finding("I10", "other", "message is not sent", (f"{row['message_id']} is {row['state']}" for row in rows if row["state"] != "sent"))


async def mailed(system: System, lost: str) -> Mapping[str, int]:
    """How often mails may have gone out that a lost database of notifications knew of and the present one does not (decision 0011).

    Args:
        system: the system.
        lost: name of the database in which notifications worked until now.
    """
    async with system.database("notifications") as connection:
        known = {row[0] for row in await connection.fetch(_DELIVERIES) if row[1] == "sent"}
    async with system.database(lost) as connection:
        rows = await connection.fetch(_DELIVERIES)
    times = {row[0]: row[2] if row[1] == "pending" else Delivery(row[1], row[2]).at_most for row in rows}
    return {str(message): many for message, many in times.items() if many and message not in known}


def _taken(folder: Path) -> Counter[str]:
    """How often the server took each message, by the left side of the Message-ID."""
    parser = email.parser.BytesHeaderParser(policy=email.policy.default)
    return Counter(str(parser.parsebytes(path.read_bytes())["Message-ID"]).strip("<>").split("@")[0] for path in folder.glob("*.eml"))
