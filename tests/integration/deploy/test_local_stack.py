"""The command line of the local stack on real servers: a second call changes nothing, what was killed is repaired, refusals leave nothing."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local import postgres, processes
from deploy.local.layout import REPOSITORY, Layout
from shared.contracts.topics import TOPICS
from tests.support.infrastructure import SHIFT
from tests.support.letters import hocvu_async

OFFSET = SHIFT + 5000
SERVERS = ("postgres", "kafka-1")


def _deploy(layout: Layout, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *words],
        cwd=REPOSITORY,
        env={**os.environ, "STACK_DIR": str(layout.root), "STACK_PORT_OFFSET": str(layout.offset), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def _pids(layout: Layout) -> dict[str, int | None]:
    return {name: processes.pid_of(layout, name) for name in SERVERS}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Layout]:
    """Another stack, not up yet."""
    layout = Layout(tmp_path / "other", OFFSET + 1000)
    yield layout
    assert _deploy(layout, "reset").returncode == 0
    assert not layout.root.exists()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    layout = Layout(tmp_path_factory.mktemp("local") / "stack", OFFSET)
    up = _deploy(layout, "up", "--infrastructure")
    assert up.returncode == 0, up.stderr
    yield layout
    assert _deploy(layout, "reset").returncode == 0
    assert not layout.root.exists()


async def _ask(layout: Layout, statement: str) -> Any:
    connection = await asyncpg.connect(postgres.dsn(layout))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_the_topics_are_those_of_the_closed_list(stack: Layout) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers(1))
    await admin.start()
    try:
        assert {topic.name for topic in TOPICS} == {name for name in await admin.list_topics() if not name.startswith("__")}
    finally:
        await admin.close()


async def test_the_commands_of_a_service_find_the_stack_by_themselves(stack: Layout) -> None:
    env = {"STACK_DIR": str(stack.root), "STACK_PORT_OFFSET": str(stack.offset)}
    done = await hocvu_async("notifications", "migrate", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("notifications: ")
    done = await hocvu_async("notifications", "load-recipients", env=env)
    assert done.returncode == 0, done.stderr
    assert "offices were new or different" in done.stdout


async def test_a_service_can_enter_its_own_database_only(stack: Layout) -> None:
    connection = await asyncpg.connect(postgres.dsn(stack, "reporting", "reporting"))
    await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(postgres.dsn(stack, "enrollment", "reporting"))


async def test_what_is_committed_is_on_disk(stack: Layout) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert await _ask(stack, f"SHOW {setting}") == "on"


def test_everything_listens_on_loopback_only(stack: Layout) -> None:
    found = [_listening(pid) for pid in _pids(stack).values() if pid is not None]
    assert all(found), "both listen"
    assert {address for addresses in found for address in addresses} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def _listening(pid: int) -> list[str]:
    return [connection.laddr.ip for connection in psutil.Process(pid).net_connections("inet") if connection.status == psutil.CONN_LISTEN]


def test_a_second_up_changes_nothing(stack: Layout) -> None:
    before = _pids(stack)
    up = _deploy(stack, "up", "--infrastructure")
    assert up.returncode == 0, up.stderr
    assert "started" not in up.stdout
    assert _pids(stack) == before


def test_the_offset_need_not_be_said_again(stack: Layout) -> None:
    env = {key: value for key, value in os.environ.items() if key != "STACK_PORT_OFFSET"} | {"STACK_DIR": str(stack.root)}
    up = subprocess.run(
        [sys.executable, "-m", "deploy.local", "up", "--infrastructure"], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False
    )
    assert up.returncode == 0, up.stderr
    assert "started" not in up.stdout


async def test_up_repairs_what_was_killed_and_nothing_committed_is_lost(stack: Layout) -> None:
    await _ask(stack, "CREATE TABLE kept AS SELECT 1 AS n")
    before = _pids(stack)
    # The server alone: its children stay for a moment, and with them a pid file and shared memory.
    idle = await asyncpg.connect(postgres.dsn(stack))
    for pid in before.values():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert not _deploy(stack, "status").stdout.count(" up\n")
    up = await asyncio.to_thread(_deploy, stack, "up", "--infrastructure")
    assert up.returncode == 0, up.stderr
    after = _pids(stack)
    assert all(after[name] is not None and after[name] != before[name] for name in SERVERS)
    assert await _ask(stack, "SELECT n FROM kept") == 1
    idle.terminate()


async def test_a_pid_file_of_the_server_that_names_a_stranger_does_not_stop_it(stack: Layout) -> None:
    pid = processes.pid_of(stack, "postgres")
    assert pid is not None
    server = psutil.Process(pid)
    data = Path(server.cwd())
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)
    lines = (data / "postmaster.pid").read_text().splitlines()
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    up = await asyncio.to_thread(_deploy, stack, "up", "--infrastructure")
    assert up.returncode == 0, up.stderr
    assert await _ask(stack, "SELECT 1") == 1


def test_another_number_of_nodes_is_refused_in_one_sentence(stack: Layout) -> None:
    up = _deploy(stack, "up", "--infrastructure", KAFKA_NODES="3")
    assert up.returncode == 1
    assert up.stderr == "This stack was made with KAFKA_NODES=1, not 3: run 'make reset' first (it deletes the stack's data).\n"
    assert None not in _pids(stack).values(), "what ran still runs"


@pytest.mark.parametrize("port", [25432, 19092, 18101], ids=["database", "broker", "a service"])
def test_a_port_in_use_gives_one_sentence_and_leaves_nothing(other: Layout, port: int) -> None:
    with socket.create_server(("127.0.0.1", port + other.offset)):
        up = _deploy(other, "up")
    assert up.returncode == 1
    assert up.stderr.count("\n") == 1
    assert f"Port {port + other.offset} " in up.stderr
    assert f"(pid {os.getpid()})" in up.stderr
    assert not list(other.root.glob("run/*"))
    assert not (other.root / "postgres").exists()


def test_when_the_broker_dies_at_start_nothing_stays(other: Layout) -> None:
    up = _deploy(other, "up", "--infrastructure", KAFKA_JVM_OPTS="-Xmx128m -XX:NoSuchOption")
    assert up.returncode == 1
    assert "Unrecognized VM option 'NoSuchOption'" in up.stderr
    assert not list(other.root.glob("run/*.pid"))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", other.postgres_port)) != 0, "the database was stopped again"


@pytest.mark.parametrize("verb", ["up", "reset"])
def test_a_folder_that_is_no_stack_is_left_alone(tmp_path: Path, verb: str) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    answer = _deploy(Layout(tmp_path, SHIFT + 6000), verb)
    assert answer.returncode == 1
    assert "is no stack" in answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_status_and_down_of_a_stack_that_never_was_make_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "stack", SHIFT + 6000)
    assert _deploy(layout, "status").returncode == 1
    assert _deploy(layout, "down").returncode == 0
    assert not layout.root.exists()


def test_two_ups_at_once_start_everything_once(stack: Layout) -> None:
    assert _deploy(stack, "down").returncode == 0
    command = [sys.executable, "-m", "deploy.local", "up", "--infrastructure"]
    env = {**os.environ, "STACK_DIR": str(stack.root), "STACK_PORT_OFFSET": str(stack.offset)}
    both = [subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    assert sum("Kafka" in line and "started" in line for out, _ in told for line in out.splitlines()) == 1


def test_secrets_stay_the_same_from_start_to_start(stack: Layout) -> None:
    made = json.loads((stack.root / "secrets.json").read_text())
    assert _deploy(stack, "up", "--infrastructure").returncode == 0
    assert json.loads((stack.root / "secrets.json").read_text()) == made
