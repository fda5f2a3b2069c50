"""End sessions whose client stopped in the midst of a batch of statements: they hold locks, and the server waits for them for ever.

`idle_in_transaction_session_timeout` ends a session that is silent between two statements. One that has sent some rows of
an `executemany` and no end of it counts as active, and no timeout of PostgreSQL 15 to 16 runs for it; keepalive probes are
answered for a process that is frozen, or by a proxy in between. So the workers of the service end such sessions themselves.
"""

import logging

from shared.chassis.database import LOCKS_KEPT, Pool, connection, statement_limit

log = logging.getLogger(__name__)

# A COPY says nothing of its progress here; whoever began it has given it up when it has lasted as long as a statement may.
_END = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
  AND state = 'active' AND wait_event = 'ClientRead'
  AND state_change < clock_timestamp() - make_interval(secs => CASE WHEN query ~* '^\\s*copy' THEN $2::float ELSE $1 END)
"""


async def end_abandoned(pool: Pool, takeover_s: float) -> int:
    """End the service's sessions that have waited for their client in mid-batch for as long as locks are kept, or a COPY may last.

    Args:
        pool: the service's.
        takeover_s: after this silence others take over, seconds.

    Returns:
        How many there were.
    """
    async with connection(pool) as link:
        ended = int(await link.fetchval(_END, takeover_s * LOCKS_KEPT, statement_limit(takeover_s)))
    if ended:
        log.warning("ended sessions that were silent in mid-batch", extra={"sessions": ended})
    return ended
