"""I10: every message went out by mail, once, or twice if an answer was lost on the way."""

import asyncio
import email.parser
import email.policy
from collections import Counter
from datetime import datetime
from pathlib import Path

from tests.fault.harness.findings import Finding, finding
from tests.fault.harness.system import System

_WAITING = """
SELECT count(*) FROM delivery JOIN message USING (message_id) WHERE state IN ('pending', 'sending') AND ($1::timestamptz IS NULL OR created_at < $1)
"""

_DELIVERIES = "SELECT message_id, state, lost_answers FROM delivery"


async def all_are_sent(system: System, before: datetime | None = None) -> bool:
    """Whether no message, or none that was written before a moment, still waits to be mailed."""
    async with system.database("notifications") as connection:
        return not await connection.fetchval(_WAITING, before)


async def check(system: System) -> list[Finding]:
    """Deliveries against what the mail server took."""
    taken = await asyncio.to_thread(_taken, system.layout.root / "mails")
    async with system.database("notifications") as connection:
        rows = await connection.fetch(_DELIVERIES)
    lost, repeated, undecided = [], [], []
    for row in rows:
        name, times = str(row["message_id"]), taken[str(row["message_id"])]
        if row["state"] != "sent":
            undecided.append(f"{name} is {row['state']}")
        elif times == 0:
            lost.append(name)
        elif times > 1 + min(row["lost_answers"], 1):
            repeated.append(f"{name}: {times} mails, {row['lost_answers']} lost answers")
    return [
        *finding("I10", "lost", "message was noted as sent and no mail was taken", lost),
        *finding("I10", "double", "mail was repeated though no answer was lost, or more than once", repeated),
        *finding("I10", "other", "message is not sent", undecided),
        *finding("I10", "other", "mail of no message", taken.keys() - {str(row["message_id"]) for row in rows}),
    ]


def _taken(folder: Path) -> Counter[str]:
    """How often the server took each message, by the left side of the Message-ID."""
    parser = email.parser.BytesHeaderParser(policy=email.policy.default)
    return Counter(str(parser.parsebytes(path.read_bytes())["Message-ID"]).strip("<>").split("@")[0] for path in folder.glob("*.eml"))
