"""Recount from real topics: equal to what the fold made, and able to see what is not."""

import pytest
from prometheus_client import REGISTRY

from services.reporting import audit
from services.reporting.figures.handlers import Folding
from services.reporting.rebuild.rebuilding import rebuild
from shared.chassis.database import transaction
from shared.contracts.topics import ENROLLMENT_EVENTS
from tests.integration.reporting.test_fold import life
from tests.integration.reporting.told import enrolled, fold, person
from tests.integration.reporting.world import World, redrive_some, story
from tests.support.bakery import bake

pytestmark = pytest.mark.service("reporting")


async def test_the_recount_agrees_in_every_cell_and_sees_one_that_was_altered_and_one_that_was_lost(world: World) -> None:
    await world.write(story())
    await world.work(most=90)
    servers = world.infra.bootstrap_servers
    half = await audit.audit(world.pool, servers)
    assert (half.cells_differing, half.cells_compared > 100) == (0, True), half.examples
    await world.work()
    whole = await audit.audit(world.pool, servers)
    assert whole.cells_differing == 0, whole.examples
    assert whole.cells_compared > half.cells_compared > 0
    await world.pool.execute(
        "UPDATE figure SET n_pub = n_pub + 1 WHERE (indicator, course_set, node, day) = ('I-01', 'ALL', 'VN', DATE '1969-12-31')"
    )
    altered = await audit.audit(world.pool, servers)
    assert altered.examples == (("I-01", "ALL", "VN", "1969-12-31", "pub", "1", "0"),)
    await world.pool.execute("DELETE FROM figure WHERE (indicator, course_set, node, day) = ('I-01', 'ALL', 'VN', DATE '1969-12-31')")
    lost = await audit.audit(world.pool, servers)
    assert {example[4] for example in lost.examples} == {"all", "ungrouped"}
    runs = await world.pool.fetch("SELECT cells_differing FROM audit_run ORDER BY audit_run_id")
    assert [row[0] for row in runs] == [0, 0, 1, 2]
    await audit.show_last(world.pool)
    assert REGISTRY.get_sample_value("audit_drift_cells") == 2
    assert REGISTRY.get_sample_value("audit_cells_compared") == lost.cells_compared
    assert REGISTRY.get_sample_value("audit_last_success_timestamp_seconds")


async def test_the_recount_finds_persons_that_were_counted_without_being_told(world: World) -> None:
    await world.write(story())
    await world.work()
    async with transaction(world.pool) as tx:
        await fold(Folding(), tx, [person("Ghost", ("23377", "2020-01-01")), enrolled("Ghost", "BXD1", "2026-01-02T02:00:00Z")])
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing > 0


async def test_records_that_were_set_aside_are_in_no_figure_and_in_no_recount(world: World) -> None:
    await world.write(story())
    enrollments = world.topics[ENROLLMENT_EVENTS.name]
    headers = life(1)[2].headers
    await bake(world.infra.bootstrap_servers, enrollments, [(headers, b"\xff{"), (headers, b'{"version": 0}'), ([], b"{}")], 0)
    await world.work()
    assert await world.pool.fetchval("SELECT count(*) FROM dead_letter") == 3
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing == 0
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal


async def test_what_was_redriven_is_in_the_recount_as_it_was_mended_and_what_was_not_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await redrive_some(world)
    found = await audit.audit(world.pool, world.infra.bootstrap_servers)
    assert found.cells_differing == 0, found.examples
    monkeypatch.setattr(audit, "_LETTERS", audit._LETTERS.replace("'redriven' THEN", "'nothing' THEN").replace("state,", "'open' AS state,"))
    assert (await audit.audit(world.pool, world.infra.bootstrap_servers)).cells_differing > 0, "a recount that skips what was redriven is seen"


async def test_nothing_was_applied_yet(world: World) -> None:
    found = await audit.audit(world.pool, world.infra.bootstrap_servers)
    assert (found.cells_compared, found.cells_differing) == (0, 0)
    assert (await rebuild(world.pool, world.infra.bootstrap_servers)).equal
