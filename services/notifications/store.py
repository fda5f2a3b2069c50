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
    address: str | None
    title: str
    body: str
    created_at: datetime
    attempts: int
    lost_answers: int
    token: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a claimed delivery; `pause` until it is due again, where it is pending."""

    claimed: Claimed
    state: State
    reason: str
    pause: timedelta
    lost_answers: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the deliveries shows: whether one is due, how many a person must decide on, how long the oldest waits."""

    due: bool
    unknown: int
    oldest_waiting_s: float


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


_DROP_OTHERS = "DELETE FROM recipient WHERE NOT recipient = ANY($1::text[])"


async def drop_others(tx: Tx, recipients: Sequence[str]) -> int:
    """Forget all offices but these; returns how many. Their messages stay, what was not delivered yet is not sent any more."""
    return int((await tx.execute(_DROP_OTHERS, list(recipients))).rpartition(" ")[2])


_ADD = """
INSERT INTO message (message_id, rule, subject, recipient, title, body, created_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
    AS told (message_id, rule, subject, recipient, title, body, created_at)
ORDER BY message_id
ON CONFLICT DO NOTHING
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


_LOOK = """
SELECT
    EXISTS (
        SELECT 1 FROM delivery
        WHERE (state = 'pending' AND next_attempt_at <= clock_timestamp()) OR (state = 'sending' AND lease_until < clock_timestamp())
    ) AS due,
    (SELECT count(*) FROM delivery WHERE state = 'unknown') AS unknown,
    (
        SELECT coalesce(extract(epoch FROM clock_timestamp() - min(message.created_at)), 0)::float
        FROM delivery JOIN message USING (message_id) WHERE state IN ('pending', 'sending')
    ) AS oldest_waiting_s
"""


async def look(tx: Tx) -> Seen:
    """The deliveries as a whole."""
    row = await tx.fetchrow(_LOOK)
    return Seen(*row) if row else Seen(due=False, unknown=0, oldest_waiting_s=0.0)


# A delivery whose lease ended was being sent by a process that died: its answer counts as lost.
_CLAIM = """
WITH due AS (
    SELECT message_id FROM delivery
    WHERE (state = 'pending' AND next_attempt_at <= clock_timestamp()) OR (state = 'sending' AND lease_until < clock_timestamp())
    ORDER BY next_attempt_at, message_id LIMIT 1 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE delivery
    SET lost_answers = lost_answers + (state = 'sending')::int, state = 'sending', attempts = attempts + 1, token = token + 1,
        lease_until = clock_timestamp() + $1
    FROM due WHERE delivery.message_id = due.message_id
    RETURNING delivery.message_id, attempts, lost_answers, token
)
SELECT claimed.message_id, recipient.address, message.title, message.body, message.created_at, attempts, lost_answers, token
FROM claimed JOIN message USING (message_id) LEFT JOIN recipient ON recipient.recipient = message.recipient
"""


async def claim(tx: Tx, lease: timedelta) -> Claimed | None:
    """Take the delivery that is longest due, for the length of the lease; nobody else gets it meanwhile."""
    row = await tx.fetchrow(_CLAIM, lease)
    return Claimed(*row) if row else None


_SETTLE = """
UPDATE delivery
SET state = $3, reason = $4, next_attempt_at = clock_timestamp() + $5, lost_answers = $6,
    sent_at = CASE WHEN $3 = 'sent' THEN clock_timestamp() END, lease_until = NULL
WHERE message_id = $1 AND token = $2 AND state = 'sending'
"""


async def settle(tx: Tx, settled: Settled) -> None:
    """Note what came of a claimed delivery; one whose lease was taken over by another process is left alone."""
    claimed = settled.claimed
    await tx.execute(_SETTLE, claimed.message_id, claimed.token, settled.state, settled.reason, settled.pause, settled.lost_answers)


_DECIDE = """
UPDATE delivery SET state = $2, reason = $3, lost_answers = 0, attempts = 0, next_attempt_at = clock_timestamp()
WHERE message_id = $1 AND state IN ('unknown', 'failed')
"""


async def decide(tx: Tx, message_id: UUID, state: State, reason: str) -> bool:
    """A person's word on a delivery that is unknown or failed; False when there is none such."""
    return (await tx.execute(_DECIDE, message_id, state, reason)).endswith(" 1")


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
