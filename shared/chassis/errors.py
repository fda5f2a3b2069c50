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


class MustNotWork(Exception):
    """The service refuses to work until a person has mended what the text says; it looks again by itself."""


class UnsafeSettings(MustNotWork):
    """With these settings of a server data could be lost."""


class NameTaken(MustNotWork):
    """Another process works under this one's name."""


PASSING = (
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
    MustNotWork,
)
"""What passes by itself, or once a person has mended something outside."""


def is_transient(error: BaseException) -> bool:
    """Whether waiting and trying again can help: lost connections, restarts, full disks, deadlocks, time-outs, settings that a person mends."""
    if isinstance(error, asyncpg.InterfaceError):
        # The same class tells of a lost connection and of a wrong argument; only the former passes.
        return not isinstance(error, asyncpg.DataError) and ("closed" in str(error) or "released" in str(error))
    if isinstance(error, asyncpg.InternalClientError):
        # Whoever is given a connection between the server's last word on it and its end is told this; two who use one at once
        # are told an InterfaceError.
        return "cannot switch to" in str(error)
    return isinstance(error, PASSING)
