"""Faults of data: copies, order, poison, ids used twice, corrections."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import httpx
from aiokafka import AIOKafkaProducer

from shared.contracts.topics import PLATFORM_EVENTS, REFUSED_RECORD_BYTES
from tests.fault.harness.delays import measured
from tests.fault.harness.faults import fault
from tests.fault.harness.ledger import LEDGER_HEADER, Ledger, Offer, good_offer
from tests.fault.harness.offer import Pace
from tests.fault.harness.poison import ON_KAFKA, every_bad_record
from tests.fault.harness.run import Run
from tests.fault.harness.stories import CORRECTED, CORRECTING, Fact
from tests.support.waiting import eventually


@fault("X1", "each event one to five times, shuffled over both ways", seconds=2.0, copies=(0.2, 0.2, 0.2, 0.2, 0.2), persons=120)
async def copied_and_shuffled(run: Run) -> None:
    await asyncio.sleep(0)  # the ledger is the fault


LATEST_S = 5.0
"""No good fact may be applied later than this after it was sent, whatever stands before it (I13), seconds."""

GOOD_FOR_BAD = 100
"""Good records for each bad one."""

BOMBS = (("gzip", REFUSED_RECORD_BYTES), ("lz4", REFUSED_RECORD_BYTES), ("gzip", 4 * REFUSED_RECORD_BYTES))
"""Compressed batches of some kilobytes that hold a record of so many bytes; the last is larger than any that could come plain."""


@fault("X2", "one of each kind of poison among 100 good records each", seconds=6.0, persons=60)
async def poisoned(run: Run) -> None:
    ledger = run.another(persons=GOOD_FOR_BAD * len(ON_KAFKA) // 9, http=0.0)
    bad = every_bad_record(ledger.source, ledger.facts, run.draw)
    for one in bad:
        ledger.offers.insert(run.draw.randrange(len(ledger.offers)), one)
    for number, one in enumerate(ledger.offers):
        one.number = number
    batches = [(codec, _around(ledger, run.draw.sample(ledger.facts, 3), size)) for codec, size in BOMBS]
    async with measured(run.system) as delays:
        load = asyncio.create_task(run.offer_all(ledger, Pace(3.0)))
        for codec, batch in batches:
            await asyncio.sleep(run.draw.uniform(0.3, 0.9))
            await _send_together(run, codec, batch)
        await load
    seconds = [delays.seconds[one.mark] for one in ledger.offers if one.refused_as is None]
    assert max(seconds) <= LATEST_S, f"a good fact was applied {max(seconds):.1f} s after it was sent"
    assert await _letters(run, ledger) == len(bad) + len(BOMBS)


def _around(ledger: Ledger, facts: Sequence[Fact], size: int) -> list[Offer]:
    """A record of so many bytes between copies of two good ones, all of one key."""
    offers = [good_offer(len(ledger.offers) + number, ledger.source, fact, "kafka") for number, fact in enumerate(facts)]
    for one in offers:
        one.key, one.acknowledged, one.attempts = offers[1].key, True, 1  # sent by hand
    offers[1].refused_as, offers[1].body = "too_large", bytes(size)
    ledger.offers += offers
    return offers


async def _send_together(run: Run, codec: str, batch: Sequence[Offer]) -> None:
    """Send offers as one compressed batch."""
    producer = AIOKafkaProducer(
        bootstrap_servers=run.system.bootstrap_servers, acks="all", enable_idempotence=True, compression_type=codec, linger_ms=500,
        max_batch_size=8 * REFUSED_RECORD_BYTES, max_request_size=8 * REFUSED_RECORD_BYTES,
    )  # fmt: skip
    await producer.start()
    try:
        topic = PLATFORM_EVENTS.name
        sent = [await producer.send(topic, key=one.key, value=one.body, headers=[*one.headers, (LEDGER_HEADER, one.mark)]) for one in batch]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    batch[1].body = b""  # nobody needs it any more


_LETTERS = "SELECT count(*) FROM dead_letter WHERE header_values && (SELECT array_agg(convert_to(mark, 'UTF8')) FROM unnest($1::text[]) AS mark)"


async def _letters(run: Run, ledger: Ledger) -> int:
    """Dead letters of a ledger's bad records."""
    marks = [one.mark.decode() for one in ledger.offers if one.refused_as is not None]
    async with run.system.database("enrollment") as connection:
        return int(await connection.fetchval(_LETTERS, marks))


REUSED = 40
"""Ids that are used again: too few for a fuse to blow, wherever they come to lie."""

_REUSED = "enrollment_ids_reused_total "

_KNOWN = "SELECT count(*) FROM fact WHERE fact_id = ANY($1::uuid[])"


@fault("X5", "known ids with other content: another time, another person, another kind", seconds=5.0)
async def ids_reused(run: Run) -> None:
    ledger = run.another(persons=20, http=0.0)
    await run.offer_all(ledger)
    ids = [known for known, (source, _) in run.lab.books.facts.items() if source == ledger.source]

    async def applied() -> bool:
        async with run.system.database("enrollment") as connection:
            return bool(await connection.fetchval(_KNOWN, ids) == len(ids))

    await eventually(applied)
    before = await _counted(run)
    numbers = run.draw.sample(range(len(ledger.facts)), REUSED)
    again = [_again(ledger, number, run.draw.choice(ledger.facts)) for number in numbers]
    ledger.offers += again
    await run.offer_all(ledger)

    async def refused() -> bool:
        return await _letters(run, ledger) == len(again)

    await eventually(refused)
    assert await _counted(run) - before >= len(again), "an id was reused and nobody counted it"


def _again(ledger: Ledger, number: int, other: Fact) -> Offer:
    """Another fact under the id of a known one."""
    fact = ledger.facts[number]
    if number % 3 == 0 and other is not fact:
        told = replace(other, id=fact.id)
    elif number % 3 == 1:
        told = replace(fact, account="somebody-else", data={**fact.data, "account": "somebody-else"})
    else:
        told = replace(fact, data={**fact.data, "occurred_at": "2025-04-01T08:00:00+07:00"})
    offer = good_offer(len(ledger.offers) + number, ledger.source, told, "kafka")
    offer.refused_as = "id_reused"
    return offer


async def _counted(run: Run) -> float:
    """How many reused ids the workers have counted."""
    async with httpx.AsyncClient(timeout=5) as http:
        answers = [await http.get(f"{run.system.process('enrollment', number).url}/metrics") for number in range(1, run.system.workers + 1)]
    lines = (line for answer in answers for line in answer.text.splitlines() if line.startswith(_REUSED))
    return sum(float(line.removeprefix(_REUSED)) for line in lines)


@fault("X6", "corrections and revocations before, after and between copies of what they correct", seconds=5.0)
async def corrected(run: Run) -> None:
    ledger = run.another(persons=120, http=0.0, scripts=CORRECTED)
    by_enrollment: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in ledger.facts:
        by_enrollment[f"{fact.account}|{fact.enrollment}"].append(fact)
    ledger.offers.clear()
    ways = Counter[str]()
    queues = []
    for facts in by_enrollment.values():
        corrections = [fact for fact in facts if fact.kind in CORRECTING]
        others = [fact for fact in facts if fact.kind not in CORRECTING]
        way = run.draw.choice(("before", "after", "between"))
        ways[way] += bool(corrections)
        told = {
            "before": [*corrections, *others, *others],
            "after": [*others, *others, *corrections],
            "between": [*others, *corrections, *others],
        }[way]
        queues.append([*reversed(told)])
    while queues:
        # Everybody's facts side by side, those of one enrollment in their order.
        queue = run.draw.choice(queues)
        ledger.offers.append(good_offer(len(ledger.offers), ledger.source, queue.pop(), "kafka"))
        if not queue:
            queues.remove(queue)
    assert min(ways["before"], ways["after"], ways["between"]) > 0
    await run.offer_all(ledger, Pace(4.0))
