"""A worker that waits for a silent broker still holds its name in time."""

import asyncio

import pytest

from shared.chassis import admission, instance, service
from shared.chassis.admission import Admission, Look


@pytest.mark.parametrize(("within_s", "held"), [(0.01, True), (60.0, False)])
async def test_what_stands_behind_a_look_without_an_answer_is_asked_when_its_time_is_over(within_s: float, held: bool) -> None:
    asked = asyncio.Event()

    async def silent() -> None:
        await asyncio.Event().wait()

    async def hold() -> None:
        asked.set()

    looking = asyncio.create_task(Admission(Look("topics", silent, within_s=within_s), Look("name", hold)).look())
    await asyncio.wait({looking}, timeout=1)
    looking.cancel()
    assert asked.is_set() is held


def test_a_holder_speaks_before_it_is_taken_for_silent() -> None:
    assert service.TOPICS_ANSWER_S + admission.LOOK_EVERY_S < instance.SILENT_S
