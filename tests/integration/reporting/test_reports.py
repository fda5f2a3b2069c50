"""Frozen reports that do not move, live figures over HTTP, and what the figures topic is told."""

import asyncio
import csv
import hashlib
import io
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from services.reporting.api import create_router
from services.reporting.periods import handlers, store
from services.reporting.periods.domain import period
from services.reporting.periods.handlers import BeforeMovement, Frozen, NotFrozen, NotOver, UnknownNode
from services.reporting.publication import publisher as publication
from services.reporting.publication.publisher import Publisher
from services.reporting.publication.read_back import Seen
from shared.chassis import outbox
from shared.chassis.database import Pool, Tx
from shared.chassis.errors import is_transient
from shared.chassis.health import Health
from shared.chassis.http import create_api
from shared.chassis.service import Runtime
from shared.chassis.settings import ApiKey
from shared.contracts.reporting import FIGURE_PUBLISHED, REPORT_FROZEN, Figure, Report
from tests.integration.reporting.told import TERRITORY, completed, course, enrolled, person, tell, unit, value

pytestmark = pytest.mark.service("reporting")

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
"""In the fourth quarter of 2026."""

LAN = (
    *TERRITORY,
    course("BXD1", "KH-440"),
    person("Lan", ("23377", "2020-01-01"), groups=("PUB",)),
    enrolled("Lan", "BXD1", "2026-06-20T02:00:00Z", "2026-06-21T02:00:00Z"),
    completed("Lan", "BXD1", "2026-09-14T16:59:59Z"),
)


async def freeze(pool: Pool, code: str, scope: str = "VN", at: datetime = NOW) -> Frozen | NotFrozen:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        return await handlers.freeze(connection, scope, period(code), at)


async def announced(pool: Pool, topic: str) -> list[dict[str, Any]]:
    """Data of the events in the outbox, which is emptied."""
    async with pool.acquire() as connection:
        rows = await outbox.pending(connection, 10_000)
        await outbox.published(connection, [row.seq for row in rows])
    return [json.loads(row.value or b"") for row in rows if row.topic == topic]


# Freezing.


async def test_what_was_frozen_never_moves_and_freezing_again_gives_the_same_report(pool: Pool) -> None:
    await tell(pool, *LAN)
    first = await freeze(pool, "2026Q3")
    assert isinstance(first, Frozen)
    assert not first.already
    async with pool.acquire() as connection:
        rows = await store.report_figures(connection, first.report.report_id)
    assert {row[:3]: row[3] for row in rows}["I-05", "ALL", "VN/51/23377"] == 1
    # A late fact of the quarter: live figures move, the signed ones do not.
    await tell(pool, person("Minh", ("23377", "2020-01-01")), enrolled("Minh", "BXD1", "2026-07-01T02:00:00Z", "2026-07-01T03:00:00Z"))
    assert await value(pool, "I-01", "VN") == 2
    again = await freeze(pool, "2026Q3", at=NOW + timedelta(days=1))
    assert isinstance(again, Frozen)
    assert again.already
    assert again.report == first.report
    async with pool.acquire() as connection:
        assert await store.report_figures(connection, first.report.report_id) == rows
    assert handlers.is_intact(first.report, rows)
    events = await announced(pool, "report-events")
    assert [Report.model_validate_json(json.dumps(event)).sha256 for event in events] == [first.report.sha256]
    assert REPORT_FROZEN.decode(json.dumps(events[0]).encode()).period == "2026Q3"


async def test_a_period_that_is_not_over_is_not_frozen(pool: Pool) -> None:
    assert await freeze(pool, "2026Q4") == NotOver(datetime(2026, 12, 14, 17, tzinfo=UTC))
    assert isinstance(await freeze(pool, "2026Q3", at=datetime(2026, 9, 14, 17, tzinfo=UTC)), Frozen)
    assert isinstance(await freeze(pool, "2026H1", at=datetime(2026, 6, 14, 16, 59, 59, tzinfo=UTC)), NotOver)


@pytest.mark.parametrize("scope", ["VN/%", "VN/5_", "VN/", "V", "foo", "", "VN/99", "VN/51/00004", "VN\x00"])
async def test_a_scope_that_is_no_node_is_not_frozen_whoever_asks(pool: Pool, scope: str) -> None:
    await tell(pool, *LAN)
    assert await freeze(pool, "2026Q3", scope) == UnknownNode()
    assert await pool.fetchval("SELECT count(*) FROM report") == 0


async def test_a_report_holds_its_node_and_what_is_below_and_nothing_beside_it(pool: Pool) -> None:
    minh = (person("Minh", ("00004", "2020-01-01")), enrolled("Minh", "BXD1", "2026-07-01T02:00:00Z", "2026-07-01T03:00:00Z"))
    await tell(pool, *LAN, *minh, person("Hoa", ("51", "2020-01-01")), enrolled("Hoa", "BXD1", "2026-07-01T02:00:00Z"))
    for scope, nodes in (
        ("VN", {"VN", "VN/01", "VN/01/00004", "VN/51", "VN/51/23377", "VN/51/?"}),
        ("VN/51", {"VN/51", "VN/51/23377", "VN/51/?"}),
        ("VN/51/23377", {"VN/51/23377"}),
        ("VN/?", set()),
    ):
        frozen = await freeze(pool, "2026Q3", scope)
        assert isinstance(frozen, Frozen)
        async with pool.acquire() as connection:
            assert {row[2] for row in await store.report_figures(connection, frozen.report.report_id)} == nodes


async def test_a_period_before_the_movement_is_not_frozen(pool: Pool) -> None:
    await tell(pool, *TERRITORY)
    assert await freeze(pool, "2000Q1") == await freeze(pool, "2025Q1") == BeforeMovement()
    assert isinstance(await freeze(pool, "2025Q2"), Frozen)


async def test_figures_that_came_and_went_leave_no_trace_in_a_report(pool: Pool) -> None:
    await tell(pool, *LAN)
    first = await freeze(pool, "2026Q3")
    await tell(pool, enrolled("Lan", "BXD1", "2026-06-20T02:00:00Z", status="VOIDED", version=2))
    await tell(pool, enrolled("Lan", "BXD1", "2026-06-20T02:00:00Z", "2026-06-21T02:00:00Z", version=3))
    await tell(pool, person("Minh", ("00004", "2020-01-01")), enrolled("Minh", "BXD1", "2026-07-01T02:00:00Z", version=1))
    await tell(pool, enrolled("Minh", "BXD1", "2026-07-01T02:00:00Z", status="VOIDED", version=2))
    await pool.execute("DELETE FROM report_figure; DELETE FROM report_place; DELETE FROM report")
    second = await freeze(pool, "2026Q3")
    assert isinstance(first, Frozen)
    assert isinstance(second, Frozen)
    assert (second.report.sha256, second.report.figures) == (first.report.sha256, first.report.figures)


async def test_two_who_freeze_at_once_get_one_report(pool: Pool) -> None:
    await tell(pool, *LAN)

    outcomes = await asyncio.gather(*(freeze(pool, "2026Q3") for _ in range(4)))
    assert Counter(one.already for one in outcomes if isinstance(one, Frozen)) == {False: 1, True: 3}
    assert await pool.fetchval("SELECT count(*) FROM report") == 1
    assert len(await announced(pool, "report-events")) == 1


# Publication.


async def nothing(_: datetime) -> dict[str, Seen]:
    """Subscribers hold what the tables say."""
    return {}


async def publish(pool: Pool, publisher: Publisher | None = None) -> dict[str, Figure]:
    """One round of a publisher, by default a fresh one; what it announced, by cell."""
    await (publisher or Publisher(pool, lambda: NOW, lambda: None, nothing)).publish()
    found = [FIGURE_PUBLISHED.decode(json.dumps(data).encode()) for data in await announced(pool, "figures")]
    assert len({one.cell for one in found}) == len(found)
    return {one.cell: one for one in found}


async def test_changed_cells_are_published_from_the_quarter_of_the_change_on_and_unchanged_ones_never(pool: Pool) -> None:
    await tell(pool, *LAN)
    first = await publish(pool)
    assert first["I-01/ALL/VN/2026Q3"].counts.all == first["I-01/ALL/VN/2026Q4"].counts.all == first["I-01/KH-440/VN/51/2026Q4"].counts.pub == 1
    assert (first["I-05/ALL/VN/2026Q3"].counts.all, first["I-05/ALL/VN/2026Q4"].counts.all) == (1, 0)
    assert "I-01/ALL/VN/2026Q2" not in first
    assert not any(cell.startswith("I-01/ALL/VN/51/23377") for cell in first)
    assert first["I-01/ALL/VN/2026Q3"].provisional
    assert await publish(pool) == {}
    await tell(pool, enrolled("Lan", "BXD1", "2026-06-20T02:00:00Z", status="VOIDED", version=2))
    second = await publish(pool)
    assert second["I-01/ALL/VN/2026Q3"].counts.all == 0
    assert second["I-01/ALL/VN/2026Q3"].version > first["I-01/ALL/VN/2026Q3"].version
    # A clock that stands back gives no lower version.
    await tell(pool, enrolled("Lan", "BXD1", "2026-06-20T02:00:00Z", "2026-06-21T02:00:00Z", version=3))
    third = await publish(pool, Publisher(pool, lambda: NOW - timedelta(days=1), lambda: None, nothing))
    assert third["I-01/ALL/VN/2026Q3"].version > second["I-01/ALL/VN/2026Q3"].version


async def test_freezing_makes_the_cells_of_the_period_final(pool: Pool) -> None:
    await tell(pool, *LAN)
    await publish(pool)
    await freeze(pool, "2026Q3")
    final = await publish(pool)
    assert final["I-01/ALL/VN/51/2026Q3"].provisional is False
    assert not any(cell.endswith("2026Q4") for cell in final)


async def test_a_new_quarter_is_published_although_nothing_happened(pool: Pool) -> None:
    await tell(pool, *LAN)
    clock = [NOW]
    publisher = Publisher(pool, lambda: clock[-1], lambda: None, nothing)
    await publish(pool, publisher)
    clock.append(datetime(2026, 12, 14, 17, tzinfo=UTC))
    opened = await publish(pool, publisher)
    assert opened["I-01/ALL/VN/2027Q1"].counts.all == 1
    assert {cell.rpartition("/")[2] for cell in opened} == {"2027Q1"}


@pytest.mark.parametrize("guarded", [True, False])
async def test_cells_that_a_lost_database_published_are_put_right_by_the_restored_one(pool: Pool, guarded: bool) -> None:
    """The lost one moved I-01 to 7, published a cell that nobody is in, and the restored outbox wrote an old record of I-04 behind a new one."""
    await tell(pool, *LAN)
    first = await publish(pool)
    moved, old, still = "I-01/ALL/VN/2026Q3", "I-04/ALL/VN/2026Q4", "I-02/ALL/VN/2026Q3"
    empty, later = "I-01/STEM/VN/79/?/2026Q4", first[moved].version + 7
    seen = {
        moved: Seen(later, later, date(2026, 6, 15)),
        empty: Seen(later, later, date(2026, 9, 15)),
        old: Seen(first[old].version, later, date(2026, 9, 15)),
        still: Seen(first[still].version, first[still].version, date(2026, 6, 15)),
    }
    asked: list[datetime] = []

    async def read_back(since: datetime) -> dict[str, Seen]:
        asked.append(since)
        return seen if guarded else {}

    publisher = Publisher(pool, lambda: NOW, lambda: None, read_back)
    again = await publish(pool, publisher)
    assert set(again) == ({moved, empty, old} if guarded else set())
    assert all(told.version > later for told in again.values())
    assert {cell: told.counts.all for cell, told in again.items()} == ({moved: 1, empty: 0, old: 1} if guarded else {})
    assert await publish(pool, publisher) == {}
    assert len(asked) == 1
    assert asked[0] == NOW


@pytest.mark.parametrize(("begins", "ends"), [("0001-01-01", "9999-12-31"), ("2020-01-01", "2150-01-01")])
async def test_days_that_no_quarter_can_name_do_not_stop_publication(pool: Pool, begins: str, ends: str) -> None:
    await tell(pool, *LAN, person("Minh", ("23377", begins, ends)), enrolled("Minh", "BXD1", "1999-01-01T02:00:00Z", "1999-01-02T02:00:00Z"))
    found = await publish(pool)
    assert found["I-01/ALL/VN/2026Q4"].counts.all == 2
    assert {cell.rpartition("/")[2][:4] for cell in found} <= {str(year) for year in range(2000, 2027)}


async def test_a_publisher_that_was_overtaken_writes_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease may be lost without notice; then the snapshot is the fence, and an old value never follows a new one."""
    first, second, third = [Publisher(pool, lambda: NOW, lambda: None, nothing) for _ in range(3)]
    for publisher in (first, second, third):
        await publisher.publish()  # each has looked back once, as a publisher at work has
    await tell(pool, *LAN)
    await publish(pool)
    await tell(pool, person("Minh", ("23377", "2020-01-01")), enrolled("Minh", "BXD1", "2026-07-01T02:00:00Z", "2026-07-01T03:00:00Z"))
    frozen, woken = asyncio.Event(), asyncio.Event()
    real = outbox.announce

    async def slow(tx: Tx, events: Any) -> None:
        frozen.set()
        await woken.wait()
        await real(tx, events)

    monkeypatch.setattr(publication, "announce", slow)
    late = asyncio.create_task(first.publish())
    await frozen.wait()
    monkeypatch.setattr(publication, "announce", real)
    await tell(pool, person("Hoa", ("23377", "2020-01-01")), enrolled("Hoa", "BXD1", "2026-07-01T02:00:00Z", "2026-07-01T03:00:00Z"))
    overtaking = asyncio.create_task(second.publish())
    woken.set()
    outcomes = await asyncio.gather(late, overtaking, return_exceptions=True)
    failed = [one for one in outcomes if isinstance(one, BaseException)]
    assert all(is_transient(one) for one in failed)
    await third.publish()
    values = [data["counts"]["all"] for data in await announced(pool, "figures") if data["cell"] == "I-01/ALL/VN/2026Q4"]
    assert values == sorted(values)
    assert values[-1] == 3


# HTTP.

KEY = "k" * 32


def client(pool: Pool, *scopes: str) -> httpx.AsyncClient:
    keys = [ApiKey(name="test", sha256=hashlib.sha256(KEY.encode()).hexdigest(), scopes=scopes)]
    app = create_api("reporting", "reporting", keys=keys, health=Health())
    app.include_router(create_router(Runtime(pool, None, lambda: NOW)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test", headers={"authorization": f"Bearer {KEY}"})


async def test_figures_close_over_the_children_and_say_that_they_cannot_be_measured(pool: Pool) -> None:
    await tell(pool, *LAN, person("Minh"), enrolled("Minh", "BXD1", "2026-07-01T02:00:00Z", "2026-07-01T03:00:00Z"))
    async with client(pool, "figures:read") as http:
        answer = (await http.get("/v1/figures", params={"scope": "VN", "period": "2026Q3", "indicator": "I-01", "children": "true"})).json()
        sheet = await http.get("/v1/figures", params={"scope": "VN/51", "period": "2026Q3", "children": "true", "format": "csv"})
    nation, *below = answer["figures"]
    assert nation["counts"]["all"] == sum(row["counts"]["all"] for row in below) == 2
    assert [(row["scope"], row["counts"]["all"]) for row in below] == [("VN/01", 0), ("VN/51", 1), ("VN/?", 1)]
    assert (nation["numerator"], nation["denominator"], nation["status"]) == (2, None, "not_measurable")
    assert answer["period"] == {"code": "2026Q3", "title_vi": "Quý III/2026", "from": "2026-06-15", "to": "2026-09-14"}
    assert answer["provisional"] is True
    assert sheet.content.startswith(b"\xef\xbb\xbf")
    assert "Xã Bờ Y" in sheet.text
    assert "Chưa xác định địa bàn" in sheet.text


async def test_a_report_is_frozen_and_read_over_http(pool: Pool) -> None:
    await tell(pool, *LAN)
    async with client(pool, "*") as http:
        first = await http.post("/v1/reports", json={"definition": "REP-QUARTER", "scope": "VN", "period": "2026Q3"})
        again = await http.post("/v1/reports", json={"scope": "VN", "period": "2026Q3"})
        assert (first.status_code, again.status_code) == (201, 200)
        assert (first.json()["already_frozen"], again.json()["already_frozen"]) == (False, True)
        assert first.json()["report"] == again.json()["report"]
        report_id = first.json()["report"]["report_id"]
        read = await http.get(f"/v1/reports/{report_id}")
        assert read.json()["provisional"] is False
        assert read.json()["sha256"] == first.json()["report"]["sha256"]
        assert (await http.get(f"/v1/reports/{report_id}", headers={"if-none-match": read.headers["etag"]})).status_code == 304
        assert (await http.get(f"/v1/reports/{report_id}", params={"format": "csv"})).text.startswith("\ufeffindicator,")
        assert [one["report_id"] for one in (await http.get("/v1/reports")).json()["reports"]] == [report_id]
        assert (await http.get("/v1/figures", params={"period": "2026Q3"})).json()["provisional"] is False


async def test_a_frozen_report_keeps_its_names_and_says_which_one_it_is(pool: Pool) -> None:
    await tell(pool, *LAN)
    frozen = await freeze(pool, "2026Q3")
    assert isinstance(frozen, Frozen)
    at = f"/v1/reports/{frozen.report.report_id}"
    async with client(pool, "*") as http:
        before = [await http.get(at), await http.get(at, params={"format": "csv"})]
        await tell(pool, unit("23377", "51", "Tên Mới", version=2))
        after = [await http.get(at), await http.get(at, params={"format": "csv"})]
        live = await http.get("/v1/figures", params={"period": "2026Q3", "scope": "VN/51/23377", "format": "csv"})
    assert [answer.content for answer in after] == [answer.content for answer in before]
    assert "Tên Mới" in live.text
    lines = list(csv.DictReader(io.StringIO(after[1].text.removeprefix("\ufeff"))))
    assert len(lines) == frozen.report.figures
    for line in lines:
        assert (line["sha256"], line["frozen_at"], line["provisional"]) == (frozen.report.sha256, NOW.isoformat(), "false")
        assert line["data_as_of"] == (frozen.report.data_as_of["moved_at"] or "")
    assert next(line["numerator"] for line in lines if (line["indicator"], line["scope"], line["course_set"]) == ("I-05", "VN/51", "ALL")) == "1"
    assert "all" not in lines[0]


async def test_a_report_whose_figures_were_touched_is_not_shown(pool: Pool) -> None:
    await tell(pool, *LAN)
    frozen = await freeze(pool, "2026Q3")
    assert isinstance(frozen, Frozen)
    seen = REGISTRY.get_sample_value("reporting_reports_not_intact_total") or 0
    async with client(pool, "*") as http:
        assert (await http.get(f"/v1/reports/{frozen.report.report_id}")).status_code == 200
        await pool.execute("UPDATE report_figure SET n_all = n_all + 1 WHERE indicator = 'I-04' AND node = 'VN'")
        for form in ("json", "csv"):
            answer = await http.get(f"/v1/reports/{frozen.report.report_id}", params={"format": form})
            assert (answer.status_code, answer.json()["title"]) == (500, "The report is not intact")
    assert REGISTRY.get_sample_value("reporting_reports_not_intact_total") == seen + 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/figures?period=2026Q5", None, 422),
        ("GET", "/v1/figures?period=2026Q3&scope=VN/99", None, 404),
        ("GET", "/v1/figures?period=2026Q3&scope=51", None, 422),
        ("GET", "/v1/figures?period=2026Q3&indicator=I-99", None, 422),
        ("GET", "/v1/figures?period=2026Q3&course_set=%00", None, 422),
        ("GET", "/v1/figures?period=2026Q3&course_set=NOPE", None, 404),
        ("GET", "/v1/figures?period=2026Q3&scope=VN%00", None, 422),
        ("GET", "/v1/figures?period=2026Q3%00", None, 422),
        ("GET", "/v1/reports/00000000-0000-0000-0000-000000000000", None, 404),
        ("POST", "/v1/reports", {"period": "2026Q4"}, 409),
        ("POST", "/v1/reports", {"period": "2026Q9"}, 422),
        ("POST", "/v1/reports", {"period": "2025Q1"}, 422),
        ("POST", "/v1/reports", {"period": "2026Q3", "scope": "VN/99"}, 404),
        ("POST", "/v1/reports", {"period": "2026Q3", "definition": "REP-OTHER"}, 422),
    ],
)
async def test_a_request_that_cannot_be_met_gets_a_problem_document(
    pool: Pool, method: str, path: str, body: dict[str, str] | None, status: int
) -> None:
    await tell(pool, *TERRITORY)
    async with client(pool, "*") as http:
        answer = await http.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert await pool.fetchval("SELECT count(*) FROM report") == 0


async def test_who_may_read_figures_may_not_freeze(pool: Pool) -> None:
    async with client(pool, "figures:read") as http:
        assert (await http.post("/v1/reports", json={"period": "2026Q3"})).status_code == 403
