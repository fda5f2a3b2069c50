"""What a batch waits for, and what it does not wait for."""

import asyncio

import pytest

from shared.chassis import consume
from shared.chassis.consume import BatchConsumer, Subscription
from shared.contracts.topics import OUTCOME_FACTS


class _Mute:
    """A consumer whose broker never answers."""

    async def commit(self, _: object) -> None:
        await asyncio.Event().wait()


async def test_a_batch_does_not_wait_for_kafka_to_be_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "TELL_S", 0.05)
    consumer = BatchConsumer(Subscription(OUTCOME_FACTS, {}), "assessment", None, lambda: None)  # type: ignore[arg-type]
    consumer.consumer = _Mute()
    async with asyncio.timeout(5):
        await consumer._tell_kafka({0: 1})
