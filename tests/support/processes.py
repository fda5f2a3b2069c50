"""A service process of a test's own: started on a free port, hurt by pid, asked whether it is ready."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local.layout import REPOSITORY
from deploy.local.services import read_settings, ready
from tests.support.infrastructure import Infrastructure

READY_S = 40.0
"""Longest wait for a process of a loaded machine to be ready, seconds."""

PSEUDONYM_KEY = "00" * 32
"""Key of pseudonyms in tests: the same in every run, so that failures repeat."""


class Child(Protocol):
    """What is needed of a child process: `subprocess.Popen`, or one that somebody else forked."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


@dataclass(frozen=True)
class ServiceProcess:
    """A running `worker` or `api`.

    Attributes:
        name: service and role.
        port: where its health answers.
        log: file with everything it wrote.
    """

    name: str
    port: int
    log: Path
    child: Child

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self.child.kill()
        self.child.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: to everybody else it looks dead, and it will wake up believing it is not."""
        self.child.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    def terminate(self, within: float = 15.0) -> int:
        """SIGTERM and wait; the exit status.

        Raises:
            subprocess.TimeoutExpired: it does not end.
        """
        self.child.terminate()
        return self.child.wait(within)

    async def wait_ready(self, within: float = READY_S) -> None:
        """Until /readyz answers 200.

        Raises:
            AssertionError: it ended, or it does not become ready; with the end of its log.
        """
        deadline = time.monotonic() + within
        while (answer := await asyncio.to_thread(ready, f"{self.url}/readyz")) != "ready":
            if not self.alive or time.monotonic() > deadline:
                end = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-20:])
                raise AssertionError(f"{self.name} is not ready: {answer}; the end of its log:\n{end}")
            await asyncio.sleep(0.1)


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn_service(name: str, role: str, env: Mapping[str, str], folder: Path, module: str | None = None) -> ServiceProcess:
    """Start `python -m services.<name>.main <role>`.

    Args:
        name: the service.
        role: `worker` or `api`.
        env: besides the settings file; `<NAME>_HTTP_PORT` is chosen here when it is missing.
        folder: where its log goes, for example tmp_path.
        module: another program in its place, for example the service with a guard removed.
    """
    prefix = name.upper()
    port = int(env.get(f"{prefix}_HTTP_PORT", "0")) or free_port()
    log = folder / f"{name}-{role}-{port}.log"
    # The user's own settings must not reach a test.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(f"{prefix}_")}
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", module or f"services.{name}.main", role],
            env={**inherited, **read_settings(), **env, f"{prefix}_HTTP_PORT": str(port)},
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return ServiceProcess(f"{name}-{role}", port, log, child)


def service_env(infra: Infrastructure, name: str, dsn: str, bootstrap_servers: Sequence[str] | None = None) -> dict[str, str]:
    """What a service must be told to run on the test stack with a database of the test's own."""
    prefix = name.upper()
    env = {
        f"{prefix}_KAFKA_BOOTSTRAP_SERVERS": ",".join(bootstrap_servers or infra.bootstrap_servers),
        f"{prefix}_DATABASE_URL": dsn,
        f"{prefix}_PROFILE": "development",
    }
    return env | ({"ENROLLMENT_PSEUDONYM_KEY": PSEUDONYM_KEY} if name == "enrollment" else {})


@asynccontextmanager
async def service_process(name: str, role: str, env: Mapping[str, str], folder: Path, *, wait: bool = True) -> AsyncIterator[ServiceProcess]:
    """A process that ends with the block, whatever was done to it."""
    process = spawn_service(name, role, env, folder)
    try:
        if wait:
            await process.wait_ready()
        yield process
    finally:
        if process.alive:
            process.wake()
            process.kill()
