"""What the fault tests need: servers that may be killed, the system under fault, options, and the report at the end."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from deploy.local import kafka, postgres, processes
from deploy.local.layout import REPOSITORY, Layout
from shared.chassis.migrations import migrate
from tests.fault.harness import points
from tests.fault.harness.faults import CONTROLS, FAULTS
from tests.fault.harness.report import FILE, Report
from tests.fault.harness.run import Lab
from tests.support.bakery import SCHEMA
from tests.support.infrastructure import SHIFT, Infrastructure

REPORT = pytest.StashKey[Report]()

MANY_SEEDS = 1000
"""Seeds of a run that is limited by time alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    options = parser.getgroup("fault")
    options.addoption("--fault-seed", type=int, default=1, help="first seed of the fault matrix (default 1)")
    options.addoption("--fault-seeds", type=int, default=None, help="how many seeds of each fault (default 1)")
    options.addoption("--fault-minutes", type=float, default=None, help="start no further run so many minutes after the first")
    options.addoption("--fault-only", default=None, help="only these faults and controls, by name, separated by commas: P1,DB1")
    options.addoption("--crash-points", default="sample", help="crash points of P2: sample, all, or a part of '<recovery> <point>' (default sample)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = Report()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Seed by seed, so that a run that ends early has seen every fault."""
    if "fault" in metafunc.fixturenames:
        first, names = metafunc.config.getoption("--fault-seed"), _chosen(metafunc.config, sorted(FAULTS))
        pairs = [(name, seed) for seed in range(first, first + _seeds(metafunc.config)) for name in names]
        metafunc.parametrize(("fault", "seed"), pairs, ids=[f"{name}-{seed}" for name, seed in pairs])
    if "control" in metafunc.fixturenames:
        # Those by hand first and together: they all look at the same few facts.
        names = sorted(CONTROLS, key=lambda name: (CONTROLS[name].persons > 0, name))
        metafunc.parametrize("control", _chosen(metafunc.config, names))
    if "guarded" in metafunc.fixturenames:
        names = sorted(name for name, control in CONTROLS.items() if control.guarded)
        metafunc.parametrize("guarded", _chosen(metafunc.config, names if _is_long(metafunc.config) else []))


def pytest_collection_finish(session: pytest.Session) -> None:
    """A name that nobody bears is refused: nothing would run, and that would look green."""
    only = session.config.getoption("--fault-only")
    unknown = set() if only is None else set(only.split(",")) - {*FAULTS, *CONTROLS, points.FAULT}
    if unknown:
        known = ", ".join([*sorted({*FAULTS, points.FAULT}), *sorted(CONTROLS)])
        raise pytest.UsageError(f"no fault or control is called {', '.join(sorted(unknown))}; there are {known}")


def _is_long(config: pytest.Config) -> bool:
    """Whether more is wanted than everything once: named runs, many seeds, or a time to fill."""
    return config.getoption("--fault-only") is not None or _seeds(config) > 1


def _seeds(config: pytest.Config) -> int:
    """How many seeds of each fault."""
    return int(config.getoption("--fault-seeds") or (1 if config.getoption("--fault-minutes") is None else MANY_SEEDS))


def _chosen(config: pytest.Config, names: list[str]) -> list[str]:
    only = config.getoption("--fault-only")
    return [name for name in names if only is None or name in only.split(",")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[REPORT]
    if report.faults or report.controls:
        terminalreporter.section("faults")
        for line in report.lines():
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"the system started in {report.started_in:.1f} s; the same in {FILE.relative_to(REPOSITORY)}")


@pytest.fixture(scope="session")
def first_began() -> float:
    """When the first run of the matrix began."""
    return time.monotonic()


@pytest.fixture
def in_time(request: pytest.FixtureRequest, first_began: float) -> None:
    """Skip what would begin after the time that was given."""
    minutes = request.config.getoption("--fault-minutes")
    if minutes is not None and time.monotonic() - first_began > minutes * 60:
        pytest.skip(f"{minutes:g} minutes are over")


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Where runs are noted; on the disk after each, so that a session that is killed has said what it saw."""
    noted = request.config.stash[REPORT]
    yield noted
    noted.write()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """The system under fault; it starts with the first run that needs it, and ends before the tests of other modules have the machine."""
    made = Lab()
    yield made
    request.config.stash[REPORT].started_in = made.started_in
    await made.close()


@pytest.fixture(scope="session")
def fragile() -> Iterator[Infrastructure]:
    """Servers of the fault tests' own."""
    layout = Layout(REPOSITORY / ".stack-test" / "fault", SHIFT + 3000)
    layout.root.mkdir(parents=True, exist_ok=True)
    postgres.start(layout)
    kafka.start(layout)
    yield Infrastructure(layout)
    processes.stop(layout, ["kafka-1"])
    postgres.stop(layout)


@pytest.fixture
async def bakery_dsn(fragile: Infrastructure) -> AsyncIterator[str]:
    """A database with the machinery's tables and the bakery's."""
    name, dsn = await fragile.create_database()
    await migrate(dsn, "bakery", Path("no such folder"))
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA)
    await connection.close()
    yield dsn
    await fragile.drop_database(name)


@pytest.fixture
def name() -> str:
    """Name of one test's bakery."""
    return secrets.token_hex(4)
