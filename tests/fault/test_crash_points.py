"""P2: a process dies or freezes before and after every SQL statement and every call of broker and mail server.

A sample, one point of every piece of work, unless `--crash-points all` or a part of points' names says otherwise.
"""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.fault.harness.crash import Leg, legs
from tests.fault.harness.crash_lab import CrashLab
from tests.fault.harness.points import FAULT, Point, Recovery, Run, every_run, expected_pieces, pieces, sample
from tests.fault.harness.report import Report, commit
from tests.fault.harness.run import Outcome
from tests.fault.harness.written import BY_HAND, changing_statements, missed

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME, WHAT = FAULT, "killed or frozen at every crash point × restart, takeover, zombie"

CONTROL, BROKEN = "offset-rows", "the offset row fences nobody, killed between commit and anything after"


@dataclass
class Listed:
    """A system whose points are known."""

    lab: CrashLab
    points: list[Point]
    seed: int


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def listed(request: pytest.FixtureRequest) -> AsyncIterator[Listed]:
    only = request.config.getoption("--fault-only")
    if only is not None and NAME not in only.split(","):
        pytest.skip(f"only {only}")
    seed = request.config.getoption("--fault-seed")
    lab = CrashLab(random.Random(f"{NAME} {seed}"))  # noqa: S311
    try:
        yield Listed(lab, await lab.list_points(), seed)
    finally:
        await lab.close()


async def test_every_piece_of_work_has_its_points(listed: Listed) -> None:
    found = pieces(listed.points)
    assert expected_pieces() - found.keys() == set()
    for piece, points in found.items():
        sides = [point.name.split("/", 2)[2].split(" ", 1)[0] for point in points]
        assert sides.count("before") == sides.count("after"), piece


async def test_every_statement_that_changes_something_stands_at_a_point(listed: Listed) -> None:
    assert missed(listed.points) == set()
    assert BY_HAND.keys() <= changing_statements().keys(), "what is said by hand is still said"
    # What nobody reaches is seen.
    fewer = [point for point in listed.points if "INSERT fact" not in point.name]
    assert missed(fewer) == {"services.enrollment.facts.store._ADD"}


async def test_a_point_is_one_place_and_can_be_reached_again(listed: Listed) -> None:
    assert [str(point) for point in listed.points if len(point.statements) > 1] == []
    assert [str(point) for point in listed.points if point.act == "fresh"] == []


async def test_nothing_lost_and_nothing_twice_at_any_point(listed: Listed, report: Report, request: pytest.FixtureRequest) -> None:
    runs = _wanted(listed, request.config.getoption("--crash-points"))
    done, broken = 0, []
    async for leg in legs(listed.lab, runs):
        _note(report, leg, listed.seed)
        done += len(leg.healed)
        assert not leg.findings, _explain(leg)
        if leg.broken:
            # What did not come to its end leaves nothing behind, so the others are still worth their time.
            broken.append(_explain(leg))
    assert not broken, "\n".join(broken)
    assert done == len(runs)


async def test_without_offset_rows_a_death_after_the_commit_applies_records_twice(listed: Listed, report: Report) -> None:
    """The services know copies by their content, so their tables stay right; the witnesses see it all the same."""
    system = listed.lab.system
    system.prepare = dict.fromkeys(
        ("enrollment", "assessment", "reporting", "notifications"), ("tests.fault.harness.careless.consuming:without_offset_rows",)
    )
    system.end_all()
    # Kafka is told after the commit: the place where a fence must be.
    runs = [(point, Recovery.RESTART) for point in listed.points if point.name.endswith("/before commit") and "assignment" not in point.piece]
    found = {str(one.what) async for leg in legs(listed.lab, runs) for one in leg.findings if one.invariant == "I2"}
    wanted = {f"record of {point.piece} was applied more than once by {point.service}" for point, _ in runs}
    report.add_control(CONTROL, BROKEN, caught=found == wanted)
    assert found == wanted


def _wanted(listed: Listed, which: str) -> list[Run]:
    if which == "sample":
        return sample(listed.points, random.Random(f"sample {listed.seed}"))  # noqa: S311
    return [run for run in every_run(listed.points) if which == "all" or which in f"{run[1]} {run[0].name}"]


def _note(report: Report, leg: Leg, seed: int) -> None:
    """Every run of a leg; what the checker found after it stands with the last one."""
    for run, seconds in leg.healed.items():
        last = run == list(leg.healed)[-1]
        report.add(NAME, WHAT, seed, Outcome(leg.findings if last else [], seconds, leg.seconds / len(leg.healed), 0))
    for (point, recovery), why in leg.broken.items():
        report.add(NAME, WHAT, seed, None, f"{recovery} {point}: {why}")
    report.write()


def _explain(leg: Leg) -> str:
    """What was found, and how each of the runs that may have done it is run alone."""
    lines = [f"  {found}" for found in leg.findings]
    lines += [f"  {recovery} {point}: {why}" for (point, recovery), why in leg.broken.items()]
    lines += ["runs since the checker looked last; one alone:", f"  git checkout {commit()} && make test-fault only={NAME} points='…'"]
    return "\n".join(lines + [f"  {recovery} {point.name}" for point, recovery in (*leg.healed, *leg.broken)])
