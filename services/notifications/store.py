"""The tables of notifications: recipients, messages (the in-app ledger) and their deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.notifications.domain import Recipient, State
from shared.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one office; writing it is the in-app delivery."""

    message_id: UUID
    rule: str
    subject: str
    recipient: str
    title: str
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this process may carry out until its lease ends."""

    message_id: UUID
    address: str
    title: str
    body: str
    created_at: datetime
    attempts: int
    lost_answers: int
    token: int


_RECIPIENTS = "SELECT recipient, name_vi, scope, address FROM recipient ORDER BY recipient"


async def recipients(tx: Tx) -> list[Recipient]:
    """Every office."""
    return [Recipient(*row) for row in await tx.fetch(_RECIPIENTS)]


_PUT_RECIPIENTS = """
INSERT INTO recipient (recipient, name_vi, scope, address)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS told (recipient, name_vi, scope, address)
ON CONFLICT (recipient) DO UPDATE SET name_vi = excluded.name_vi, scope = excluded.scope, address = excluded.address
WHERE (recipient.name_vi, recipient.scope, recipient.address) IS DISTINCT FROM (excluded.name_vi, excluded.scope, excluded.address)
"""


async def put_recipients(tx: Tx, offices: Sequence[Recipient]) -> int:
    """Enter or change offices; returns how many were new or different."""
    done = await tx.execute(
        _PUT_RECIPIENTS,
        [office.recipient for office in offices],
        [office.name_vi for office in offices],
        [office.scope for office in offices],
        [office.address for office in offices],
    )
    return int(done.rpartition(" ")[2])


_ADD = """
INSERT INTO message (message_id, rule, subject, recipient, title, body, created_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
    AS told (message_id, rule, subject, recipient, title, body, created_at)
ORDER BY message_id
ON CONFLICT ON CONSTRAINT message_once DO NOTHING
RETURNING message_id
"""

_ADD_DELIVERIES = """
INSERT INTO delivery (message_id, channel, state, next_attempt_at)
SELECT message_id, 'mail', 'pending', $2 FROM unnest($1::uuid[]) AS message_id
"""


async def add(tx: Tx, messages: Sequence[Message]) -> int:
    """Write messages, each once for ever, with a delivery by mail; returns how many were new."""
    if not messages:
        return 0
    rows = await tx.fetch(
        _ADD,
        [message.message_id for message in messages],
        [message.rule for message in messages],
        [message.subject for message in messages],
        [message.recipient for message in messages],
        [message.title for message in messages],
        [message.body for message in messages],
        [message.created_at for message in messages],
    )
    new = [row[0] for row in rows]
    if new:
        await tx.execute(_ADD_DELIVERIES, new, messages[0].created_at)
    return len(new)


# A delivery whose lease ended was being sent by a process that died: its answer counts as lost.
_CLAIM = """
WITH due AS (
    SELECT message_id FROM delivery
    WHERE (state = 'pending' AND next_attempt_at <= clock_timestamp()) OR (state = 'sending' AND lease_until < clock_timestamp())
    ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE delivery
    SET lost_answers = lost_answers + (state = 'sending')::int, state = 'sending', attempts = attempts + 1, token = token + 1,
        lease_until = clock_timestamp() + $2
    FROM due WHERE delivery.message_id = due.message_id
    RETURNING delivery.message_id, attempts, lost_answers, token
)
SELECT claimed.message_id, recipient.address, message.title, message.body, message.created_at, attempts, lost_answers, token
FROM claimed JOIN message USING (message_id) JOIN recipient ON recipient.recipient = message.recipient
ORDER BY message_id
"""


async def claim(tx: Tx, limit: int, lease: timedelta) -> list[Claimed]:
    """Take deliveries that are due, for the length of the lease; nobody else gets them meanwhile."""
    return [Claimed(*row) for row in await tx.fetch(_CLAIM, limit, lease)]


_SETTLE = """
UPDATE delivery
SET state = told.state, reason = told.reason, next_attempt_at = clock_timestamp() + told.pause, lost_answers = told.lost_answers,
    sent_at = CASE WHEN told.state = 'sent' THEN clock_timestamp() END, lease_until = NULL
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::interval[], $6::int[])
    AS told (message_id, token, state, reason, pause, lost_answers)
WHERE delivery.message_id = told.message_id AND delivery.token = told.token
"""


async def settle(tx: Tx, outcomes: Sequence[tuple[Claimed, State, str, timedelta, int]]) -> None:
    """Note what came of claimed deliveries; one whose lease was taken over by another process is left alone."""
    if outcomes:
        await tx.execute(
            _SETTLE,
            [claimed.message_id for claimed, *_ in outcomes],
            [claimed.token for claimed, *_ in outcomes],
            [state for _, state, *_ in outcomes],
            [reason for _, _, reason, *_ in outcomes],
            [pause for *_, pause, _ in outcomes],
            [lost for *_, lost in outcomes],
        )


_UNKNOWN = "SELECT count(*) FROM delivery WHERE state = 'unknown'"


async def unknown(tx: Tx) -> int:
    """Deliveries a person must decide on."""
    return int(await tx.fetchval(_UNKNOWN))


_LEDGER = """
SELECT message_id, rule, subject, message.recipient, title, body, created_at, read_at, delivery.state, delivery.sent_at
FROM message JOIN delivery USING (message_id)
WHERE ($1::text IS NULL OR message.recipient = $1) AND ($2::text IS NULL OR subject = $2)
ORDER BY created_at DESC, message_id LIMIT $3
"""


async def ledger(tx: Tx, recipient: str | None, subject: str | None, limit: int) -> list[dict[str, object]]:
    """The newest messages, of one office or about one subject."""
    return [dict(row) for row in await tx.fetch(_LEDGER, recipient, subject, limit)]


_COUNTS = "SELECT state, count(*) FROM delivery GROUP BY state"


async def counts(tx: Tx) -> dict[str, int]:
    """Deliveries by state."""
    return {row[0]: row[1] for row in await tx.fetch(_COUNTS)}


_READ = "UPDATE message SET read_at = coalesce(read_at, $2) WHERE message_id = $1 RETURNING message_id"


async def mark_read(tx: Tx, message_id: UUID, at: datetime) -> bool:
    """Note that an office has read a message; False when there is none."""
    return await tx.fetchval(_READ, message_id, at) is not None
