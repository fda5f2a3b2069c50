"""Start, recognise and stop processes: a pid file with the process's start time, a session of its own, a log."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy.local.layout import Layout, Refusal

STOP_S = 10.0
"""A process that has not stopped this long after SIGTERM is killed, seconds."""

LOG_LINES = 20
"""Lines of a dead process's log that are shown."""


@dataclass(frozen=True)
class Process:
    """One process of the stack.

    Attributes:
        name: also of its pid file and log.
        command: program and arguments.
        env: variables besides those of the stack's own environment.
        ports: what it listens on.
        ready: URL that answers 200 when it is ready; None if somebody else asks.
        cwd: working directory.
        user: whom it runs as; None: whoever starts it.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[int] = ()
    ready: str | None = None
    cwd: Path | None = None
    user: str | None = None


def pid_of(layout: Layout, name: str) -> int | None:
    """The pid of a living process of this stack; None when it is dead, a zombie, or the pid belongs to somebody else now."""
    try:
        found, started = (layout.run / f"{name}.pid").read_text().split()
        pid = int(found)
    except (FileNotFoundError, ValueError):
        return None
    return pid if _started(pid) == started else None


def start(layout: Layout, process: Process) -> bool:
    """Start a process unless it lives; returns whether it was started now.

    Raises:
        Refusal: one of its ports is taken.
    """
    if pid_of(layout, process.name) is not None:
        return False
    for port in process.ports:
        insist_on_free(port, process.name)
    layout.run.mkdir(parents=True, exist_ok=True)
    layout.logs.mkdir(parents=True, exist_ok=True)
    with log_file(layout, process.name).open("ab") as log:
        child = subprocess.Popen(
            process.command,
            env={**os.environ, **process.env},
            cwd=process.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=process.user,
            group=process.user,
            extra_groups=None if process.user is None else [],
        )
    (layout.run / f"{process.name}.pid").write_text(f"{child.pid} {_started(child.pid) or 'gone'}")
    return True


def stop(layout: Layout, names: Sequence[str], first: signal.Signals = signal.SIGTERM) -> None:
    """Ask processes to stop, wait for all of them, kill those that do not."""
    pids = {name: pid for name in names if (pid := pid_of(layout, name)) is not None}
    for pid in pids.values():
        _signal(pid, first)
        _signal(pid, signal.SIGCONT)
    deadline = time.monotonic() + STOP_S
    while any(pid_of(layout, name) for name in pids) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.05)
    for name, pid in pids.items():
        if pid_of(layout, name) is not None:
            _signal(pid, signal.SIGKILL)
    for name in names:
        (layout.run / f"{name}.pid").unlink(missing_ok=True)


def insist_on_free(port: int, name: str) -> None:
    """Refuse when somebody else listens on a port of ours.

    Raises:
        Refusal: with the owner's name where it can be known.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Refusal(
                f"Port {port} ({name}) is in use{_owner(port)}: stop that program, or run again with STACK_PORT_OFFSET=2000 to use other ports."
            ) from None


def log_file(layout: Layout, name: str) -> Path:
    """Where a process's output goes."""
    return layout.logs / f"{name}.log"


def last_lines(layout: Layout, name: str) -> str:
    """The end of a process's log."""
    try:
        return tail(log_file(layout, name).read_text("utf-8", "replace"))
    except FileNotFoundError:
        return "(no log)"


def tail(text: str) -> str:
    """The last lines of what a program said."""
    return "\n".join(text.strip().splitlines()[-LOG_LINES:])


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def _signal(pid: int, wanted: signal.Signals) -> None:
    try:
        os.kill(pid, wanted)
    except ProcessLookupError:
        return


def _reap() -> None:
    """Collect children of ours that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return " by another program"
