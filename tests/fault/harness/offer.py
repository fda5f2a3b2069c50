"""A platform as the house meets it: it sends, and sends again what nobody confirmed."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.contracts.topics import DEAD_LETTER_BYTES, PLATFORM_EVENTS
from tests.fault.harness.ledger import LEDGER_HEADER, Ledger, Offer
from tests.fault.harness.system import System

BATCH = 40
"""Events in one HTTP batch."""

ANSWER_S = 5.0
"""A send that has no answer after this is unknown, seconds."""

OFFER_S = 120.0
"""Longest time for everything to be acknowledged, seconds."""

AT_ONCE = 4
"""HTTP requests that may be open."""

_PAUSE_S = 0.2


class NotAcknowledged(AssertionError):
    """Nobody confirmed an offer, however often it was made."""


class Pace:
    """How fast offers are made: spread evenly over some seconds, until somebody says to hurry."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """From now on as fast as they go."""
        self._hurry.set()

    async def until(self, share: float) -> None:
        """Wait until this share of the offers is due."""
        pause = self._began + share * self._seconds - time.monotonic()
        if pause > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), pause)


async def offer(system: System, ledger: Ledger, offers: Sequence[Offer], pace: Pace | None = None, within: float = OFFER_S) -> None:
    """Send these offers until every one is acknowledged.

    Args:
        system: who is offered them.
        ledger: theirs.
        offers: in order.
        pace: how fast; as fast as they go without.
        within: longest time, seconds.

    Raises:
        NotAcknowledged: some are not after `within` seconds.
    """
    deadline = time.monotonic() + within
    while waiting := [one for one in offers if not one.acknowledged]:
        if time.monotonic() > deadline:
            raise NotAcknowledged(f"{len(waiting)} offers were not acknowledged in {within:.0f} s, for example {waiting[0]}")
        may = [one for one in waiting if one.after is None or ledger.offers[one.after].acknowledged]
        kafka, http = [one for one in may if one.way == "kafka"], [one for one in may if one.way != "kafka"]
        started = time.monotonic()
        pace = pace or Pace()
        await asyncio.gather(_over_kafka(system, kafka, pace), _over_http(system, http, pace))
        if any(not one.acknowledged for one in may):
            await asyncio.sleep(max(0.0, _PAUSE_S - (time.monotonic() - started)))


async def _over_kafka(system: System, offers: Sequence[Offer], pace: Pace) -> None:
    """One attempt at each."""
    if not offers:
        return
    producer = AIOKafkaProducer(
        bootstrap_servers=system.bootstrap_servers, acks="all", enable_idempotence=True, request_timeout_ms=int(ANSWER_S * 1000), linger_ms=2,
        max_request_size=DEAD_LETTER_BYTES,
    )  # fmt: skip
    answers: list[asyncio.Future[object]] = []
    try:
        await asyncio.wait_for(producer.start(), ANSWER_S)
        for sent, one in enumerate(offers):
            await pace.until(sent / len(offers))
            one.attempts += 1
            headers = [*one.headers, (LEDGER_HEADER, one.mark)]
            answer = await asyncio.wait_for(producer.send(PLATFORM_EVENTS.name, key=one.key, value=one.body, headers=headers), ANSWER_S)
            answer.add_done_callback(lambda done, one=one: _confirm(done, one))
            answers.append(answer)
        await asyncio.wait(answers, timeout=2 * ANSWER_S)
    except (KafkaError, OSError, TimeoutError):
        pass  # what is not acknowledged is sent again
    finally:
        with suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(producer.stop(), ANSWER_S)


def _confirm(done: "asyncio.Future[object]", one: Offer) -> None:
    if not done.cancelled() and done.exception() is None:
        one.acknowledged = True


async def _over_http(system: System, offers: Sequence[Offer], pace: Pace) -> None:
    """One attempt at each; batches together, the others alone."""
    groups = [[one] for one in offers if one.way == "http"]
    batched = [one for one in offers if one.way == "batch"]
    groups += [batched[first : first + BATCH] for first in range(0, len(batched), BATCH)]
    groups.sort(key=lambda group: group[0].number)
    doors = asyncio.Semaphore(AT_ONCE)
    async with system.http() as http, asyncio.TaskGroup() as tasks:
        sent = 0
        for group in groups:
            await pace.until(sent / len(offers))
            await doors.acquire()
            tasks.create_task(_post(http, f"{system.api_url('enrollment')}/v1/events", group)).add_done_callback(lambda _: doors.release())
            sent += len(group)


async def _post(http: httpx.AsyncClient, url: str, group: Sequence[Offer]) -> None:
    for one in group:
        one.attempts += 1
    batch = group[0].way == "batch"
    body = b"[" + b",".join(one.body for one in group) + b"]" if batch else group[0].body
    media_type = "application/cloudevents-batch+json" if batch else "application/cloudevents+json"
    try:
        answer = await http.post(url, content=body, headers={"content-type": media_type})
    except httpx.HTTPError:
        return
    if answer.status_code >= 500:
        return
    if batch and answer.status_code == 202:
        for one, verdict in zip(group, answer.json()["items"], strict=True):
            one.acknowledged, one.answer = True, verdict.get("reason")
    else:
        reason = None if answer.status_code == 202 else json.loads(answer.content)["title"].removeprefix("Not accepted: ")
        for one in group:
            one.acknowledged, one.answer = True, reason
