"""Brokers, PostgreSQL and mail server of the system under fault, as servers that may be hurt."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import psutil

from deploy.local import kafka, postgres, postgres_folders, processes, services
from deploy.local import secrets as stack_secrets
from deploy.local.layout import REPOSITORY, Layout
from tests.fault.harness.proxy import BEHIND
from tests.support.infrastructure import Infrastructure

BROKERS = (1, 2, 3)

KEPT_LOGS = REPOSITORY / ".stack" / "fault-logs"
"""Logs of runs that failed, a folder each."""

_GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""How a session that ended meanwhile is noticed."""


@dataclass(frozen=True)
class Doors:
    """Where the services find brokers and database: the servers themselves, or a proxy before them.

    Attributes:
        kafka_servers: bootstrap addresses.
        database_address: host:port.
    """

    kafka_servers: tuple[str, ...]
    database_address: str
    mail_port: int

    @classmethod
    def straight(cls, layout: Layout, brokers: Sequence[int] = BROKERS) -> "Doors":
        """No proxy."""
        return cls(tuple(f"127.0.0.1:{layout.kafka_port(node)}" for node in brokers), f"127.0.0.1:{layout.postgres_port}", layout.mail_port)

    @classmethod
    def behind_proxy(cls, layout: Layout) -> "Doors":
        """Everything passes the proxy, in all runs alike."""
        kafka_servers = tuple(f"127.0.0.1:{layout.kafka_port(node) + BEHIND}" for node in BROKERS)
        return cls(kafka_servers, f"127.0.0.1:{layout.postgres_port + BEHIND}", layout.mail_port + BEHIND)


@dataclass
class Servers:
    """The servers of a stack.

    Attributes:
        layout: folder and ports.
        doors: where the services find them.
        brokers: numbers of the Kafka nodes: three, or one where no broker is hurt.
    """

    layout: Layout
    doors: Doors
    brokers: tuple[int, ...] = BROKERS
    _idle: "dict[str, list[asyncpg.Connection[asyncpg.Record]]]" = field(default_factory=dict)
    _within: "dict[str, asyncpg.Connection[asyncpg.Record]]" = field(default_factory=dict)

    @property
    def bootstrap_servers(self) -> list[str]:
        """Straight to the brokers."""
        return [f"127.0.0.1:{self.layout.kafka_port(node)}" for node in self.brokers]

    @asynccontextmanager
    async def database(self, service: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
        """A connection of the superuser, straight to the server."""
        if service in self._within:
            yield self._within[service]
            return
        connection = await self._idle_connection(service) or await self._connect(service)
        try:
            yield connection
        finally:
            if connection.is_in_transaction():
                connection.terminate()  # it holds locks
            else:
                self._idle.setdefault(service, []).append(connection)

    async def _connect(self, service: str) -> "asyncpg.Connection[asyncpg.Record]":
        # Tables are changed, moved and replaced under it, so no statement is kept.
        return await asyncpg.connect(postgres.dsn(self.layout, service), timeout=10, command_timeout=60, statement_cache_size=0)

    async def _idle_connection(self, service: str) -> "asyncpg.Connection[asyncpg.Record] | None":
        """One that was used before and still lives. A run asks a thousand times, and each new session costs the server a process."""
        while waiting := self._idle.get(service):
            connection = waiting.pop()
            try:
                await connection.reset(timeout=5)
            except BaseException as error:
                connection.terminate()
                if not isinstance(error, _GONE):
                    raise
            else:
                return connection
        return None

    def end_connections(self) -> None:
        """Whoever asks next connects anew."""
        for connection in [one for idle in self._idle.values() for one in idle]:
            connection.terminate()
        self._idle.clear()

    @asynccontextmanager
    async def within(self, service: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
        """For damage by hand: what is done on this connection is seen by whoever asks `database` meanwhile, and then never was."""
        async with self.database(service) as connection:
            transaction = connection.transaction()
            await transaction.start()
            self._within[service] = connection
            try:
                yield connection
            finally:
                del self._within[service]
                await transaction.rollback()

    def broker_pid(self, node: int) -> int | None:
        """The pid of a living broker."""
        return processes.pid_of(self.layout, f"kafka-{node}")

    def kill_broker(self, node: int) -> None:
        """SIGKILL."""
        self._signal_broker(node, signal.SIGKILL)
        processes.stop(self.layout, [f"kafka-{node}"])

    def stop_broker(self, node: int) -> None:
        """SIGTERM, and wait."""
        processes.stop(self.layout, [f"kafka-{node}"])

    def freeze_broker(self, node: int) -> None:
        """SIGSTOP."""
        self._signal_broker(node, signal.SIGSTOP)

    def wake_broker(self, node: int) -> None:
        """SIGCONT."""
        self._signal_broker(node, signal.SIGCONT)

    def start_broker(self, node: int) -> None:
        """Start it unless it lives."""
        if self.broker_pid(node) is None:
            kafka.start_node(self.layout, node)

    def _signal_broker(self, node: int, wanted: signal.Signals) -> None:
        pid = self.broker_pid(node)
        if pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).send_signal(wanted)

    async def kill_database(self) -> None:
        """SIGKILL the server and its children."""
        await asyncio.to_thread(Infrastructure(self.layout).kill_postgres)

    async def start_database(self) -> None:
        """Start it; returns when it has recovered."""
        await asyncio.to_thread(postgres.start, self.layout)

    # Whole.

    def keep_logs(self, name: str) -> None:
        """Put the logs where the next system does not overwrite them."""
        kept = KEPT_LOGS / name
        shutil.rmtree(kept, ignore_errors=True)
        if self.layout.logs.is_dir():  # a system that did not start may have none
            shutil.copytree(self.layout.logs, kept)

    def wipe(self) -> None:
        """Remove what an earlier session left of them."""
        self.end_servers()
        postgres_folders.remove(self.layout)
        shutil.rmtree(self.layout.root, ignore_errors=True)
        self.layout.logs.mkdir(parents=True)
        for node in self.brokers:
            # Their number is how a stack remembers how many brokers it has.
            (self.layout.root / "kafka" / str(node)).mkdir(parents=True)
        stack_secrets.of(self.layout)

    def end_servers(self) -> None:
        """SIGKILL for those that keep nothing."""
        processes.stop(self.layout, [*(f"kafka-{node}" for node in BROKERS), services.MAIL], signal.SIGKILL)
        postgres.stop(self.layout)
