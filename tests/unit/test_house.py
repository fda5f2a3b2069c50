"""Habits of the house that no linter knows, each with a red example."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NAMES = {"utils", "util", "common", "helpers", "misc", "core", "base", "manager"}

SCHOOL = re.compile(
    r"\b(learner|learners|school|course|courses|enrollment|enrollments|province|provinces|commune|pupil|student|exam|teacher)\b", re.IGNORECASE
)

SQL = re.compile(r"^\s*(SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b", re.MULTILINE)

ADDRESS = re.compile(r"(^|\s)--(extra-)?index[-]url|(^|\s)--find[-]links|pypi\.org/simple|files\.pythonhosted\.org|repo\.maven")

MOST_LINES = 400


def _tracked() -> list[Path]:
    """Every file of the project; walked and not asked of git, which a bare machine does not have."""
    left_out = {
        ".git",
        ".venv",
        ".stack",
        ".stack-test",
        "__pycache__",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        ".import_linter_cache",
    }
    return [path for path in ROOT.rglob("*") if path.is_file() and left_out.isdisjoint(path.relative_to(ROOT).parts)]


def _python(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def bad_name(path: Path) -> bool:
    return path.stem in NAMES or any(part in NAMES for part in path.parts)


def school_words(text: str) -> list[str]:
    return SCHOOL.findall(text)


def too_long(text: str) -> bool:
    return len(text.splitlines()) > MOST_LINES


def holds_sql(text: str) -> bool:
    return bool(SQL.search(text))


def names_an_address(text: str) -> bool:
    return bool(ADDRESS.search(text))


def test_no_module_has_a_name_that_takes_everything_in() -> None:
    assert [path for path in _python("services", "shared", "deploy", "tests") if bad_name(path.relative_to(ROOT))] == []
    assert bad_name(Path("services/enrollment/utils.py"))


def test_the_chassis_knows_no_school_word() -> None:
    assert {path.name: found for path in _python("shared/chassis") if (found := school_words(path.read_text()))} == {}
    assert school_words("def count(learner): ...")


def test_no_module_is_longer_than_two_subjects() -> None:
    assert [path for path in _python("services", "shared", "deploy", "tests") if too_long(path.read_text())] == []
    assert too_long("x\n" * 401)


def test_statements_stand_in_stores_only() -> None:
    allowed = {"store.py", "audit.py"}
    assert [path for path in _python("services") if path.name not in allowed and holds_sql(path.read_text())] == []
    assert holds_sql('X = """\nSELECT a FROM b\n"""')


def test_no_tracked_file_names_a_registry_or_a_path_of_a_machine() -> None:
    places = (*(f"/{home}/" for home in ("root", "home")), f"{ROOT}/")
    for path in _tracked():
        if path.suffix in {".gz", ".png"} or path == Path(__file__):
            continue
        text = path.read_text("utf-8", "replace")
        assert not names_an_address(text), path
        assert not any(place in text for place in places), path
    assert names_an_address("--index" + "-url https://example")
    assert not (ROOT / "uv.lock").exists()


def _modules() -> list[str]:
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in _python("services", "shared") if path.name != "__init__.py"]


def test_importing_any_module_with_an_empty_environment_does_nothing() -> None:
    code = "import importlib, sys, threading\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\nassert threading.active_count() == 1\n"
    done = subprocess.run(
        [sys.executable, "-c", code, *_modules()], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_a_module_that_does_something_on_import_would_be_seen() -> None:
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(1,), daemon=True).start()\nassert threading.active_count() == 1\n"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("name", ["enrollment", "assessment", "reporting", "notifications"])
def test_a_service_without_settings_says_what_is_missing_and_shows_no_trace(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"services.{name}.main", "worker"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{name.upper()}_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_every_decision_is_headed_by_its_number(path: Path) -> None:
    assert path.read_text("utf-8").startswith(f"# {path.name[:4]} ")


@pytest.mark.parametrize("name", ["enrollment", "assessment", "reporting", "notifications"])
def test_every_service_has_its_page(name: str) -> None:
    text = (ROOT / "services" / name / "README.md").read_text("utf-8").lower()
    for word in ("owns", "reads", "writes", "tables", "metrics", "reading order", "run alone"):
        assert word in text, f"the page of {name} does not say: {word}"
