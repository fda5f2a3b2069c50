"""What the commands print."""

import os
import sys
import time
from collections.abc import Sequence

from deploy.local import kafka, postgres, postgres_folders, processes
from deploy.local import secrets as stack_secrets
from deploy.local.layout import KAFKA_VERSION, SERVICES, Layout
from deploy.local.services import WATCH, ready, table


def say(line: str) -> None:
    """Print a line. Where nobody reads any more (`make up | head -1`) the work goes on without a word."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # What is left in the buffer and what is printed from now on goes there; Python would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def step(what: str, changed: bool, started: float) -> None:
    """One line per step; `started` is when the command began, on the monotonic clock."""
    say(f"  {what:<40} {'started' if changed else 'was up'}  {time.monotonic() - started:5.1f} s")


def tell(layout: Layout, servers: Sequence[str], seconds: float) -> None:
    """What runs, where it answers, where the key is."""
    count = kafka.nodes(layout)
    broker = "given by KAFKA_BOOTSTRAP_SERVERS" if kafka.given() else f"Apache Kafka {KAFKA_VERSION}, {count} node{'s' if count > 1 else ''}"
    say(f"\nhocvu is up ({seconds:.1f} s)")
    say(f"  broker        {broker}: {','.join(servers)}")
    say(f"  database      {postgres_folders.version(postgres_folders.programs())}: 127.0.0.1:{layout.postgres_port}")
    for service in SERVICES:
        say(
            f"  {service:<13} API http://127.0.0.1:{layout.api_port(service)}/docs   worker metrics http://127.0.0.1:{layout.worker_port(service)}/metrics"
        )
    say(f"  mail          smtp://127.0.0.1:{layout.mail_port}, mails arrive in {_short(layout)}/mails")
    say(f"  API key       {_short(layout)}/secrets.json (api_key), sent as 'Authorization: Bearer <key>'")
    say(f"  logs          {_short(layout)}/logs, or: make logs")


def _short(layout: Layout) -> str:
    return os.path.relpath(layout.root, os.getcwd())  # noqa: PTH109  # a path relative to where the user stands


def status(layout: Layout) -> bool:
    """Print every process with its state; True when all are well."""
    if not stack_secrets.made(layout):
        say("nothing is up; 'make up' starts everything")
        return False
    rows: list[tuple[str, str | None]] = [(name, None) for name in (postgres.NAME, *kafka.names(layout))]
    rows += [*((process.name, process.ready) for process in table(layout)), (WATCH, None)]
    well = True
    for name, url in rows:
        pid = processes.pid_of(layout, name)
        state = "down" if pid is None else ready(url) if url else "up"
        well = well and state in ("up", "ready")
        say(f"{name:<24} {pid or '-':<8} {state}")
    return well
