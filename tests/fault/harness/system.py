"""The system under fault: three brokers, PostgreSQL, a mail server and the four services as processes that may be hurt.

Everything lies in `.stack-test/fault-system`, on ports of its own, and is made anew for each pytest session. The services
reach brokers and database by `Doors`; the harness itself always goes straight to the servers, so that what it sees is true.
"""

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from deploy import topics
from deploy.local import kafka, postgres, prepare, processes, services
from deploy.local import secrets as stack_secrets
from deploy.local.layout import REPOSITORY, SERVICES, Layout
from tests.fault.harness import stacks, witness
from tests.fault.harness.nursery import Nursery
from tests.fault.harness.proxy import Proxy, routes
from tests.fault.harness.servers import Doors, Servers
from tests.fault.harness.stories import COURSES
from tests.support.infrastructure import SHIFT
from tests.support.processes import PSEUDONYM_KEY, ServiceProcess

LAYOUT = Layout(REPOSITORY / ".stack-test" / "fault-system", SHIFT - 8500)
"""Below the ports that the machine gives to outgoing connections: a server that is started again must find its own free."""

TAKEOVER_S = 1.5
"""After this silence others take over, seconds: short, so that a run need not wait long."""

API = 0
"""The replica that is a service's API; workers count from 1."""

MOST_WORKERS = 8
"""Workers a fault may start of one service."""

WITH_API = ("enrollment", "reporting")
"""Services whose API a run uses; that of the others is not started."""

_PREPARE = ("tests.fault.harness.impatient:looking_soon", stacks.ON_SIGNAL)
"""Called in every process: it lets nobody wait, and tells what it waits for."""

TRUST = ssl.create_default_context()
"""Nobody speaks TLS here, but each client without it would read all authorities of the machine again."""

Replica = tuple[str, int]
"""A process of a service: (service, number)."""


@dataclass
class System(Servers):
    """The running system.

    Attributes:
        proxy: what stands between services and servers, while the system runs.
        workers: workers of each service.
        courses: what the course register holds: course sets by code.
        processes: the living and the dead, by (service, replica).
    """

    proxy: Proxy | None = None
    workers: int = 2
    courses: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(COURSES))
    processes: dict[Replica, ServiceProcess] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    """Further environment of every process that is started from now on."""
    _nurseries: dict[str, Nursery] = field(default_factory=dict)

    # Where everything is.

    @property
    def replicas(self) -> list[Replica]:
        """Every worker that belongs to the system."""
        return [(service, number) for service in SERVICES for number in range(1, self.workers + 1)]

    @property
    def mails(self) -> Path:
        """Where the mail server keeps what it took, a file each."""
        return self.layout.root / "mails"

    def api_url(self, service: str) -> str:
        """Where a service's API answers."""
        return f"http://127.0.0.1:{self.layout.api_port(service)}"

    def http(self) -> httpx.AsyncClient:
        """A client that every API lets in."""
        return httpx.AsyncClient(headers={"Authorization": f"Bearer {stack_secrets.of(self.layout).api_key}"}, timeout=5, verify=TRUST)

    # Whole.

    async def start(self) -> None:
        """Servers, schemas, registers, services; everything fresh."""
        await self.start_servers()
        self.start_services()
        await self.ready()
        await self.put_courses(self.courses)

    async def start_servers(self) -> None:
        """Everything but the services, fresh."""
        await asyncio.to_thread(_end_services, self.layout)
        await asyncio.to_thread(self.wipe)
        await asyncio.gather(
            asyncio.to_thread(postgres.start, self.layout), *(asyncio.to_thread(kafka.start_node, self.layout, node) for node in self.brokers)
        )
        await asyncio.gather(topics.create(self.bootstrap_servers), prepare.everything(self.layout))
        for service in SERVICES:
            self._nurseries[service] = Nursery(service, self.layout.logs / f"nursery-{service}.log")
            async with self.database(service) as connection:
                await witness.install(connection, service)
        if self.doors != Doors.straight(self.layout, self.brokers):
            self.proxy = await asyncio.to_thread(Proxy, routes(self.layout))
        mail = services.table(self.layout)[0]
        await asyncio.to_thread(processes.start, self.layout, mail)

    async def stop(self) -> None:
        """End everything; nothing is kept but the logs."""
        for process in list(self.processes.values()):
            if process.alive:
                process.wake()
                process.child.kill()
        for process in list(self.processes.values()):
            await asyncio.to_thread(process.child.wait, 10)
        self.processes.clear()
        for nursery in self._nurseries.values():
            nursery.close()
        self._nurseries.clear()
        if self.proxy is not None:
            await asyncio.to_thread(self.proxy.close)
            self.proxy = None
        self.end_connections()
        await asyncio.to_thread(self.end_servers)

    def start_services(self) -> None:
        """Every process that belongs to the system, none other, as it is meant to be."""
        self.processes.clear()
        for service, number in [*self.replicas, *((service, API) for service in WITH_API)]:
            self.start_replica(service, number)

    async def ready(self, within: float = 90.0) -> None:
        """Until every process is ready."""
        await asyncio.gather(*(process.wait_ready(within) for process in self.processes.values() if process.alive))

    async def heal(self, *, services: bool = True) -> None:
        """Whatever a fault left dead or frozen lives again: servers, then services."""
        for node in self.brokers:
            self.wake_broker(node)
            await asyncio.to_thread(self.start_broker, node)
        await asyncio.to_thread(postgres.start, self.layout)
        for (service, number), process in list(self.processes.items()) if services else ():
            if process.alive:
                process.wake()
            elif number <= self.workers:
                self.start_replica(service, number)

    async def put_courses(self, courses: Mapping[str, tuple[str, ...]]) -> None:
        """Enter courses in the register, over HTTP as its users do."""
        async with self.http() as http:
            for code, sets in courses.items():
                entry = {"title": f"Khóa học {code}", "launched_by": "BKHCN", "course_sets": list(sets)}
                answer = await http.put(f"{self.api_url('enrollment')}/v1/registers/courses/{code}", json=entry)
                answer.raise_for_status()
        self.courses.update(courses)

    # Services.

    def start_replica(self, service: str, number: int, env: Mapping[str, str] | None = None, prepare: Sequence[str] = ()) -> ServiceProcess:
        """Fork a process of a service. A worker has a witness in it; what an API redrives was set aside by a worker, and is applied by right.

        Args:
            service: which.
            number: API or the number of a worker.
            env: besides the usual, for example a crash point.
            prepare: each `module:function` is called there before the service runs, for example one that removes a guard.
        """
        role, prefix = "api" if self.is_api(number) else "worker", service.upper()
        port = self.port(service, number)
        told = {
            **services.service_env(self.layout, service, role), **self._addresses(service), "PATH": os.environ["PATH"],
            f"{prefix}_HTTP_PORT": str(port), f"{prefix}_INSTANCE": f"{service}-{number}", **self.env, **(env or {}),
        }  # fmt: skip
        log = self.layout.logs / f"{service}-{role}-{port}.log"
        watched = [] if role == "api" else [witness.WATCH]
        child = self._nurseries[service].bear(role, told, log, [*watched, *_PREPARE, *prepare])
        self.processes[service, number] = ServiceProcess(f"{service}-{role}-{number}", port, log, child)
        return self.processes[service, number]

    async def write_stacks(self, service: str) -> str:
        """Let the processes of a service write into their logs what they wait for; which of them live."""
        found = []
        for (owner, _), process in self.processes.items():
            if owner == service:
                process.child.send_signal(stacks.WISH)
                found.append(f"{process.name} (pid {process.child.pid}) {'lives' if process.alive else f'ended with {process.child.poll()}'}")
        await asyncio.sleep(stacks.WRITTEN_S)
        return ", ".join(found)

    def is_api(self, number: int) -> bool:
        """Whether a replica of this number is an API."""
        return number == API

    def port(self, service: str, number: int) -> int:
        """Where a replica listens."""
        return self.layout.api_port(service) if number == API else self.layout.worker_port(service) + 10 * number

    def process(self, service: str, number: int) -> ServiceProcess:
        """A process, alive or dead."""
        return self.processes[service, number]

    async def restart(self, service: str, number: int, *, wait: bool = False) -> None:
        """Start a replica that has ended again."""
        process = self.start_replica(service, number)
        if wait:
            await process.wait_ready()

    def _addresses(self, service: str) -> dict[str, str]:
        prefix = service.upper()
        dsn = postgres.dsn(self.layout, service, service).replace(f"127.0.0.1:{self.layout.postgres_port}", self.doors.database_address)
        env = {
            f"{prefix}_KAFKA_BOOTSTRAP_SERVERS": ",".join(self.doors.kafka_servers),
            f"{prefix}_DATABASE_URL": dsn,
            f"{prefix}_TAKEOVER_S": f"{TAKEOVER_S:g}",
        }
        if service == "enrollment":
            env["ENROLLMENT_PSEUDONYM_KEY"] = PSEUDONYM_KEY
        if service == "notifications":
            # A mail whose answer was lost is tried again while a run waits for it.
            env |= {
                "NOTIFICATIONS_SMTP_PORT": str(self.doors.mail_port), "NOTIFICATIONS_SMTP_TIMEOUT_S": "0.9", "NOTIFICATIONS_DELIVERY_LEASE_S": "2",
            }  # fmt: skip
        return env

    async def command(self, service: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of a service, as an operator would; what it said, errors included."""
        env = {**os.environ, **services.service_env(self.layout, service, "worker"), **self._addresses(service)}
        told = [sys.executable, "-m", f"services.{service}.main", *words]
        return await asyncio.to_thread(
            subprocess.run, told, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
        )


def _end_services(layout: Layout) -> None:
    """End services of this system that a killed session left: programs of this tree that listen on a port of ours."""
    ports = {str(layout.api_port(service)) for service in SERVICES}
    ports |= {str(layout.worker_port(service) + 10 * number) for service in SERVICES for number in range(1, MOST_WORKERS + 1)}
    names = [f"{service.upper()}_HTTP_PORT" for service in SERVICES]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(REPOSITORY) and ports & {process.environ().get(name, "") for name in names}:
                process.kill()
