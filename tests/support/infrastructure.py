"""The test stack: a real Kafka and a real PostgreSQL in a folder and on ports of their own, and the means to hurt them."""

import fcntl
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import asyncpg
import psutil

from deploy.local import kafka, postgres, processes
from deploy.local.layout import REPOSITORY, Layout

SHIFT = int(os.environ.get("TEST_PORT_SHIFT", "0"))
"""Added to every port of the tests' stacks, so that two clones can be tested side by side (7000, 14000 and so on)."""

LAYOUT = Layout(REPOSITORY / ".stack-test", SHIFT + 1000)
"""Where the test stack lies."""


@dataclass(frozen=True)
class Infrastructure:
    """The running servers."""

    layout: Layout

    @property
    def bootstrap_servers(self) -> list[str]:
        return self.layout.bootstrap_servers(1)

    async def create_database(self) -> tuple[str, str]:
        """A fresh database; its name and address."""
        name = f"t_{secrets.token_hex(6)}"
        connection = await asyncpg.connect(postgres.dsn(self.layout))
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        return name, postgres.dsn(self.layout, name)

    async def drop_database(self, name: str) -> None:
        connection = await asyncpg.connect(postgres.dsn(self.layout))
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    def kill_postgres(self) -> None:
        """SIGKILL the server and its children, as a machine that loses power would."""
        pid = processes.pid_of(self.layout, postgres.NAME)
        assert pid is not None
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)

    def start_postgres(self) -> None:
        postgres.start(self.layout)

    def kill_kafka(self) -> None:
        pid = processes.pid_of(self.layout, "kafka-1")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        processes.stop(self.layout, ["kafka-1"])

    def start_kafka(self) -> None:
        kafka.start_node(self.layout, 1)


_using: list[IO[bytes]] = []
"""The open file whose shared lock says that this run uses the test stack."""


def start() -> Infrastructure:
    """Start what is not running. Several runs side by side share one test stack."""
    with _alone():
        users = (LAYOUT.root / "users.lock").open("ab")
        fcntl.flock(users, fcntl.LOCK_SH)
        _using.append(users)
        postgres.start(LAYOUT)
        kafka.start(LAYOUT)
    return Infrastructure(LAYOUT)


def stop() -> None:
    """Stop the servers unless another run still uses them."""
    with _alone():
        while _using:
            _using.pop().close()
        with (LAYOUT.root / "users.lock").open("ab") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            processes.stop(LAYOUT, ["kafka-1"])
            postgres.stop(LAYOUT)


@contextmanager
def _alone() -> Iterator[None]:
    """One run at a time starts or stops servers."""
    LAYOUT.root.mkdir(parents=True, exist_ok=True)
    with (LAYOUT.root / "starting.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
