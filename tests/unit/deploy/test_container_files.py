"""The files for a container engine: correct by their own tools, and the same system as the local stack. Every check can be red."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from deploy.local import postgres, services
from deploy.local.kafka import server_properties
from deploy.local.layout import REPOSITORY, SERVICES, Layout

BIN = Path(sys.executable).parent
DEPLOY = REPOSITORY / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
LAYOUT = Layout(REPOSITORY / ".stack", 0)
SCRIPTS = [".ci/run", "deploy/local/bootstrap.sh", "deploy/local/hocvu.sh", "deploy/lock.sh", "deploy/secrets.sh", "deploy/postgres/10-databases.sh"]


def _run(*command: str | Path, cwd: Path = REPOSITORY, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(COMPOSE)
    return loaded


def _schema(file: Path) -> int:
    return _run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file).returncode


def _yamllint(file: Path) -> int:
    return _run(BIN / "yamllint", "-s", "-c", DEPLOY / ".yamllint.yaml", file).returncode


def _hadolint(file: Path) -> int:
    return _run(BIN / "hadolint", file).returncode


def _shellcheck(file: Path) -> int:
    return _run(BIN / "shellcheck", file).returncode


def test_compose_obeys_its_schema_and_the_schema_can_be_red(tmp_path: Path) -> None:
    assert _schema(COMPOSE) == 0
    bad = tmp_path / "compose.yaml"
    bad.write_text(COMPOSE.read_text().replace("env_file: [settings.env]", "enviroment_file: [settings.env]"))
    assert _schema(bad) != 0


def test_yaml_is_tidy_and_the_check_can_be_red(tmp_path: Path) -> None:
    assert _yamllint(COMPOSE) == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: 1\na: 2\n")
    assert _yamllint(bad) != 0


def test_the_dockerfile_is_sound_and_the_check_can_be_red(tmp_path: Path) -> None:
    assert _hadolint(DEPLOY / "Dockerfile") == 0
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp && pip install uv\n")
    assert _hadolint(bad) != 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound_and_can_be_run(script: str) -> None:
    assert _shellcheck(REPOSITORY / script) == 0
    assert os.access(REPOSITORY / script, os.X_OK)


def test_the_check_of_scripts_can_be_red(tmp_path: Path) -> None:
    bad = tmp_path / "bad.sh"
    bad.write_text("#!/bin/sh\nrm -rf $1/*\n")
    assert _shellcheck(bad) != 0


def test_no_script_is_forgotten() -> None:
    rooms = [REPOSITORY / room for room in ("deploy", "services", "shared", "tests", "docs")]
    found = [*(script for room in rooms for script in room.rglob("*.sh")), *(REPOSITORY / ".ci").iterdir()]
    assert {str(script.relative_to(REPOSITORY)) for script in found} == set(SCRIPTS)


def test_both_run_the_same_processes(compose: dict[str, Any]) -> None:
    local = {process.name: list(process.command[2:]) for process in services.table(LAYOUT) if process.name != services.MAIL}
    there = {name: service["command"] for name, service in compose["services"].items() if name.endswith(("-worker", "-api"))}
    assert there == local
    assert {"kafka", "postgres", services.MAIL} <= set(compose["services"])


def _differences(compose: dict[str, Any]) -> set[str]:
    """Variables that a process is told in one place and not in the other."""
    found: set[str] = set()
    shared = set(services.read_settings())
    for process in services.table(LAYOUT):
        if process.name != services.MAIL:
            there = compose["services"][process.name]
            told = set(there["environment"]) | (shared if there["env_file"] == ["settings.env"] else set())
            found |= told ^ set(process.env)
    return found


def test_both_tell_every_process_the_same(compose: dict[str, Any]) -> None:
    assert _differences(compose) == set()


def test_the_comparison_can_be_red() -> None:
    text = COMPOSE.read_text()
    for line in ("    ENROLLMENT_PSEUDONYM_KEY: ${PSEUDONYM_KEY:?run deploy/secrets.sh first}\n", "  env_file: [settings.env]\n"):
        assert line in text
        spoilt = YAML(typ="safe").load(text.replace(line, "  env_file: [other.env]\n" if "env_file" in line else ""))
        assert _differences(spoilt)


def test_both_publish_the_same_ports_on_loopback_only(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    for process in services.table(LAYOUT):
        assert published[process.name][0].startswith(f"127.0.0.1:{process.ports[0]}:")
    assert published["kafka"] == [f"127.0.0.1:{LAYOUT.kafka_port()}:{LAYOUT.kafka_port()}"]
    assert published["postgres"] == [f"127.0.0.1:{LAYOUT.postgres_port}:5432"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_both_databases_have_the_same_settings(compose: dict[str, Any]) -> None:
    told = dict(option.removeprefix("-c").split("=", 1) for option in compose["services"]["postgres"]["command"][1:])
    assert told == postgres.SETTINGS | {"wal_compression": "lz4"}


ONLY_LOCAL = {
    # One small machine runs everything; a container has its own.
    "broker.heartbeat.interval.ms",
    "broker.session.timeout.ms",
    "num.network.threads",
    "num.io.threads",
    "background.threads",
    "log.cleaner.dedupe.buffer.size",
}
PLACES = {"listeners", "advertised.listeners", "listener.security.protocol.map", "log.dirs", "controller.quorum.voters"}


def test_both_brokers_have_the_same_settings(compose: dict[str, Any]) -> None:
    told = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in compose["services"]["kafka"]["environment"].items()}
    local = dict(line.split("=", 1) for line in server_properties(LAYOUT, 1, 1, Path("data")).splitlines())
    assert {name: value for name, value in told.items() if name not in PLACES} == {
        name: value for name, value in local.items() if name not in PLACES | ONLY_LOCAL
    }


def test_every_schema_and_register_is_there_before_a_process_starts(compose: dict[str, Any]) -> None:
    def before(name: str) -> set[str]:
        direct = set(compose["services"][name].get("depends_on", {}))
        return direct.union(*(before(other) for other in direct))

    for service in SERVICES:
        for role in ("worker", "api"):
            assert {f"{service}-migrate", "topics", "kafka", "postgres"} <= before(f"{service}-{role}")
    assert "enrollment-registers" in before("enrollment-worker")
    assert "notifications-recipients" in before("notifications-worker")


def test_what_the_image_holds_is_enough_to_run(tmp_path: Path) -> None:
    copied = re.findall(r"^COPY (?!--from|deploy/local)(.+) (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for sources, target in copied:
        for source in sources.split():
            found = REPOSITORY / source
            if found.is_dir():
                shutil.copytree(found, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(found, tmp_path / target)
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    for service in SERVICES:
        told = _run(sys.executable, "-m", f"services.{service}.main", "settings", cwd=tmp_path, env=env)
        assert told.returncode == 0, told.stderr
    refused = _run(sys.executable, "-c", "import deploy.topics", cwd=tmp_path, env=env)
    assert refused.returncode == 0, refused.stderr


def test_everything_the_dockerfile_copies_travels_to_the_engine() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    let_through = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for line in copied for source in line.split()} == let_through


def test_the_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[-1] == "10001:10001"


def test_secrets_for_compose_are_made_once_and_readable_by_their_owner_only(tmp_path: Path, compose: dict[str, Any]) -> None:
    script = shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    assert _run(script).returncode == 0
    file = tmp_path / ".env"
    made = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert _run(script).returncode == 0
    assert file.read_text() == made
    asked = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    given = dict(line.split("=", 1) for line in made.splitlines() if not line.startswith("#"))
    assert asked == set(given) - {"API_KEY"}
    assert len({value for name, value in given.items() if name != "API_KEYS"}) == len(given) - 1
    assert compose["name"] == "hocvu"
    told = {"ENROLLMENT_API_KEYS": given["API_KEYS"].strip("'"), "ENROLLMENT_PSEUDONYM_KEY": given["PSEUDONYM_KEY"]}
    told |= {"ENROLLMENT_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "ENROLLMENT_DATABASE_URL": "postgresql://x", "ENROLLMENT_HTTP_PORT": "8080"}
    reads = "from services.enrollment.settings import EnrollmentSettings as S; print(len(S().api_keys[0].sha256))"
    assert _run(sys.executable, "-c", reads, env={"PATH": os.environ["PATH"], **told}).stdout == "64\n"
