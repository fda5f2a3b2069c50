"""What passes by itself, told from what does not."""

import asyncpg
import pytest

from shared.chassis.errors import is_transient

# Where one class of the driver tells of both, by its words.
PASSES = [
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InterfaceError("cannot call Connection.fetch(): connection has been released back to the pool"),
    asyncpg.InternalClientError('cannot switch to state 11; protocol is in the "failed" state'),
    asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
    asyncpg.AdminShutdownError("terminating connection due to administrator command"),
    asyncpg.DeadlockDetectedError("deadlock detected"),
    asyncpg.DiskFullError("could not extend file"),
    ConnectionResetError(),
    TimeoutError(),
]

STAYS = [
    asyncpg.InterfaceError("the server expects 1 argument for this query, 2 were passed"),
    asyncpg.DataError("invalid input for query argument $1: 'x' (an integer is required)"),
    asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
    asyncpg.InternalClientError("no binary format encoder for type point (OID 600)"),
    asyncpg.UniqueViolationError("duplicate key value violates unique constraint"),
    asyncpg.UndefinedColumnError('column "x" does not exist'),
    ValueError(),
]


@pytest.mark.parametrize("error", PASSES, ids=repr)
def test_what_passes(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", STAYS, ids=repr)
def test_what_stays(error: Exception) -> None:
    assert not is_transient(error)
