"""What can go wrong while records are applied, and which of it passes by itself."""

import asyncio

import asyncpg


class Rejected(Exception):
    """This record will never work.

    Attributes:
        reason: a closed code for people and metrics, for example `schema_violation`.
        detail: what is wrong, without the values of any field.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Transient(Exception):
    """This may work later; nothing was changed."""


class Fenced(Exception):
    """Another process has applied these records, or has taken the partition over."""


class UnsafeSettings(Exception):
    """The service refuses to start, because these settings could lose data."""


_PASSING = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresIOError,
    asyncpg.InvalidCachedStatementError,
    ConnectionError,
    asyncio.TimeoutError,
    OSError,
    Transient,
)


def is_transient(error: BaseException) -> bool:
    """Whether waiting and trying again can help: lost connections, restarts, full disks, deadlocks, time-outs."""
    if isinstance(error, asyncpg.InterfaceError):
        # The same class tells of a lost connection and of a wrong argument; only the former passes.
        return not isinstance(error, asyncpg.DataError) and ("closed" in str(error) or "released" in str(error))
    return isinstance(error, _PASSING)
