"""Seeded bugs of bad records and dead letters; the table of all is in `seeded`."""

from collections.abc import Sequence
from dataclasses import replace

from tests.fault.harness.books import PSEUDONYMS
from tests.fault.harness.faults import control
from tests.fault.harness.findings import Finding
from tests.fault.harness.holding import until_applied
from tests.fault.harness.ledger import Offer, good_offer
from tests.fault.harness.replacing import QUICK_S, at_point, begin, end, until_one_died
from tests.fault.harness.run import Run
from tests.fault.harness.stories import Fact
from tests.fault.harness.system import API

_REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON fact FOR EACH ROW WHEN (NEW.fact_id = '{known}') EXECUTE FUNCTION refuse()
"""


@control("skips-bad-batches", "a batch in which one record fails is passed over", ("I1 lost",), persons=40, copies=(1.0,), http=0.0, guarded=True)
async def skips_bad_batches(run: Run) -> Sequence[Finding]:
    """The database will not have one of the facts, and everything waits when the workers come."""
    ledger = run.ledger
    one = _another(run, replace(ledger.facts[0], id="not-this-one"), "handler_failed")
    ledger.offers.insert(len(ledger.offers) // 2, ledger.offers.pop())
    end(run, "enrollment")
    await run.offer(ledger.offers)
    async with run.system.database("enrollment") as connection:
        await connection.execute(_REFUSING.format(known=PSEUDONYMS.fact(ledger.source, one.id)))
        try:
            await begin(run, "enrollment", "consuming:skipping_bad_batches")
            return await run.verdict(QUICK_S)
        finally:
            await connection.execute("DROP FUNCTION refuse() CASCADE")


@control(
    "letter-after-commit",
    "a dead letter is written after the batch is committed, and workers die in between",
    ("I1 lost",),
    persons=40,
    http=0.0,
    guarded=True,
)
async def letter_after_commit(run: Run) -> Sequence[Finding]:
    half = len(run.ledger.offers) // 2
    bad = [_spoilt(run, number) for number in range(10)]
    dying = at_point("kill", "enrollment/platform-events/before INSERT dead_letter (set_aside)")
    await begin(run, "enrollment", "consuming:setting_aside_later", env=dying)
    await run.offer([*run.ledger.offers[:half], *bad])
    await until_one_died(run, "enrollment")
    await begin(run, "enrollment", "consuming:setting_aside_later")
    await run.offer(run.ledger.offers)
    return await run.verdict(QUICK_S)


@control("id-reused", "another fact under a known id passes as a copy", ("I1 lost",), persons=40, http=0.0, guarded=True)
async def id_reused(run: Run) -> Sequence[Finding]:
    await begin(run, "enrollment", "enrollment:reused_ids_are_copies")
    await run.offer(run.ledger.offers)
    others = [
        _another(run, replace(fact, data={**fact.data, "occurred_at": "2025-04-01T08:00:00+07:00"}), "id_reused") for fact in run.ledger.facts[:5]
    ]
    await until_applied(run)
    await run.offer(others)
    return await run.verdict(QUICK_S)


_LETTERS = "SELECT dead_letter_id FROM dead_letter ORDER BY dead_letter_id"


@control("redriven-under-new-id", "what is redriven counts as a new event", ("I1 other",), persons=40, guarded=True)
async def redriven_under_new_id(run: Run) -> Sequence[Finding]:
    """Copies of facts that were spoilt on the way are mended and redriven, twice."""
    spoilt = [_spoilt(run, number) for number in range(10)]
    await begin(run, "enrollment", "consuming:new_id_for_each_redrive", numbers=[API])
    await run.offer(run.ledger.offers)
    await until_applied(run)
    async with run.system.database("enrollment") as connection:
        letters = [row[0] for row in await connection.fetch(_LETTERS)]
    assert len(letters) == len(spoilt)
    desk = f"{run.system.api_url('enrollment')}/v1/dead-letters"
    async with run.system.http() as http:
        for letter in letters:
            mended = {"headers": {"content-type": "application/json"}, "why": "a control wants it so"}
            (await http.patch(f"{desk}/{letter}", json=mended)).raise_for_status()
        for _ in range(2):
            (await http.post(f"{desk}/redrive", json={"all": True})).raise_for_status()
    return await run.verdict(QUICK_S)


def _spoilt(run: Run, number: int) -> Offer:
    """A copy of a fact that cannot be read, because of a header."""
    one = _another(run, run.ledger.facts[number], "unknown_content_type")
    one.headers = [(name, b"text/csv" if name == "content-type" else value) for name, value in one.headers]
    return one


def _another(run: Run, fact: Fact, refused_as: str) -> Offer:
    """A further offer of the run that must be refused."""
    one = good_offer(len(run.ledger.offers), run.ledger.source, fact, "kafka")
    one.refused_as = refused_as
    run.ledger.offers.append(one)
    return one
