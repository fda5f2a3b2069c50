"""The clerk's work on the real broker and database, with an effect that shows every double: a bakery counts its loaves."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import pytest
from prometheus_client import REGISTRY

from shared.chassis.consume import Subscription
from shared.chassis.database import Pool, Tx, opened_at
from shared.chassis.decode import Received, Refused
from shared.chassis.errors import Transient
from shared.chassis.letters import desk as desks
from shared.chassis.letters import store, watch
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.mending import Mending
from shared.chassis.letters.mistakes import Invalid, Settled, Unknown
from shared.chassis.letters.reasons import Reason, ReasonBook
from shared.chassis.letters.store import Filter
from tests.support.bakery import SCHEMA, Bakery, Loaf, bake, headers, loaf, open_bakery, read
from tests.support.infrastructure import Infrastructure
from tests.support.letters import acts, look_without_lock, set_aside, states
from tests.support.running import running
from tests.support.waiting import eventually

TOO_LIGHT = Reason("too_light", "Ổ bánh nhẹ hơn 10 gam.", "The loaf is lighter than 10 grams.", "Cân lại.", "Weigh it again.")


@dataclass
class Counter:
    """A bakery, its dead letters, and who works on them."""

    infra: Infrastructure
    pool: Pool
    bakery: Bakery
    desk: Desk

    async def baked(self) -> dict[str, int]:
        """How often each loaf was counted."""
        return {row["loaf"]: row["times"] for row in await self.pool.fetch("SELECT loaf, times FROM baked")}


@pytest.fixture
async def counter(infra: Infrastructure, pool: Pool) -> Counter:
    await pool.execute(SCHEMA)
    bakery = await open_bakery(infra.bootstrap_servers, partitions=1)
    return Counter(infra, pool, bakery, Desk(pool, bakery.group, [bakery.subscription()], ReasonBook([TOO_LIGHT])))


async def _consume(counter: Counter, records: list[tuple[list[tuple[str, bytes]], bytes]], letters: int) -> None:
    """Put records on the topic and let a consumer set the bad ones aside."""
    await bake(counter.infra.bootstrap_servers, counter.bakery.loaves, records)
    async with running(counter.infra.bootstrap_servers, counter.pool, counter.bakery.subscription(), counter.bakery.group):
        await eventually(lambda: _consumed(counter.pool, len(records)))
    assert len(await states(counter.pool)) == letters


async def _consumed(pool: Pool, records: int) -> bool:
    return int(await pool.fetchval("SELECT coalesce(sum(next_offset), 0) FROM consumed_offset")) >= records


MIXED = [
    (headers(0), loaf(0)),
    (headers(1), b'{"loaf": 7}'),
    (headers(2, type=b"bakery.loaf.backed.v1"), loaf(2)),
    (headers(3), loaf(3, grams=9)),
    (headers(4), b"{loaf"),
    (headers(5), loaf(5)),
]


async def test_a_letter_whose_record_is_applied_on_a_replay_is_settled_and_others_stay_open(counter: Counter) -> None:
    # A release that does not know the type yet sets everything aside.
    bakery, servers = counter.bakery, counter.infra.bootstrap_servers
    await bake(servers, bakery.loaves, [MIXED[0], MIXED[4], MIXED[5]])
    async with running(servers, counter.pool, Subscription(bakery.loaves, {}), bakery.group):
        await eventually(lambda: _consumed(counter.pool, 3))
    first, _, _ = sorted(entry.letter_id for entry in await counter.desk.page(Filter()))
    await counter.desk.edit(first, Mending(fields={"grams": 12}), "clerk", "looked wrong")
    await counter.pool.execute("UPDATE consumed_offset SET next_offset = 0")
    async with running(servers, counter.pool, bakery.subscription(), bakery.group):
        await eventually(lambda: _consumed(counter.pool, 3))
    assert sorted(await counter.baked()) == ["loaf-0", "loaf-5"]
    assert sorted(state for _, state, _ in await states(counter.pool)) == ["open", "redriven", "redriven"]
    # What was applied is what came, so nothing else may be said to have been.
    letter, done = await counter.desk.show(first)
    assert (letter.record.value, [one.by for one in done]) == (MIXED[0][1], ["clerk", "replay"])


async def test_a_redriven_event_tells_since_when_its_database_is_the_same(counter: Counter) -> None:
    """Whoever folds it says again what a lost database may have said since (decision 0011)."""
    told: list[bool] = []

    async def note(events: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        told.extend(event.taken_over_at == opened_at(tx) for event in events)
        return ()

    bakery = counter.bakery
    desk = Desk(counter.pool, bakery.group, [Subscription(bakery.loaves, dict.fromkeys(bakery.subscription().handlers, note))], ReasonBook())
    await set_aside(counter.pool, bakery.loaves, bakery.group, [(headers(0), loaf(0))], "not_json")
    await desk.redrive(Filter(), "lan")
    assert told == [True]


async def test_what_a_consumer_set_aside_is_listed_mended_and_applied_and_its_neighbours_are_not_touched(counter: Counter) -> None:
    desk = counter.desk
    await _consume(counter, MIXED, 4)
    entries = sorted(await desk.page(Filter()), key=lambda entry: entry.offset)
    assert [(entry.offset, entry.reason) for entry in entries] == [(1, "schema_violation"), (2, "unknown_type"), (3, "too_light"), (4, "not_json")]
    schema, mistyped, light, no_json = [entry.letter_id for entry in entries]

    assert await desk.edit(schema, Mending(fields={"loaf": "loaf-1"}), "lan", "the oven's list says so") is None
    assert await desk.edit(mistyped, Mending(headers={"ce_type": "bakery.loaf.baked.v1"}), "lan", "a letter too many") is None
    still = await desk.edit(no_json, Mending(data=b'{"loaf": 4}'), "lan", "half of it")
    assert still is not None
    assert still.reason == "schema_violation"
    assert (await counter.baked()).keys() == {"loaf-0", "loaf-5"}, "an edit applies nothing"

    done = await desk.redrive(Filter(), "lan")
    assert (done.done, done.refused, done.settled_before) == (2, {"too_light": 1, "schema_violation": 1}, 0)
    assert await counter.baked() == {"loaf-0": 1, "loaf-1": 1, "loaf-2": 1, "loaf-5": 1}
    assert {number: (state, reason) for number, state, reason in await states(counter.pool)} == {
        schema: ("redriven", "schema_violation"), mistyped: ("redriven", "unknown_type"),
        light: ("open", "too_light"), no_json: ("open", "schema_violation"),
    }  # fmt: skip

    dropped = await desk.drop(Filter(reason="too_light"), "minh", "it was a crumb")
    assert dropped.done == 1
    letter, journal = await desk.show(light)
    assert (letter.entry.state, letter.entry.settled_by, letter.record.value) == ("dropped", "minh", loaf(3, grams=9))
    assert [(one.act, one.by, one.outcome, one.why) for one in journal] == [
        ("redrive", "lan", "too_light", None), ("drop", "minh", "dropped", "it was a crumb"),
    ]  # fmt: skip
    assert await counter.baked() == {"loaf-0": 1, "loaf-1": 1, "loaf-2": 1, "loaf-5": 1}


async def test_what_is_redriven_is_announced_like_everything_else(counter: Counter) -> None:
    await _consume(counter, [(headers(1, type=b"mistyped"), loaf(1))], 1)
    (letter,) = await counter.desk.page(Filter())
    await counter.desk.edit(letter.letter_id, Mending(headers={"ce_type": "bakery.loaf.baked.v1"}), "lan", "mistyped")
    async with running(counter.infra.bootstrap_servers, counter.pool, counter.bakery.subscription(), counter.bakery.group):
        await counter.desk.redrive(Filter(), "lan")
        await eventually(lambda: _outbox_is_empty(counter.pool))
    (sold,) = await read(counter.infra.bootstrap_servers, counter.bakery.sales.name, 1)
    assert dict(sold.headers)["ce_id"] == b"sold-loaf-1"


async def _outbox_is_empty(pool: Pool) -> bool:
    return not await pool.fetchval("SELECT EXISTS (SELECT 1 FROM outbox)")


async def test_the_original_bytes_stay_for_ever(counter: Counter) -> None:
    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, [(headers(1), b"\xff{")], "not_utf8")
    (entry,) = await counter.desk.page(Filter())
    await counter.desk.edit(entry.letter_id, Mending(data=b'{"loaf": "a"}', headers={"ce_type": "mistyped"}), "lan", "first")
    await counter.desk.edit(entry.letter_id, Mending(fields={"grams": 20}), "minh", "second")
    await counter.desk.edit(entry.letter_id, Mending(headers={"ce_type": "bakery.loaf.baked.v1"}), "lan", "third")
    letter, journal = await counter.desk.show(entry.letter_id)
    assert (letter.original.value, list(letter.original.headers)) == (b"\xff{", headers(1))
    assert letter.record.value == b'{"loaf": "a", "grams": 20}'
    assert dict(letter.record.headers)["ce_type"] == b"bakery.loaf.baked.v1"
    assert letter.entry.edited
    assert letter.entry.event_type == "bakery.loaf.baked.v1"
    assert [(one.by, one.why, one.changed) for one in journal] == [
        ("lan", "first", ("data", "ce_type")), ("minh", "second", ("data.grams",)), ("lan", "third", ("ce_type",)),
    ]  # fmt: skip
    row = await counter.pool.fetchrow("SELECT value, header_values FROM dead_letter")
    assert row is not None
    assert (row["value"], row["header_values"]) == (b"\xff{", [text for _, text in headers(1)])
    # No value of a field stands in the journal.
    assert "loaf-" not in json.dumps([tuple(map(str, row)) for row in await counter.pool.fetch("SELECT * FROM dead_letter_act")])


async def test_redriven_twice_counts_once_and_the_second_time_says_so(counter: Counter) -> None:
    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, [(headers(n), loaf(n)) for n in range(20)], "unknown_type")
    assert (await counter.desk.redrive(Filter(), "lan")).done == 20
    again = await counter.desk.redrive(Filter(), "lan")
    assert (again.done, again.refused) == (0, {})
    (first, *_) = await counter.desk.page(Filter(state="redriven"))
    with pytest.raises(Settled, match=r"was redriven at .* by lan; nothing was done"):
        await counter.desk.insist_on_open(first.letter_id)
    with pytest.raises(Settled):
        await counter.desk.edit(first.letter_id, Mending(fields={"loaf": "x"}), "lan", "too late")
    assert set((await counter.baked()).values()) == {1}
    assert len(await acts(counter.pool)) == 20


async def _two_clerks(counter: Counter) -> dict[str, int]:
    """Two at once: the second comes while the first is in the middle of its transaction."""
    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, [(headers(n), loaf(n)) for n in range(20)], "unknown_type")
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        inside.set()
        await go_on.wait()
        return await counter.bakery.on_baked_quietly(records, tx)

    slow = Desk(counter.pool, counter.bakery.group, [Subscription(counter.bakery.loaves, {counter.bakery.baked: slowly})], ReasonBook())
    first = asyncio.create_task(slow.redrive(Filter(), "lan"))
    await inside.wait()
    second = asyncio.create_task(slow.redrive(Filter(), "minh"))
    await eventually(lambda: _somebody_waits_or_is_inside(counter.pool))
    go_on.set()
    done = [await first, await second]
    assert sum(one.done for one in done) + sum(one.settled_before for one in done) == 40
    return {"done": sum(one.done for one in done), "loaves": sum((await counter.baked()).values())}


async def _somebody_waits_or_is_inside(pool: Pool) -> bool:
    """The second clerk stands at the first one's rows, or, where nothing stops it, in a transaction of its own."""
    waiting = await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND database IS NULL OR NOT granted AND locktype = 'tuple'")
    inside = await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE '%dead_letter%'"
    )
    return bool(waiting) or inside >= 2


async def test_two_clerks_at_once_apply_once(counter: Counter) -> None:
    assert await _two_clerks(counter) == {"done": 20, "loaves": 20}


async def test_control_without_the_lock_two_clerks_apply_twice(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "lock_open", look_without_lock)
    assert await _two_clerks(counter) == {"done": 40, "loaves": 40}


async def test_control_a_letter_that_is_not_settled_is_counted_at_every_redrive(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(*_: object) -> None:
        return

    monkeypatch.setattr(store, "settle", forget)
    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, [(headers(1), loaf(1))], "unknown_type")
    for _ in range(2):
        await counter.desk.redrive(Filter(), "lan")
    assert await counter.baked() == {"loaf-1": 2}


async def test_a_letter_that_breaks_the_handler_is_found_among_its_neighbours_which_are_applied(counter: Counter) -> None:
    records = [(headers(n), loaf(n, grams=13) if n in (3, 40) else loaf(n)) for n in range(64)]
    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, records, "unknown_type")
    done = await counter.desk.redrive(Filter(), "lan")
    assert (done.done, done.refused) == (62, {"handler_failed": 2})
    assert set((await counter.baked()).values()) == {1}
    waiting = await counter.desk.page(Filter())
    assert [(entry.offset, entry.reason) for entry in waiting] == [(3, "handler_failed"), (40, "handler_failed")]
    assert "ZeroDivisionError" in waiting[0].detail


async def test_a_passing_error_is_waited_for_and_one_that_does_not_pass_changes_nothing(counter: Counter) -> None:
    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, [(headers(n), loaf(n)) for n in range(5)], "unknown_type")
    attempts = 0

    async def stumble(records: Sequence[Received[Loaf]], tx: Tx) -> Sequence[Refused]:
        nonlocal attempts
        attempts += 1
        refused = await counter.bakery.on_baked_quietly(records, tx)
        if attempts < 4:
            raise asyncpg.DeadlockDetectedError if attempts % 2 else Transient("the oven is cold")
        return refused

    desk = Desk(counter.pool, counter.bakery.group, [Subscription(counter.bakery.loaves, {counter.bakery.baked: stumble})], ReasonBook())
    with pytest.raises(asyncpg.DeadlockDetectedError):
        await desk.redrive(Filter(), "lan", patience_s=0)
    assert await counter.baked() == {}
    assert await acts(counter.pool) == []
    assert (await desk.redrive(Filter(), "lan")).done == 5
    assert set((await counter.baked()).values()) == {1}


async def test_a_topic_that_is_not_read_any_more_is_said_and_the_letter_stays(counter: Counter) -> None:
    await set_aside(counter.pool, counter.bakery.sales, counter.bakery.group, [(headers(1), loaf(1))], "not_json")
    assert (await counter.desk.redrive(Filter(), "lan")).refused == {"topic_not_read": 1}
    assert [state for _, state, _ in await states(counter.pool)] == ["open"]


async def test_filters_pages_and_counts(counter: Counter) -> None:
    group, loaves = counter.bakery.group, counter.bakery.loaves
    await set_aside(counter.pool, loaves, group, [(headers(n), b"{") for n in range(5)], "not_json")
    await set_aside(counter.pool, loaves, group, [(headers(n, type=b"other"), loaf(n)) for n in range(3)], "unknown_type")
    await set_aside(counter.pool, counter.bakery.sales, group, [(headers(9), b"{")], "not_json")
    await set_aside(counter.pool, loaves, "somebody else", [(headers(9), b"{")], "not_json")
    await counter.pool.execute("UPDATE dead_letter SET recorded_at = '2026-01-01T00:00:00Z' WHERE dead_letter_id <= 2")
    desk = counter.desk
    assert await desk.count(Filter()) == {"not_json": 6, "unknown_type": 3}
    assert await desk.count(Filter(reason="not_json", topic=loaves.name)) == {"not_json": 5}
    assert await desk.count(Filter(event_type="other")) == {"unknown_type": 3}
    old = await desk.page(Filter())
    at = old[0].set_aside_at
    assert len(await desk.page(Filter(until=old[-1].set_aside_at))) < 9
    assert [entry.letter_id for entry in await desk.page(Filter(since=at, until=old[2].set_aside_at))] == [1, 2]
    pages, after = [], 0
    while page := await desk.page(Filter(), after=after, limit=4):
        pages.append([entry.letter_id for entry in page])
        after = page[-1].letter_id
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert (await desk.drop(Filter(reason="not_json"), "lan", "test", most=2)).done == 2
    assert await desk.count(Filter(state=None)) == {"not_json": 6, "unknown_type": 3}
    assert await desk.count(Filter(state="dropped")) == {"not_json": 2}


async def test_many_are_applied_in_batches_and_progress_is_told(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "BATCH", 10)
    records = [(headers(n), loaf(n, grams=9) if n % 9 == 0 else loaf(n)) for n in range(95)]
    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, records, "unknown_type")
    told: list[int] = []
    done = await counter.desk.redrive(Filter(), "lan", tell=told.append)
    assert told == [10] * 9 + [5]
    assert (done.done, done.refused) == (84, {"too_light": 11})
    assert (await counter.desk.redrive(Filter(), "lan")).refused == {"too_light": 11}


@pytest.mark.parametrize("letter_id", [1, 2**62])
async def test_an_id_that_is_not_there_is_said(counter: Counter, letter_id: int) -> None:
    for work in (
        counter.desk.show(letter_id), counter.desk.insist_on_open(letter_id), counter.desk.edit(letter_id, Mending(fields={"a": 1}), "lan", "x"),
    ):  # fmt: skip
        with pytest.raises(Unknown):
            await work


async def test_who_does_it_and_why_must_be_said(counter: Counter) -> None:
    for work in (
        counter.desk.redrive(Filter(), ""), counter.desk.drop(Filter(), "lan", ""), counter.desk.edit(1, Mending(fields={"a": 1}), "lan", " "),
    ):  # fmt: skip
        with pytest.raises(Invalid):
            await work


async def test_the_gauge_tells_what_waits_and_forgets_what_does_not(counter: Counter) -> None:
    def gauge(reason: str) -> float | None:
        return REGISTRY.get_sample_value("dead_letters_open", {"group": counter.bakery.group, "reason": reason})

    await set_aside(counter.pool, counter.bakery.loaves, counter.bakery.group, [(headers(n), b"{") for n in range(3)], "not_json")
    await watch.measure_open(counter.pool, counter.bakery.group)
    assert gauge("not_json") == 3
    await counter.desk.drop(Filter(), "lan", "test")
    await watch.measure_open(counter.pool, counter.bakery.group)
    assert gauge("not_json") is None
