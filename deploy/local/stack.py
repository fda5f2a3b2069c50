"""Bring the stack up and down: infrastructure, topics, migrations, registers, services; each step says what it did."""

import asyncio
import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from deploy import topics
from deploy.local import kafka, postgres, postgres_folders, prepare, processes
from deploy.local import secrets as stack_secrets
from deploy.local.layout import Layout, Refusal
from deploy.local.screen import say, step, tell
from deploy.local.services import WATCH, table, wait_ready, watching
from shared.contracts.topics import TOPICS

RESULTS = ("bench", "bench.json", "demo.json", "fault.json", "rebuild.json")
"""What benchmarks, demo and fault tests leave in the folder of a stack that need not be there."""

FREE_BYTES = 1_073_741_824
"""Least free disk space to start with, bytes."""


def up(layout: Layout, *, infrastructure_only: bool = False) -> None:
    """Bring everything up that is not; a second call changes nothing, after a kill it repairs.

    Raises:
        Refusal: with what to do; what this call had started is stopped again.
    """
    _insist_on_place(layout)
    with _alone(layout):
        everything = [postgres.NAME, *kafka.names(layout), *(process.name for process in table(layout)), WATCH]
        alive = {name for name in everything if processes.pid_of(layout, name) is not None}
        _insist_on_ports(layout, alive)
        layout.remember()
        try:
            _start_all(layout, infrastructure_only=infrastructure_only)
        except BaseException:
            # Also after Ctrl-C and mistakes of ours: nothing half-started stays.
            processes.stop(layout, [name for name in reversed(everything) if name not in {*alive, postgres.NAME}])
            if postgres.NAME not in alive:
                postgres.stop(layout)
            if WATCH in alive:
                processes.start(layout, watching(layout))
            raise


def _insist_on_place(layout: Layout) -> None:
    """Make the stack's folder, and look whether it is one and has room.

    Raises:
        Refusal: the folder holds something else, cannot be written, or its disk is full.
    """
    try:
        if layout.root.exists() and any(path.name not in RESULTS for path in layout.root.iterdir()) and not stack_secrets.made(layout):
            raise Refusal(f"{layout.root} holds something that is no stack: set STACK_DIR to a folder that is empty or does not exist.")
        layout.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{layout.root} cannot be used ({error.strerror}): set STACK_DIR to a folder of yours.") from None
    if shutil.disk_usage(layout.root).free < FREE_BYTES:
        raise Refusal(f"The disk of {layout.root} has less than 1 GiB free: make room, or set STACK_DIR to a folder on another disk.")
    stack_secrets.of(layout)


@contextlib.contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One command at a time starts or stops processes of a stack."""
    with (layout.root / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  waiting for another command on this stack")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _insist_on_ports(layout: Layout, alive: set[str]) -> None:
    """Look at every port before anything is started."""
    if postgres.NAME not in alive:
        processes.insist_on_free(layout.postgres_port, postgres.NAME)
    for node, name in enumerate(kafka.names(layout), start=1):
        if name not in alive:
            for port in kafka.ports(layout, node):
                processes.insist_on_free(port, name)
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
        wait_ready(layout, process)
    processes.start(layout, watching(layout))
    step("services", any(changed), started)
    tell(layout, servers, time.monotonic() - started)


def _broker(layout: Layout, started: float) -> list[str]:
    """Broker and topics."""
    step("Kafka", kafka.start(layout), started)
    servers = layout.bootstrap_servers(kafka.nodes(layout))
    try:
        created = asyncio.run(topics.create(servers))
    except topics.NoBrokers as error:
        raise Refusal(f"Kafka is not ready: {error}") from error
    step(f"topics ({len(created)} new of {len(TOPICS)})", bool(created), started)
    return servers


def _database(layout: Layout, started: float, *, infrastructure_only: bool) -> None:
    """Server, databases, migrations, and the registers that ship with the services."""
    step("PostgreSQL", postgres.start(layout), started)
    if not infrastructure_only:
        changed = asyncio.run(prepare.everything(layout))
        step(f"migrations and registers ({changed} new)", bool(changed), started)


def down(layout: Layout) -> None:
    """Stop everything, last started first."""
    if not stack_secrets.made(layout):
        return
    with _alone(layout):
        processes.stop(layout, [WATCH])
        processes.stop(layout, [process.name for process in reversed(table(layout))])
        processes.stop(layout, sorted(file.stem for file in layout.run.glob("kafka-*.pid")))
        postgres.stop(layout)


def reset(layout: Layout) -> None:
    """Stop everything and delete the stack's data.

    Raises:
        Refusal: the folder is no stack; nothing is deleted.
    """
    if layout.root.exists() and any(layout.root.iterdir()):
        if not stack_secrets.made(layout):
            raise Refusal(f"{layout.root} is no stack, so nothing was deleted.")
        down(layout)
        shutil.rmtree(layout.root)
    postgres_folders.remove(layout)
