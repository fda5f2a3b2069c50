"""Every fault of the matrix, and every negative control, on the one system of the session."""

import pytest

from tests.fault.harness.faults import CONTROLS, FAULTS, load_all
from tests.fault.harness.report import Report, explain
from tests.fault.harness.run import Lab, carry_out, carry_out_control

load_all()

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.usefixtures("in_time")
async def test_nothing_lost_and_nothing_twice(lab: Lab, report: Report, fault: str, seed: int) -> None:
    wanted = FAULTS[fault]
    if (why := wanted.needs()) is not None:
        report.not_here[fault] = why
        pytest.skip(why)
    try:
        outcome = await carry_out(lab, wanted, seed)
    except BaseException as error:
        report.add(fault, wanted.what, seed, None, repr(error))
        lab.system.keep_logs(f"{fault}-{seed}")
        raise
    report.add(fault, wanted.what, seed, outcome)
    if outcome.findings:
        lab.system.keep_logs(f"{fault}-{seed}")
        pytest.fail(explain(outcome.findings, fault, seed), pytrace=False)


async def test_a_rebuild_equals_what_stands(lab: Lab) -> None:
    """I6, over everything that the faults before have left."""
    if lab.state != "whole":
        pytest.skip("no run has left a system whose topics hold everything")
    told = await lab.system.command("reporting", "rebuild")
    assert told.returncode == 0, told.stdout
    assert "equal;" in told.stdout


@pytest.mark.usefixtures("in_time")
async def test_the_checker_sees(lab: Lab, report: Report, control: str) -> None:
    wanted = CONTROLS[control]
    try:
        found = await carry_out_control(lab, wanted, 1)
    except BaseException:
        report.add_control(control, wanted.what, caught=False)
        lab.system.keep_logs(control)
        raise
    caught = wanted.caught_by(found)
    report.add_control(control, wanted.what, caught=caught)
    if not caught:
        lab.system.keep_logs(control)
        pytest.fail(f"{control}: none of {', '.join(wanted.catches)} was found broken, only {[str(one) for one in found]}", pytrace=False)


@pytest.mark.usefixtures("in_time")
async def test_the_guard_is_what_helps(lab: Lab, guarded: str) -> None:
    """The same run with nothing removed: what is found without the guard must be the guard's doing."""
    found = await carry_out_control(lab, CONTROLS[guarded], 1, guarded=True)
    if found:
        pytest.fail("\n".join([f"{guarded}, nothing removed:", *(f"    {one}" for one in found)]), pytrace=False)
