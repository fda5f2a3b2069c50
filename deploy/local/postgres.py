"""A real PostgreSQL: the system's newest server from 15 on, else the wheel; one role and one database per service."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import psutil

from deploy.local import postgres_folders as folders
from deploy.local import processes
from deploy.local import secrets as stack_secrets
from deploy.local.layout import SERVICES, Layout, Refusal

SUPERUSER = "hocvu_stack"
"""Role of the stack itself; services never use it."""

NAME = "postgres"
"""Name of the process."""

START_S = 60.0
"""Longest wait for the server, recovery after a crash included, seconds."""

REMAINS_S = 5.0
"""Children of a killed server end by themselves within this, seconds; those that do not are killed."""

SETTINGS = {
    "shared_buffers": "512MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""For a small machine. fsync, synchronous_commit and full_page_writes stay on: the services refuse a server without them."""


def dsn(layout: Layout, database: str = "postgres", role: str | None = None) -> str:
    """Address of a database for a service's role, or for the stack itself."""
    found = stack_secrets.of(layout)
    user, password = (role, found.passwords[role]) if role else (SUPERUSER, found.superuser_password)
    return f"postgresql://{user}:{password}@127.0.0.1:{layout.postgres_port}/{database}"


def start(layout: Layout) -> bool:
    """Start the server unless it lives, with its roles and databases; returns whether it was started now."""
    if processes.pid_of(layout, NAME) is not None:
        asyncio.run(_ensure_databases(layout))
        return False
    processes.insist_on_free(layout.postgres_port, NAME)
    user = _server_user()
    folder = folders.reachable(layout, folders.programs())
    data = folders.data_folder(layout)
    folders.forget_former(layout, data)
    if not (data / "PG_VERSION").exists():
        _initialise(layout, folder, data, user)
    _end_remains(data)
    command = [
        str(folder / "postgres"),
        "-D",
        str(data),
        f"-cport={layout.postgres_port}",
        "-clisten_addresses=127.0.0.1",
        "-cunix_socket_directories=",
        "-clogging_collector=off",
    ]
    command += [f"-c{name}={value}" for name, value in (SETTINGS | _compression(folder, data, user)).items()]
    processes.start(layout, processes.Process(NAME, command, cwd=data.parent, user=user))
    _wait(layout)
    asyncio.run(_ensure_databases(layout))
    return True


def stop(layout: Layout, how: signal.Signals = signal.SIGINT) -> None:
    """Stop the server; by default its fast shutdown, which ends sessions."""
    processes.stop(layout, [NAME], how)


def _initialise(layout: Layout, folder: Path, data: Path, user: str | None) -> None:
    fresh = data.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    password_file = data.parent / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(stack_secrets.of(layout).superuser_password)
    if user is not None:
        if folders.outside(layout) in data.parents:
            print(f"  the database lies in {data}, because its user may not enter {layout.root}", flush=True)
            folders.outside(layout).chmod(0o711)
            (folders.outside(layout) / folders.OF).write_text(folders.fingerprint(layout))
        for path in (data.parent, password_file):
            shutil.chown(path, user)
    command = [str(folder / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password_file}"]
    command += ["-E", "UTF8", "--locale=C.UTF-8", "--data-checksums"]
    done = _run(command, data.parent, user)
    password_file.unlink()
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise Refusal(f"PostgreSQL could not prepare its data folder; it said:\n{processes.tail(done.stderr or done.stdout)}")
    fresh.rename(data)


def _end_remains(data: Path) -> None:
    """Wait for what a killed server left behind.

    Its children may live on for a moment, and a second server beside them would destroy the data. A stale pid file is
    the server's own affair, except where its pid belongs to another program by now: then the server would refuse.
    """
    remains = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(data)]
    _, alive = psutil.wait_procs(remains, timeout=REMAINS_S)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=REMAINS_S)
    pid_file = data / "postmaster.pid"
    if pid_file.exists():
        first = pid_file.read_text().partition("\n")[0]
        if not first.isdigit() or psutil.pid_exists(int(first)):
            pid_file.unlink()


def _compression(folder: Path, data: Path, user: str | None) -> dict[str, str]:
    """The cheapest compression of the write-ahead log that this server was built with."""
    told = _run([str(folder / "postgres"), "-D", str(data), "-c", "wal_compression=lz4", "-C", "wal_compression"], data.parent, user)
    return {"wal_compression": "on" if told.returncode else "lz4"}


def _wait(layout: Layout) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            asyncio.run(_probe(layout))
        except (OSError, asyncpg.PostgresError, TimeoutError):
            if processes.pid_of(layout, NAME) is None:
                break
            time.sleep(0.1)
        else:
            return
    raise Refusal(f"PostgreSQL did not start; the end of its log:\n{processes.last_lines(layout, NAME)}")


async def _probe(layout: Layout) -> None:
    connection = await asyncpg.connect(dsn(layout), timeout=5)
    await connection.close()


async def _ensure_databases(layout: Layout) -> None:
    found = stack_secrets.of(layout)
    connection = await asyncpg.connect(dsn(layout))
    try:
        roles = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        databases = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for service in SERVICES:
            # Names come from the closed list above and passwords are hexadecimal, so nothing needs quoting.
            if service not in roles:
                await connection.execute(f"CREATE ROLE {service} LOGIN PASSWORD '{found.passwords[service]}'")
            if service not in databases:
                await connection.execute(f"CREATE DATABASE {service} OWNER {service}")
                await connection.execute(f"REVOKE CONNECT ON DATABASE {service} FROM PUBLIC")
    finally:
        await connection.close()


def _server_user() -> str | None:
    """The user to run the server as: it refuses root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", "postgres"], check=True)
    return "postgres"


def _run(command: Sequence[str], cwd: Path, user: str | None) -> "subprocess.CompletedProcess[str]":
    """Run a program of the server as the server's user."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, user=user, group=user, extra_groups=None if user is None else []
    )
