import asyncio
import logging

import pytest

from shared.chassis.errors import Transient
from shared.chassis.looking import look_always


class Thing:
    """Answers with what it was told to, and stops whoever looks after the last."""

    def __init__(self, *answers: Exception | None) -> None:
        self.left, self.stop = list(answers), asyncio.Event()

    async def look(self) -> None:
        answer = self.left.pop(0)
        if not self.left:
            self.stop.set()
        if answer is not None:
            raise answer


async def test_trouble_that_passes_is_told_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    thing = Thing(None, Transient("away"), OSError(), None)
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(look_always("the thing", thing.look, 0.001, thing.stop), 5)
    assert thing.left == []
    assert [vars(record)["error"] for record in caplog.records] == ["Transient", "OSError"]
    assert {vars(record)["what"] for record in caplog.records} == {"the thing"}


async def test_a_mistake_of_ours_is_not_hidden() -> None:
    thing = Thing(ZeroDivisionError(), None)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(look_always("the thing", thing.look, 0.001, thing.stop), 5)


async def test_the_pause_ends_when_the_process_stops() -> None:
    thing = Thing(None)
    await asyncio.wait_for(look_always("the thing", thing.look, 3600, thing.stop), 5)
