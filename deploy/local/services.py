"""The services as processes: what each is told, when it is ready, and the watcher that starts dead ones again."""

import sys
import time
import urllib.error
import urllib.request

from deploy.local import kafka, postgres, processes
from deploy.local import secrets as stack_secrets
from deploy.local.layout import REPOSITORY, SERVICES, SETTINGS, Layout, Refusal
from deploy.local.processes import Process

READY_S = 60.0
"""Longest wait for a service to be ready, seconds."""

WATCH_EVERY_S = 1.0
"""Pause between two looks at the processes, seconds."""

FIRST_PAUSE_S = 1.0
"""A process is started again at once, and for the second time not before this, seconds; doubles each time."""

STEADY_S = 60.0
"""A process that lived this long is well again; also the longest pause before another start, seconds."""

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
        # One broker holds one replica; with three the stack is as safe as production must be.
        f"{prefix}_PROFILE": "production" if kafka.nodes(layout) == kafka.SAFE_NODES and not kafka.given() else "development",
        # A second worker beside this one would need a name of its own.
        f"{prefix}_INSTANCE": f"{service}-1",
    }
    if service == "enrollment":
        env["ENROLLMENT_PSEUDONYM_KEY"] = found.pseudonym_key
    if service == "notifications":
        env |= {"NOTIFICATIONS_SMTP_HOST": "127.0.0.1", "NOTIFICATIONS_SMTP_PORT": str(layout.mail_port)}
        env["NOTIFICATIONS_REPORTS_URL"] = f"http://127.0.0.1:{layout.api_port('reporting')}/v1/reports"
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


def watching(layout: Layout) -> Process:
    """The process that keeps the services running."""
    env = {"STACK_DIR": str(layout.root), "STACK_PORT_OFFSET": str(layout.offset)}
    return Process(WATCH, [sys.executable, "-m", "deploy.local", "watch"], env, cwd=REPOSITORY)


def wait_ready(layout: Layout, process: Process) -> None:
    """Until a process answers that it is ready.

    Raises:
        Refusal: it ended, or does not become ready.
    """
    deadline = time.monotonic() + READY_S
    while True:
        answer = ready(process.ready) if process.ready is not None else "ready"
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


class Watcher:
    """Starts dead processes again; one that dies again and again waits longer each time.

    Args:
        layout: the stack.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._started: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def look(self, now: float) -> None:
        """Look at every process once; `now` in seconds, from any beginning."""
        for process in table(self._layout):
            age = now - self._started.get(process.name, now - STEADY_S)
            if processes.pid_of(self._layout, process.name) is not None:
                if age >= STEADY_S:
                    self._pauses.pop(process.name, None)
            elif age >= self._pauses.get(process.name, 0.0):
                self._start(process, now)

    def _start(self, process: Process, now: float) -> None:
        self._started[process.name] = now
        self._pauses[process.name] = min(STEADY_S, self._pauses.get(process.name, FIRST_PAUSE_S / 2) * 2)
        try:
            processes.start(self._layout, process)
            print(f"{process.name} was dead and is started again", flush=True)
        except Refusal as refusal:
            print(refusal, flush=True)


def watch(layout: Layout) -> None:
    """Keep the services running until this is stopped."""
    watcher = Watcher(layout)
    while True:
        watcher.look(time.monotonic())
        time.sleep(WATCH_EVERY_S)
