"""Seeded bugs of relaying, and of commits that are not on the disk; the table of all is in `seeded`."""

import asyncio
import os
import signal
from collections.abc import Sequence

from deploy.local.layout import SERVICES
from tests.fault.harness.faults import control
from tests.fault.harness.findings import Finding
from tests.fault.harness.holding import nobody_relays, offer_half, somebody_relays, until_applied, until_relayed
from tests.fault.harness.ledger import good_offer
from tests.fault.harness.replacing import BUGS, QUICK_S, at_point, begin, end, on_order, order, until_frozen, until_one_died
from tests.fault.harness.run import Run
from tests.fault.harness.stories import COURSES
from tests.fault.harness.system import API
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually


@control("relay-newest-first", "the relay publishes what is newest first", ("I8",), persons=40, http=0.0, guarded=True)
async def relay_newest_first(run: Run) -> Sequence[Finding]:
    """Two versions of many entities wait in the outbox when the relay comes to it."""
    await begin(run, "enrollment", "relaying:newest_first")
    await nobody_relays(run)
    await offer_half(run, first=True)
    await offer_half(run, first=False)
    await somebody_relays(run)
    return await run.verdict(QUICK_S)


@control(
    "relay-pages-by-id",
    "the relay asks for ids above the last, and one that is lower commits late",
    ("I1 lost",),
    persons=40,
    copies=(1.0,),
    http=0.0,
    guarded=True,
)
async def relay_pages_by_id(run: Run) -> Sequence[Finding]:
    """The API is frozen when it has written to the outbox and not committed; meanwhile workers write behind it and relay."""
    ledger = run.ledger
    number, fact = next(
        (n, f) for n, o in enumerate(ledger.offers) for f in ledger.facts if f.id == o.id and (f.course is None or f.course in COURSES)
    )
    slow = ledger.offers[number] = good_offer(number, ledger.source, fact, "http")
    others = [one for one in ledger.offers if one is not slow]
    await begin(run, "enrollment", "relaying:paging_by_id")
    frozen = at_point("freeze", "enrollment/POST events/after COPY outbox (announce)")
    await begin(run, "enrollment", numbers=[API], env=frozen, also=[f"{BUGS}.server:keeping_locks"])
    posting = asyncio.create_task(run.offer([slow]))
    api = await until_frozen(run, "enrollment", [API])
    await run.offer(others[: len(others) // 2])
    await until_applied(run)
    await until_relayed(run)
    api.wake()
    await posting
    await run.offer(others[len(others) // 2 :])
    return await run.verdict(QUICK_S)


@control("relay-without-epoch", "a relay that was frozen and lost its lease goes on where it was", ("I8",), persons=40, http=0.0, guarded=True)
async def relay_without_epoch(run: Run) -> Sequence[Finding]:
    """It has old versions at hand; another has published newer ones when it wakes."""
    await begin(run, "enrollment", "relaying:without_epoch", env=on_order(run))
    await nobody_relays(run)
    await offer_half(run, first=True)
    order(run, "freeze", "enrollment/relay/before send")
    await somebody_relays(run)
    old = await until_frozen(run, "enrollment")
    await offer_half(run, first=False)
    await until_relayed(run)
    before = await _starts_over(old)
    old.wake()

    async def noticed() -> bool:
        return await _starts_over(old) > before

    await eventually(noticed)
    return await run.verdict(QUICK_S)


async def _starts_over(process: ServiceProcess) -> int:
    """How often a process's relay has found that it is not the one any more."""
    return (await asyncio.to_thread(process.log.read_text, "utf-8")).count("relay starts over")


@control(
    "relay-deletes-first",
    "rows leave the outbox before the broker has them, and relays die in between",
    ("I1 lost",),
    persons=40,
    http=0.0,
    guarded=True,
)
async def relay_deletes_first(run: Run) -> Sequence[Finding]:
    dying = at_point("kill", "enrollment/relay/before begin_transaction")
    await begin(run, "enrollment", "relaying:deleting_first", env=dying)
    half = len(run.ledger.offers) // 2
    await run.offer(run.ledger.offers[:half])
    await until_one_died(run, "enrollment")
    await begin(run, "enrollment", "relaying:deleting_first")
    await run.offer(run.ledger.offers[half:])
    return await run.verdict(QUICK_S)


TRIES = 5
"""How often facts are offered until nobody has brought them to the disk."""

_WRITERS = """
SELECT array_agg(pid) FROM pg_stat_activity
WHERE backend_type IN ('walwriter', 'checkpointer', 'background writer', 'autovacuum launcher', 'autovacuum worker')
"""


@control(
    "commit-not-synchronous",
    "commits are answered before they are on the disk, and the server dies",
    ("I1 lost",),
    persons=20,
    http=1.0,
    guarded=True,
)
async def commit_not_synchronous(run: Run) -> Sequence[Finding]:
    """Whoever else would bring the log to the disk is away or frozen, so that what would be luck is certain."""
    ledger = run.ledger
    for service in SERVICES:
        end(run, service, [number for name, number in run.system.processes if name == service])
    await begin(run, "enrollment", "server:without_synchronous_commit", numbers=[API])
    for _ in range(TRIES):
        async with run.system.database("postgres") as connection:
            # Who makes room for a page that is not on the disk brings the whole log there first, so there must be room.
            await connection.execute("CHECKPOINT")
            for pid in await connection.fetchval(_WRITERS):
                os.kill(pid, signal.SIGSTOP)
            await run.offer_of(ledger, [one for one in ledger.offers if one.way != "kafka"])
            answered = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        await run.system.kill_database()
        await run.system.start_database()
        async with run.system.database("postgres") as connection:
            if run.guarded or await connection.fetchval("SELECT pg_current_wal_insert_lsn() < $1", answered):
                break
        # Somebody brought the log to the disk: an autovacuum worker that began just then, a page of the commit log that had to give way.
        await run.offer_all(ledger)
        ledger = run.another(persons=20, http=1.0)
    else:
        raise AssertionError(f"the log was on the disk {TRIES} times")
    end(run, "enrollment", [API])
    run.system.start_services()
    await run.system.ready()
    await run.offer_of(ledger, [one for one in ledger.offers if one.way == "kafka"])
    return await run.verdict(QUICK_S)
