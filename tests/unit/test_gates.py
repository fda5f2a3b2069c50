"""The gates are green on the tree, and each of them can be red."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

SPOILT = {
    "Neighbours": ("services/assessment/domain.py", "import services.reporting.metrics"),
    "Houses": ("shared/chassis/clock.py", "import services.assessment.domain"),
    "Rooms of enrollment": ("services/enrollment/utils.py", "X = 1"),
    "Rooms of assessment": ("services/assessment/store.py", "import services.assessment.handlers"),
    "Rooms of reporting": ("services/reporting/figures/domain.py", "import services.reporting.periods.domain"),
    "Rooms of notifications": ("services/notifications/common.py", "X = 1"),
    "Inner rooms": ("services/enrollment/persons/store.py", "import services.enrollment.persons.handlers"),
    "Pure domain": ("services/reporting/figures/domain.py", "import random"),
    "Thin contracts": ("shared/contracts/envelope.py", "import asyncpg"),
    "SQL in stores": ("services/assessment/handlers.py", "import asyncpg"),
    "Settings at the door": ("services/assessment/api.py", "import services.assessment.settings"),
}


def _run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)


def test_ruff_finds_nothing_and_the_format_is_one() -> None:
    assert _run(BIN / "ruff", "check", ".").returncode == 0
    assert _run(BIN / "ruff", "format", "--check", ".").returncode == 0


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("DTZ", "import datetime\n\nWHEN = datetime.datetime.now()\n"),
        ("BLE", "try:\n    X = 1\nexcept Exception:\n    X = 2\n"),
        ("S608", 'def f(x: str) -> str:\n    """Q."""\n    return f"SELECT * FROM t WHERE a = {x}"\n'),
        ("G", 'import logging\n\nlogging.getLogger(__name__).info(f"{1}")\n'),
        ("ANN", 'def f(x):\n    """Q."""\n    return x\n'),
        ("D", "def f() -> None:\n    return\n"),
    ],
)
def test_ruff_can_be_red(tmp_path: Path, rule: str, code: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(code)
    found = _run(BIN / "ruff", "check", "--config", ROOT / "pyproject.toml", "--output-format", "concise", file)
    assert found.returncode == 1
    assert rule in found.stdout


def test_ruff_format_can_be_red(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("x = {  'a':1 }\n")
    assert _run(BIN / "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", file).returncode == 1


def test_mypy_finds_nothing() -> None:
    found = _run(BIN / "mypy")
    assert found.returncode == 0, found.stdout


def test_mypy_can_be_red(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text('from shared.chassis.clock import next_version\n\nV: str = next_version(None, "now")\n')
    found = _run(BIN / "mypy", "--config-file", ROOT / "pyproject.toml", file)
    assert found.returncode == 1
    assert "arg-type" in found.stdout


def test_import_rules_hold() -> None:
    found = _run(BIN / "lint-imports", "--no-cache")
    assert found.returncode == 0, found.stdout


def test_every_import_rule_can_be_red(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("services", "shared"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    assert {contract.split('"')[1].split(":")[0] for contract in _contracts()} == set(SPOILT)
    for contract, (path, line) in SPOILT.items():
        file = copy / path
        before = file.read_text() if file.exists() else None
        # Indirect imports count too, so a bad import may turn more than one rule red; its own must be among them.
        file.write_text(f"{line}\n{before or ''}" if "from __future__" not in (before or "") else before or "")
        found = _run(BIN / "lint-imports", "--no-cache", cwd=copy)
        red = f"{found.stdout}{found.stderr}"
        assert found.returncode != 0, contract
        assert any(line.startswith(contract) and line.endswith("BROKEN") for line in red.splitlines()), red
        if before is None:
            file.unlink()
        else:
            file.write_text(before)


def _contracts() -> list[str]:
    return [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("name = ") and "hocvu" not in line]
