"""Readiness looks at work, not at connections."""

import time

import pytest

from shared.chassis.consume import Progress
from shared.chassis.health import STUCK_S, progress

LONG_AGO = time.monotonic() - STUCK_S - 5


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (Progress(joined=True), None),
        (Progress(), "has not joined"),
        (Progress(joined=True, halted={3: "fuse_blown"}), "3: fuse_blown"),
        (Progress(joined=True, working_since=LONG_AGO), "at work for"),
        (Progress(joined=True, lag={0: 7}, last_done=LONG_AGO), "a lag of 7"),
        (Progress(joined=True, lag={0: 7}), None),
        (Progress(joined=True, lag={0: 0}, last_done=LONG_AGO), None),
        (Progress(joined=True, measured_at=LONG_AGO), "has not told the ends"),
        (Progress(joined=True, trouble="ConnectionError"), "ConnectionError"),
    ],
)
async def test_what_does_not_get_its_work_done_is_not_ready(seen: Progress, word: str | None) -> None:
    told = await progress("loaves", seen)()
    assert (told is None) if word is None else (told is not None and word in told)
