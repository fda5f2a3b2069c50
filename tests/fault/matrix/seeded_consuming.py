"""Seeded bugs of consuming; the table of all is in `seeded`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from shared.contracts.topics import ENROLLMENT_EVENTS, OUTCOME_FACTS, PLATFORM_EVENTS
from tests.fault.harness.books import PSEUDONYMS
from tests.fault.harness.faults import control
from tests.fault.harness.findings import Finding
from tests.fault.harness.holding import offer_half, until_relayed
from tests.fault.harness.replacing import (
    BUGS,
    QUICK_S,
    at_point,
    begin,
    end,
    on_order,
    order,
    until_frozen,
    until_one_died,
)
from tests.fault.harness.run import Run
from tests.support.tampering import admin
from tests.support.waiting import eventually

_FAILING = """
CREATE SEQUENCE failures;
GRANT USAGE ON SEQUENCE failures TO PUBLIC;
CREATE FUNCTION fail_at_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('failures') <= 3 THEN
        RAISE EXCEPTION 'could not serialize access due to a test' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail_at_first AFTER INSERT ON fact FOR EACH STATEMENT EXECUTE FUNCTION fail_at_first();
"""

_NO_LONGER = "DROP FUNCTION fail_at_first() CASCADE; DROP SEQUENCE failures"


@control(
    "default-acknowledgement",
    "FastStream's default acknowledgement, and three statements fail",
    ("I1 lost",),
    persons=40,
    copies=(1.0,),
    http=0.0,
    guarded=True,
)
async def default_acknowledgement(run: Run) -> Sequence[Finding]:
    await begin(run, "enrollment", "consuming:default_acknowledgement")
    async with _first_inserts_fail(run):
        await run.offer(run.ledger.offers)
        return await run.verdict(QUICK_S)


@asynccontextmanager
async def _first_inserts_fail(run: Run) -> AsyncIterator[None]:
    """The first three statements that store facts fail, as beside serializable transactions."""
    async with run.system.database("enrollment") as connection:
        await connection.execute(_FAILING)
        try:
            yield
        finally:
            await connection.execute(_NO_LONGER)


@control(
    "acknowledged-first",
    "offsets go to Kafka before the commit, and workers die in between",
    ("I1 lost",),
    persons=40,
    copies=(1.0,),
    http=0.0,
    guarded=True,
)
async def acknowledged_first(run: Run) -> Sequence[Finding]:
    await _dying_at(run, "consuming:acknowledging_first", "before COMMIT of UPDATE consumed_offset")
    return await run.verdict(QUICK_S)


@control("no-offset-row", "offset rows fence nobody, and workers die after the commit", ("I2 double",), persons=40, http=0.0, guarded=True)
async def no_offset_row(run: Run) -> Sequence[Finding]:
    await _dying_at(run, "consuming:without_offset_rows", "before commit")
    return await run.verdict(QUICK_S)


async def _dying_at(run: Run, bug: str, point: str) -> None:
    """Offer half to workers of enrollment that die at a point of a batch, and the rest to others that do not."""
    half = len(run.ledger.offers) // 2
    await begin(run, "enrollment", bug, env=at_point("kill", f"enrollment/{PLATFORM_EVENTS.name}/{point}"))
    await run.offer(run.ledger.offers[:half])
    await until_one_died(run, "enrollment")
    await begin(run, "enrollment", bug)
    await run.offer(run.ledger.offers[half:])


_SESSIONS = "SELECT array_agg(pid) FROM pg_stat_activity WHERE usename = 'reporting'"

_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reporting' AND pid <> ALL($1) AND pg_blocking_pids(pid) && $1"


@control(
    "offsets-after-state",
    "on takeover state is read before the offsets, while the old owner commits",
    ("I3 drifted",),
    persons=40,
    http=0.0,
    guarded=True,
)
async def offsets_after_state(run: Run) -> Sequence[Finding]:
    """The old owner is frozen when it has written and not committed; it is woken when the new one has taken over, commits, and dies."""
    commit = f"reporting/{ENROLLMENT_EVENTS.name}/{{}} COMMIT of UPDATE consumed_offset"
    end(run, "reporting")
    await offer_half(run, first=True)
    await until_relayed(run)  # so that its first batch is no small one
    env = on_order(run)
    order(run, "freeze", commit.format("before"))
    run.system.start_replica("reporting", 1, env, [f"{BUGS}.server:keeping_locks"])
    old = await until_frozen(run, "reporting", [1])
    async with run.system.database("reporting") as connection:
        sessions = await connection.fetchval(_SESSIONS)
        # One that the group does not know: it gets all partitions at once, when both of the old ones have been silent for long enough.
        starting = asyncio.create_task(begin(run, "reporting", "reporting:reading_state_before_offsets", numbers=[3]))
        # It has records at hand and waits for a row that the old owner has locked, so it has taken over.
        await eventually(lambda: connection.fetchval(_WAITS, sessions))
        order(run, "kill", commit.format("after"))
        old.wake()
        await until_one_died(run, "reporting", [1])
    await starting
    await offer_half(run, first=False)
    await run.until_through()
    end(run, "reporting", [3])
    await begin(run, "reporting")
    del run.system.processes["reporting", 3]
    return await run.verdict(QUICK_S)


_NEVER_READ = "DELETE FROM consumed_offset WHERE topic = $1"


@control("latest", "a new group begins at the end of the log, where records wait for it", ("I1 lost",), persons=40, http=0.0, guarded=True)
async def latest(run: Run) -> Sequence[Finding]:
    end(run, "assessment")
    places = [TopicPartition(OUTCOME_FACTS.name, partition) for partition in range(OUTCOME_FACTS.partitions)]
    async with admin(run.system.bootstrap_servers) as client:
        # What earlier runs left there is gone as by retention, or a group that is new would rightly read it.
        await client.delete_records(dict.fromkeys(places, RecordsToDelete(before_offset=-1)))
    async with run.system.database("assessment") as connection:
        await connection.execute(_NEVER_READ, OUTCOME_FACTS.name)
    await run.offer(run.ledger.offers)
    wanted = {str(PSEUDONYMS.fact(run.ledger.source, fact.id)) for fact in run.ledger.facts if fact.kind.startswith("completion.")}

    async def handed_on() -> bool:
        await run.lab.reader.catch_up([OUTCOME_FACTS])
        return wanted <= run.lab.reader.outcome_facts

    await eventually(handed_on)
    await begin(run, "assessment", "consuming:latest")
    return await run.verdict(QUICK_S)
