"""What a rebuild does not do: change anything when it is killed or must refuse, keep folds waiting, or announce what did not change."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.reporting import audit
from services.reporting.figures.store import share
from services.reporting.publication.publisher import Publisher
from services.reporting.publication.read_back import Seen
from services.reporting.rebuild import reading, rebuilding, store
from services.reporting.rebuild.rebuilding import rebuild
from services.reporting.rebuild.store import CannotRebuild
from shared.chassis.database import transaction
from shared.contracts.topics import ENROLLMENT_EVENTS, REGISTRY_EVENTS, Topic
from tests.integration.reporting.told import figures
from tests.integration.reporting.world import World, story
from tests.support.reporting_town import Done, Town
from tests.support.tampering import configure, delete_before, recreate

pytestmark = pytest.mark.service("reporting")

NOW = datetime(2026, 11, 1, 3, tzinfo=UTC)


@pytest.fixture
def town(world: World, tmp_path: Path) -> Town:
    """The commands of an operator on the world's topics."""
    return Town(world.infra, world.dsn, tmp_path, world.topics[REGISTRY_EVENTS.name].name.removeprefix(f"{REGISTRY_EVENTS.name}-"))


def sentences(done: Done) -> list[str]:
    """What it said to the person who called it; the log is JSON."""
    return [line for line in done.errors.splitlines() if line and not line.startswith("{")]


@pytest.mark.parametrize("moment", ["reading", "comparing", "switched"])
async def test_killed_at_any_moment_it_has_changed_nothing(world: World, town: Town, moment: str) -> None:
    await world.write(story())
    await world.work(most=90)
    right = await town.digests()
    child = await town.begin("rebuild", TEST_GATE=moment)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"gate\n"
    if moment == "reading":
        second = await town.command("rebuild")
        assert (second.status, sentences(second)) == (2, ["nothing was changed: another rebuild is at work"])
    child.kill()
    await child.wait()
    assert await town.digests() == right
    await world.work()
    again = await town.command("rebuild", "--json")
    assert (again.status, again.told["equal"]) == (0, True), again.errors
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0


async def test_control_what_a_switch_leaves_that_has_no_transaction(world: World, town: Town) -> None:
    """The same kill, when the switch is made in two: there is nothing to read any more."""
    await world.write(story())
    await world.work()
    child = await town.begin("rebuild", TEST_BUG="two_transactions")
    assert child.stdout is not None
    assert await child.stdout.readline() == b"gate\n"
    child.kill()
    await child.wait()
    assert await world.pool.fetchval("SELECT to_regclass('public.figure')") is None


async def lose_the_beginning(world: World) -> Topic:
    """As retention does to a topic that somebody made one that deletes."""
    topic = world.topics[ENROLLMENT_EVENTS.name]
    await configure(world.infra.bootstrap_servers, topic, {"cleanup.policy": "delete"})
    await delete_before(world.infra.bootstrap_servers, topic, 7, partition=1)
    return topic


async def test_a_topic_that_lost_its_beginning_is_not_made_again(world: World, town: Town) -> None:
    await world.write(story())
    await world.work()
    right = await town.digests()
    topic = await lose_the_beginning(world)
    refused = await town.command("rebuild")
    (sentence,) = sentences(refused)
    assert refused.status == 2
    assert f"partition 1 of {topic.name} begins at offset 7: retention has removed records that the figures contain" in sentence
    assert await town.digests() == right


async def test_control_without_the_look_the_loss_would_be_made_real(world: World, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.write(story())
    await world.work()
    right = await town.digests()
    await lose_the_beginning(world)
    places = store.places

    async def anything_goes(*told: object) -> list[store.LivePlace]:
        return [store.LivePlace(one.at, one.row, 1_000_000) for one in await places(*told)]  # type: ignore[arg-type]

    monkeypatch.setattr(store, "places", anything_goes)
    assert not (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
    assert await town.digests() != right


async def test_a_topic_that_was_made_again_is_not_read(world: World) -> None:
    await world.write(story())
    await world.work()
    await world.pool.execute("UPDATE consumed_offset SET topic_id = gen_random_uuid()")
    with pytest.raises(CannotRebuild, match="was deleted and made again"):
        await rebuild(world.pool, world.infra.bootstrap_servers)
    await world.pool.execute("UPDATE consumed_offset SET topic_id = NULL")
    await recreate(world.infra.bootstrap_servers, world.topics[ENROLLMENT_EVENTS.name])
    with pytest.raises(CannotRebuild, match="the log ended at offset 0"):
        await rebuild(world.pool, world.infra.bootstrap_servers)


async def test_another_schema_and_a_record_that_cannot_be_read_any_more_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.write(story())
    await world.work()
    right = await figures(world.pool)
    types = {name: known for name, known in reading.TYPES.items() if "completion" not in name}
    with monkeypatch.context() as patch:
        patch.setattr(reading, "TYPES", types)
        with pytest.raises(CannotRebuild, match="is in the figures, but this program cannot read it"):
            await rebuild(world.pool, world.infra.bootstrap_servers)
    await world.pool.execute("DELETE FROM schema_migration WHERE name LIKE '0004%'")
    with pytest.raises(CannotRebuild, match="run migrate first"):
        await rebuild(world.pool, world.infra.bootstrap_servers)
    assert await figures(world.pool) == right
    assert not await world.pool.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'rebuild')"), "nothing is left behind"


async def test_it_gives_way_to_a_fold_that_takes_long_and_gives_up_in_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers and entities are folded beside a live fold that is not finished; only the switch has to wait for it."""
    await world.write(story())
    await world.work()
    monkeypatch.setattr(rebuilding, "PAUSE_S", 0.0)
    monkeypatch.setattr(rebuilding, "ATTEMPTS", 2)
    monkeypatch.setattr(store, "WAITS_MS", 50)
    stages: list[str] = []
    async with transaction(world.pool) as tx:
        await share(tx)
        with pytest.raises(CannotRebuild, match="at each of 2 attempts"):
            await rebuild(world.pool, world.infra.bootstrap_servers, lambda stage, done, there: stages.append(stage))
        # Between two attempts nobody waits.
        async with transaction(world.pool) as other:
            await share(other)
    assert stages.count("switching") == 2
    done = await rebuild(world.pool, world.infra.bootstrap_servers)
    assert (done.equal, done.attempts) == (True, 1)


async def test_what_did_not_change_is_not_announced_again_and_what_was_wrong_is(world: World) -> None:
    await world.write(story())
    await world.work()

    async def nothing(_: datetime) -> dict[str, Seen]:
        return {}

    clock = [NOW]
    publish = Publisher(world.pool, lambda: clock[-1], lambda: None, nothing).publish
    assert await publish() > 50
    versions = "SELECT cell, version FROM published_figure ORDER BY cell"
    before = {row["cell"]: row["version"] for row in await world.pool.fetch(versions)}
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
    assert await publish() == 0
    # A figure that nobody is behind was published; the right one has no row at all.
    await world.pool.execute("INSERT INTO figure VALUES ('I-04', 'ALL', 'VN/96', '2026-08-01', 5, 5, 0, 0, 0, 0)")
    await world.pool.execute("INSERT INTO figure_change VALUES ('I-04', 'ALL', 'VN/96', '2026-08-01')")
    assert await publish() == 2, "the quarter in which it began, and the one after it"
    wrong = {row["cell"]: row["version"] for row in await world.pool.fetch(versions)}
    done = await rebuild(world.pool, world.infra.bootstrap_servers)
    assert (done.figures_differing, done.examples) == (1, (("I-04", "ALL", "VN/96", "2026-08-01", "5 5 0 0 0 0", "0 0 0 0 0 0"),))
    # A clock that stands back gives no lower version.
    clock.append(NOW - timedelta(days=1))
    assert await publish() == 2
    after = {row["cell"]: row["version"] for row in await world.pool.fetch(versions)}
    mended = {"I-04/ALL/VN/96/2026Q3", "I-04/ALL/VN/96/2026Q4"}
    assert all(after[cell] > wrong[cell] for cell in mended)
    assert {cell: version for cell, version in after.items() if cell not in mended} == before


async def test_a_run_is_noted_and_shown(world: World) -> None:
    await world.write(story())
    await world.work()
    await world.pool.execute("UPDATE figure SET n_all = n_all + 1 WHERE node = 'VN' AND indicator = 'I-04'")
    assert not (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
    await store.show_last(world.pool)
    assert REGISTRY.get_sample_value("rebuild_differing_tables") == 1
    assert REGISTRY.get_sample_value("rebuild_last_success_timestamp_seconds") == 0
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
    await store.show_last(world.pool)
    assert REGISTRY.get_sample_value("rebuild_differing_tables") == 0
    assert REGISTRY.get_sample_value("rebuild_last_success_timestamp_seconds")
    assert [row["differing"] for row in await world.pool.fetch("SELECT differing FROM rebuild_run ORDER BY rebuild_run_id")] == [["figure"], []]
