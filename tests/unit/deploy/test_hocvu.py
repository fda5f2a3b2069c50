"""`hocvu` has the commands of every service."""

import pytest

from deploy.local.layout import SERVICES
from tests.support.letters import hocvu

OWN = {
    "enrollment": ["load-registers"],
    "assessment": [],
    "reporting": ["freeze", "audit", "rebuild"],
    "notifications": ["load-recipients", "decide"],
}


def test_help_lists_the_services() -> None:
    told = hocvu("--help", env={}).stdout
    assert all(word in told for word in ("dead-letters", *SERVICES))


@pytest.mark.parametrize("service", SERVICES)
def test_help_of_a_service_lists_its_commands_and_not_its_processes(service: str) -> None:
    told = hocvu(service, "--help", env={}).stdout.split()
    assert all(word in told for word in (*OWN[service], "migrate", "settings", "accept-loss", "accept-bad"))
    assert "worker" not in told


def test_without_a_stack_it_says_what_it_must_be_told() -> None:
    done = hocvu("reporting", "audit", env={})
    assert done.returncode == 2
    assert "REPORTING_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr
