"""Guards against the database server taken away."""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import asyncpg

from shared.chassis import database


def keeping_locks() -> None:
    """No guard but patience: a process that is frozen inside a transaction keeps its locks until a test wakes it."""
    mock.patch.object(database, "LOCKS_KEPT", 30).start()


def without_synchronous_commit() -> None:
    """A commit is answered before it is on the disk, and nobody insists that it must not be."""
    create = asyncpg.create_pool

    def unsafe(*args: Any, server_settings: Mapping[str, str], **kwargs: Any) -> Any:
        return create(*args, server_settings={**server_settings, "synchronous_commit": "off"}, **kwargs)

    mock.patch.object(asyncpg, "create_pool", unsafe).start()
    mock.patch.object(database, "insist_on_durability").start()
