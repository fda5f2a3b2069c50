"""The whole stack, in a folder and on ports of its own, brought up by the very command a user types."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.local.layout import REPOSITORY, Layout
from tests.support.infrastructure import SHIFT

LAYOUT = Layout(REPOSITORY / ".stack-test" / "e2e", SHIFT + 2000)


def local(*verb: str) -> subprocess.CompletedProcess[str]:
    """Run a verb of the local stack."""
    env = {**os.environ, "STACK_DIR": str(LAYOUT.root), "STACK_PORT_OFFSET": str(LAYOUT.offset)}
    return subprocess.run([sys.executable, "-m", "deploy.local", *verb], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def whole() -> Iterator[Layout]:
    """Everything up."""
    local("reset")
    told = local("up")
    assert told.returncode == 0, told.stdout + told.stderr
    yield LAYOUT
    local("reset")
