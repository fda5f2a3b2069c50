"""Work that one process at a time should do: a row that is held for a few seconds and renewed."""

import uuid
from datetime import timedelta

from shared.chassis.database import TAKEOVER_S, Pool, Tx, connection

_ACQUIRE = """
INSERT INTO lease (name, holder, token, expires_at) VALUES ($1, $2, 1, clock_timestamp() + $3)
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, expires_at = excluded.expires_at,
    token = lease.token + (lease.holder <> excluded.holder)::int
WHERE lease.holder = excluded.holder OR lease.expires_at < clock_timestamp()
RETURNING token
"""

_STILL_OURS = "SELECT holder FROM lease WHERE name = $1 AND holder = $2 FOR UPDATE"

_RELEASE = "UPDATE lease SET expires_at = '-infinity' WHERE name = $1 AND holder = $2"


class Lease:
    """The right to do one named thing, for one process of the service at a time.

    It lasts `takeover_s` seconds without renewal. A frozen holder is replaced after this; what it does when it wakes must
    be fenced by other means (the relay: by Kafka's producer epoch; a publisher: by the rows it locks).
    """

    def __init__(self, pool: Pool, name: str, takeover_s: float = TAKEOVER_S) -> None:
        self._pool = pool
        self._name = name
        self._ttl = timedelta(seconds=takeover_s)
        self._holder = str(uuid.uuid4())

    async def acquire(self) -> bool:
        """Take or renew the lease. False while another process holds it."""
        async with connection(self._pool) as tx:
            return await tx.fetchval(_ACQUIRE, self._name, self._holder, self._ttl) is not None

    async def still_ours(self, tx: Tx) -> bool:
        """Whether nobody took the lease over; who wants to waits until this transaction ends."""
        return await tx.fetchval(_STILL_OURS, self._name, self._holder) is not None

    async def release(self) -> None:
        """Give the lease back at once, so that a successor need not wait for it to expire."""
        async with connection(self._pool) as tx:
            await tx.execute(_RELEASE, self._name, self._holder)
