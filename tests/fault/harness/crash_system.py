"""A system whose services obey orders to die or to freeze at crash points."""

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deploy.local import secrets as stack_secrets
from deploy.local.layout import REPOSITORY, SERVICES, Layout
from shared.chassis.crash_points import ALLOWED, VARIABLE
from tests.fault.harness.servers import Doors
from tests.fault.harness.system import API, TRUST, WITH_API, System
from tests.support.infrastructure import SHIFT
from tests.support.processes import ServiceProcess

LAYOUT = Layout(REPOSITORY / ".stack-test" / "fault-crash", SHIFT - 10_500)
"""Below the ports that the machine gives to outgoing connections: a process that is started again must find its own free."""

TAKEOVER_S = 1.0
"""After this silence others take over, seconds: the least there is, because every run waits for it."""

ANSWER_S = 1.5
"""A request without an answer after this is sent again to the other replica, seconds."""

STARTS = 3
"""How often a process is started that does not become ready."""

SECOND_API = -1
"""The other replica of an API; workers count from 1."""

_SECOND_API_PORT = 40
"""How far its port is above the first one's."""


class Order:
    """One order to a service: whoever of its processes reaches the point first dies or freezes there."""

    _numbers = itertools.count(1)

    def __init__(self, folder: Path, deed: str, point: str) -> None:
        self._folder = folder
        for old in folder.glob("obeyed-*"):
            old.unlink()
        fresh = folder / "fresh"
        fresh.write_text(f"{next(self._numbers)}\n{deed}\n1\n{point}", "utf-8")
        fresh.rename(folder / "order")

    @property
    def obeyed_by(self) -> int | None:
        """Pid of the process that obeyed; None while nobody has."""
        return next((int(path.name.removeprefix("obeyed-")) for path in self._folder.glob("obeyed-*")), None)

    @property
    def is_over(self) -> bool:
        """Whether somebody has obeyed, or nobody is to obey any more."""
        return not (self._folder / "order").exists()

    def withdraw(self) -> None:
        """Take it away."""
        (self._folder / "order").unlink(missing_ok=True)


@dataclass
class CrashSystem(System):
    """The system of `system.py` on one broker, with two APIs where a service has one and is given replicas.

    Attributes:
        prepare: what is called in every process of a service before the service runs, besides the witness.
        trace: file of the trace; while it is set, processes that start trace instead of obeying orders.
    """

    layout: Layout = LAYOUT
    doors: Doors = field(default_factory=lambda: Doors.straight(LAYOUT, (1,)))
    workers: int = 1
    brokers: tuple[int, ...] = (1,)
    prepare: dict[str, Sequence[str]] = field(default_factory=dict)
    trace: Path | None = None
    _turn: "Iterator[int]" = field(default_factory=itertools.count)

    async def start_servers(self) -> None:
        """And folders of orders."""
        await super().start_servers()
        for service in SERVICES:
            (self.layout.root / "orders" / service).mkdir(parents=True)

    def start_replica(self, service: str, number: int, env: Mapping[str, str] | None = None, prepare: Sequence[str] = ()) -> ServiceProcess:
        """As in the base class; it obeys orders, and what the system itself is told to `prepare` is done as well."""
        told = {
            f"{service.upper()}_TAKEOVER_S": f"{TAKEOVER_S:g}",
            VARIABLE: f"trace:{self.trace}" if self.trace else f"orders:{self.layout.root / 'orders' / service}", ALLOWED: "yes",
        }  # fmt: skip
        return super().start_replica(service, number, {**told, **(env or {})}, [*self.prepare.get(service, ()), *prepare])

    def is_api(self, number: int) -> bool:
        """One of the two."""
        return number in (API, SECOND_API)

    def port(self, service: str, number: int) -> int:
        """The second API has one of its own."""
        return self.layout.api_port(service) + _SECOND_API_PORT if number == SECOND_API else super().port(service, number)

    def api_url(self, service: str) -> str:
        """One of the service's APIs, another each time it is asked; so a platform that gets no answer asks the other."""
        there = [number for number in (API, SECOND_API) if (service, number) in self.processes]
        return self.process(service, there[next(self._turn) % len(there)]).url

    def http(self) -> httpx.AsyncClient:
        """A client that does not wait for a frozen process."""
        return httpx.AsyncClient(headers={"Authorization": f"Bearer {stack_secrets.of(self.layout).api_key}"}, timeout=ANSWER_S, verify=TRUST)

    def order(self, deed: str, point: str) -> Order:
        """Lay an order down."""
        return Order(self.layout.root / "orders" / point.split("/")[0], deed, point)

    def numbers(self, service: str, replicas: int) -> list[int]:
        """Numbers of the processes of a service that has so many replicas."""
        apis = [API, SECOND_API][:replicas] if service in WITH_API else []
        return [*range(1, replicas + 1), *apis]

    async def have(self, service: str, replicas: int) -> None:
        """Bring a service to so many living replicas, and wait until all are ready."""
        for _, number in [place for place in self.processes if place[0] == service and place[1] not in self.numbers(service, replicas)]:
            self.processes.pop((service, number)).kill()
        await asyncio.gather(*(self.ensure(service, number) for number in self.numbers(service, replicas)))

    async def ensure(self, service: str, number: int) -> None:
        """Have a replica that is ready; one that does not get so far, because its port is taken for example, is started again."""
        for left in reversed(range(STARTS)):
            process = self.processes.get((service, number))
            if process is None or not process.alive:
                process = self.start_replica(service, number)
            try:
                await process.wait_ready()
            except AssertionError:
                if not left:
                    raise
            else:
                return

    def end_all(self, *services_: str) -> None:
        """SIGKILL every process, or every process of these services."""
        for place in [place for place in self.processes if not services_ or place[0] in services_]:
            self.processes.pop(place).kill()
