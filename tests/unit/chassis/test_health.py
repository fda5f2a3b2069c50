"""Readiness looks at work, not at connections."""

import time
from collections.abc import Callable

import pytest

from shared.chassis.health import STILL_S, STUCK_S, progress
from shared.chassis.progress import Progress
from shared.chassis.stops import fuse_blown, gone


def _long_ago() -> float:
    return time.monotonic() - STUCK_S - 5


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (lambda: Progress(joined=True), None),
        (Progress, "has not joined"),
        (lambda: Progress(joined=True, halted={3: fuse_blown("loaves", 3)}), "fuse_blown: partition 3 of loaves"),
        (lambda: Progress(joined=True, halted={3: fuse_blown("loaves", 3)}), "docs/runbook/partition-stands-still.md"),
        (lambda: Progress(joined=True, gone=gone("loaves")), "does not exist"),
        (lambda: Progress(joined=True, working_since=_long_ago()), "at work for"),
        (lambda: Progress(joined=True, lag={0: 7}, last_done=_long_ago()), "a lag of 7"),
        (lambda: Progress(joined=True, lag={0: 7}), None),
        (lambda: Progress(joined=True, lag={0: 7, 1: 9}, moved_at={0: time.monotonic(), 1: time.monotonic() - STILL_S - 5}), "partitions 1,"),
        (lambda: Progress(joined=True, lag={0: 7, 1: 0}, moved_at={0: time.monotonic(), 1: time.monotonic() - STILL_S - 5}), None),
        (lambda: Progress(joined=True, lag={0: 0}, last_done=_long_ago()), None),
        (lambda: Progress(joined=True, measured_at=_long_ago()), "has not told the ends"),
        (lambda: Progress(joined=True, trouble="ConnectionError"), "ConnectionError"),
    ],
)
async def test_what_does_not_get_its_work_done_is_not_ready(seen: Callable[[], Progress], word: str | None) -> None:
    told = await progress("loaves", seen())()
    assert (told is None) if word is None else (told is not None and word in told)
