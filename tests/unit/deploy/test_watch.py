"""The watcher starts dead processes again, and leaves one that dies again and again alone for longer each time."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import processes, services
from deploy.local.layout import Layout
from deploy.local.processes import Process


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    found = Layout(tmp_path, 0)
    monkeypatch.setattr(services, "table", lambda _: [Process("sleeper", ["sleep", "60"])])
    yield found
    processes.stop(found, ["sleeper"])


def _kill(layout: Layout) -> None:
    pid = processes.pid_of(layout, "sleeper")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while processes.pid_of(layout, "sleeper") is not None:
        pass


def test_a_dead_process_is_started_again_at_once(layout: Layout) -> None:
    watcher = services.Watcher(layout)
    watcher.look(0.0)
    first = processes.pid_of(layout, "sleeper")
    assert first is not None
    watcher.look(1.0)
    assert processes.pid_of(layout, "sleeper") == first, "it lives, so it is left alone"


def test_one_that_keeps_dying_waits_longer_each_time(layout: Layout) -> None:
    watcher = services.Watcher(layout)
    starts = []
    for second in range(40):
        before = processes.pid_of(layout, "sleeper")
        watcher.look(float(second))
        if before is None and processes.pid_of(layout, "sleeper") is not None:
            starts.append(second)
            _kill(layout)
    assert starts == [0, 1, 3, 7, 15, 31]


def test_one_that_lived_for_a_minute_is_well_again(layout: Layout) -> None:
    watcher = services.Watcher(layout)
    for second in (0.0, 1.0, 3.0):
        watcher.look(second)
        _kill(layout)
    watcher.look(7.0)
    watcher.look(7.0 + services.STEADY_S)
    _kill(layout)
    watcher.look(8.0 + services.STEADY_S)
    assert processes.pid_of(layout, "sleeper") is not None
