"""Bring the stack up and down: infrastructure, topics, migrations, registers, services; each step says what it did."""

import asyncio
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from deploy.local import kafka, postgres, prepare, processes
from deploy.local import secrets as stack_secrets
from deploy.local.layout import KAFKA_VERSION, REPOSITORY, SERVICES, SETTINGS, Layout, Refusal
from deploy.local.processes import Process
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import TOPICS

FREE_BYTES = 1_073_741_824
"""Least free disk space to start with, bytes."""

READY_S = 60.0
"""Longest wait for a service to be ready, seconds."""

WATCH = "watch"
MAIL = "mail"


def read_settings() -> dict[str, str]:
    """The settings file: KEY=VALUE lines, `#` begins a comment line."""
    lines = [line.strip() for line in SETTINGS.read_text("utf-8").splitlines()]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def service_env(layout: Layout, service: str, role: str) -> dict[str, str]:
    """The environment of one process of a service."""
    found, prefix = stack_secrets.of(layout), service.upper()
    env = {
        f"{prefix}_KAFKA_BOOTSTRAP_SERVERS": ",".join(layout.bootstrap_servers(kafka.nodes(layout))),
        f"{prefix}_DATABASE_URL": postgres.dsn(layout, service, service),
        f"{prefix}_HTTP_HOST": "127.0.0.1",
        f"{prefix}_HTTP_PORT": str(layout.api_port(service) if role == "api" else layout.worker_port(service)),
        f"{prefix}_API_KEYS": found.api_keys,
    }
    if service == "enrollment":
        env["ENROLLMENT_PSEUDONYM_KEY"] = found.pseudonym_key
    if service == "notifications":
        env |= {"NOTIFICATIONS_SMTP_HOST": "127.0.0.1", "NOTIFICATIONS_SMTP_PORT": str(layout.mail_port)}
    return read_settings() | env


def table(layout: Layout) -> list[Process]:
    """Every process besides broker and database, in the order of starting."""
    mails = layout.root / "mails"
    mail = Process(MAIL, [sys.executable, "-m", "deploy.local.mail", str(layout.mail_port), str(mails)], ports=(layout.mail_port,), cwd=REPOSITORY)
    return [mail, *(_service(layout, service, role) for service in SERVICES for role in ("worker", "api"))]


def _service(layout: Layout, service: str, role: str) -> Process:
    port = layout.api_port(service) if role == "api" else layout.worker_port(service)
    return Process(
        f"{service}-{role}",
        [sys.executable, "-m", f"services.{service}.main", role],
        service_env(layout, service, role),
        (port,),
        f"http://127.0.0.1:{port}/readyz",
        REPOSITORY,
    )


def up(layout: Layout, *, infrastructure_only: bool = False) -> None:
    """Bring everything up that is not; a second call changes nothing, after a kill it repairs.

    Raises:
        Refusal: with what to do; what this call had started is stopped again.
    """
    layout.root.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(layout.root).free < FREE_BYTES:
        raise Refusal("The disk has less than 1 GiB free: make room and run this again.")
    everything = [postgres.NAME, *kafka.names(layout), *(process.name for process in table(layout)), WATCH]
    alive = {name for name in everything if processes.pid_of(layout, name) is not None}
    _insist_on_ports(layout, alive)
    try:
        _start_all(layout, infrastructure_only=infrastructure_only)
    except Refusal:
        processes.stop(layout, [name for name in reversed(everything) if name not in alive])
        raise


def _insist_on_ports(layout: Layout, alive: set[str]) -> None:
    """Look at every port before anything is started."""
    if postgres.NAME not in alive:
        processes.insist_on_free(layout.postgres_port, postgres.NAME)
    if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ:
        for node, name in enumerate(kafka.names(layout), start=1):
            if name not in alive:
                processes.insist_on_free(layout.kafka_port(node), name)
    for process in table(layout):
        if process.name not in alive:
            for port in process.ports:
                processes.insist_on_free(port, process.name)


def _start_all(layout: Layout, *, infrastructure_only: bool) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        broker = pool.submit(_broker, layout, started)
        database = pool.submit(_database, layout, started, infrastructure_only=infrastructure_only)
        servers = broker.result()
        database.result()
    if infrastructure_only:
        return
    processes.stop(layout, [WATCH])
    changed = [processes.start(layout, process) for process in table(layout)]
    for process in table(layout):
        _wait_ready(layout, process)
    processes.start(layout, Process(WATCH, [sys.executable, "-m", "deploy.local", "watch"], _own_env(layout), cwd=REPOSITORY))
    _step("services", any(changed), started)
    _tell(layout, servers, time.monotonic() - started)


def _broker(layout: Layout, started: float) -> list[str]:
    """Broker and topics."""
    _step("Kafka", kafka.start(layout) if "KAFKA_BOOTSTRAP_SERVERS" not in os.environ else False, started)
    count = kafka.nodes(layout)
    servers = layout.bootstrap_servers(count)
    created = asyncio.run(_topics(servers, replication=3 if count >= 3 else 1))  # noqa: PLR2004  # three nodes or one
    _step(f"topics ({len(created)} new of {len(TOPICS)})", bool(created), started)
    return servers


def _database(layout: Layout, started: float, *, infrastructure_only: bool) -> None:
    """Server, databases, migrations, and the registers that ship with the services."""
    _step("PostgreSQL", postgres.start(layout), started)
    if not infrastructure_only:
        changed = asyncio.run(prepare.everything(layout))
        _step(f"migrations and registers ({changed} new)", bool(changed), started)


async def _topics(servers: Sequence[str], replication: int) -> list[str]:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return await ensure_topics(servers, TOPICS, replication)
        except Exception:
            # An open port is not readiness: controllers elect, brokers register.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def _wait_ready(layout: Layout, process: Process) -> None:
    deadline = time.monotonic() + READY_S
    while process.ready is not None:
        answer = ready(process.ready)
        if answer == "ready":
            return
        if processes.pid_of(layout, process.name) is None:
            raise Refusal(f"{process.name} ended while starting; the end of its log:\n{processes.last_lines(layout, process.name)}")
        if time.monotonic() > deadline:
            raise Refusal(f"{process.name} is not ready after {READY_S:.0f} s: {answer}")
        time.sleep(0.1)


def ready(url: str) -> str:
    """What a process says of its readiness: `ready`, or what is wrong."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # an address of ours on loopback
            return "ready"
    except urllib.error.HTTPError as error:
        return error.read().decode("utf-8", "replace")
    except OSError as error:
        return f"no answer ({type(error).__name__})"


def watch(layout: Layout) -> None:
    """Start dead processes again, each at most every few seconds. Runs until it is stopped."""
    pauses: dict[str, float] = {}
    not_before: dict[str, float] = {}
    while True:
        for process in table(layout):
            now = time.monotonic()
            if processes.pid_of(layout, process.name) is not None or now < not_before.get(process.name, 0):
                continue
            pauses[process.name] = min(60.0, pauses.get(process.name, 0.5) * 2)
            not_before[process.name] = now + pauses[process.name]
            try:
                processes.start(layout, process)
                print(f"{process.name} was dead and is started again", flush=True)
            except Refusal as refusal:
                print(refusal, flush=True)
        time.sleep(1)


def down(layout: Layout) -> None:
    """Stop everything, last started first."""
    processes.stop(layout, [WATCH])
    processes.stop(layout, [process.name for process in reversed(table(layout))])
    processes.stop(layout, kafka.names(layout))
    postgres.stop(layout)


def reset(layout: Layout) -> None:
    """Stop everything and delete the stack's data."""
    if layout.root.exists():
        down(layout)
        postgres.remove(layout)
        shutil.rmtree(layout.root)


def status(layout: Layout) -> bool:
    """Print every process with its state; True when all are well."""
    well = True
    rows = [(name, None) for name in ("postgres", *kafka.names(layout))] + [(process.name, process.ready) for process in table(layout)] + [(WATCH, None)]
    for name, url in rows:
        pid = processes.pid_of(layout, name)
        state = "down" if pid is None else ready(url) if url else "up"
        well = well and state in ("up", "ready")
        print(f"{name:<24} {pid or '-':<8} {state}")
    return well


def _own_env(layout: Layout) -> dict[str, str]:
    return {"STACK_DIR": str(layout.root), "STACK_PORT_OFFSET": str(layout.offset)}


def _step(what: str, changed: bool, started: float) -> None:  # noqa: FBT001
    print(f"  {what:<40} {'started' if changed else 'was up'}  {time.monotonic() - started:5.1f} s", flush=True)


def _tell(layout: Layout, servers: Sequence[str], seconds: float) -> None:
    count = kafka.nodes(layout)
    print(f"\nhocvu is up ({seconds:.1f} s)")
    print(f"  broker        Apache Kafka {KAFKA_VERSION}, {count} node{'s' if count > 1 else ''}: {','.join(servers)}")
    print(f"  database      {postgres.version(postgres.programs())}: 127.0.0.1:{layout.postgres_port}")
    for service in SERVICES:
        print(f"  {service:<13} API http://127.0.0.1:{layout.api_port(service)}/docs   worker metrics http://127.0.0.1:{layout.worker_port(service)}/metrics")
    print(f"  mail          smtp://127.0.0.1:{layout.mail_port}, mails arrive in {_short(layout)}/mails")
    print(f"  API key       {_short(layout)}/secrets.json (api_key), sent as 'Authorization: Bearer <key>'")
    print(f"  logs          {_short(layout)}/logs, or: make logs")


def _short(layout: Layout) -> str:
    return os.path.relpath(layout.root, os.getcwd())  # noqa: PTH109  # a path relative to where the user stands
