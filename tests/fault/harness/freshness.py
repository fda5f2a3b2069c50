"""How fresh figures stay: seconds from the moment the broker has a fact until the figures that contain it are committed."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from tests.fault.harness.books import PSEUDONYMS
from tests.fault.harness.ledger import Ledger, good_offer
from tests.fault.harness.run import Run
from tests.fault.harness.stories import stories
from tests.support.waiting import eventually

PROBES_EVERY_S = 0.3
"""Pause between two probes, seconds."""

LOOKS_EVERY_S = 0.05
"""Pause between two looks at the figures, seconds; so exact is the figure."""

PERSONS = 300
"""Most probes of a run."""

SEEN_S = 90.0
"""Longest wait for the last probe, seconds."""

_SEEN = "SELECT person_ref FROM person_document WHERE person_ref = ANY($1::uuid[])"


@dataclass
class Freshness:
    """What was seen of the probes.

    Attributes:
        seconds: of each probe that arrived, in the order of arrival.
    """

    seconds: list[float] = field(default_factory=list)
    _waiting: dict[UUID, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """The longest, seconds."""
        return max(self.seconds)


@asynccontextmanager
async def measured(run: Run) -> AsyncIterator[Freshness]:
    """Offer one person after the other while the block lasts, and see when each stands in the figures' documents.

    A person's document and what it adds to the figures are committed together. Probes are facts as any others: they stand in the books.
    """
    source = f"{run.ledger.source}-probe"
    facts = list({fact.account: fact for fact in stories(run.draw.randrange(2**32), PERSONS) if fact.kind == "learner.registered"}.values())
    ledger = Ledger(source, [])
    found = Freshness()
    stop = asyncio.Event()

    async def probe() -> None:
        for fact in facts:
            if stop.is_set():
                return
            one = good_offer(len(ledger.offers), source, fact, "kafka")
            ledger.offers.append(one)
            ledger.facts.append(fact)
            await run.offer_of(ledger, [one])
            found._waiting[PSEUDONYMS.person(source, fact.account)] = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PROBES_EVERY_S)

    async def watch() -> None:
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                async with run.system.database("reporting") as connection:
                    while True:
                        for row in await connection.fetch(_SEEN, list(found._waiting)):
                            found.seconds.append(time.monotonic() - found._waiting.pop(row["person_ref"]))
                        await asyncio.sleep(LOOKS_EVERY_S)
            await asyncio.sleep(LOOKS_EVERY_S)

    probing, watching = asyncio.create_task(probe()), asyncio.create_task(watch())
    try:
        yield found
        stop.set()
        await probing
        await eventually(lambda: _all_seen(found), within=SEEN_S)
    finally:
        for task in (probing, watching):
            task.cancel()
        await asyncio.gather(probing, watching, return_exceptions=True)
        run.lab.books.enter(ledger)


async def _all_seen(found: Freshness) -> bool:
    return not found._waiting
