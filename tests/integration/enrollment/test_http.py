"""Facts over HTTP: three modes, and what bad input gets: a problem document that names the field, and nothing stored."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from services.enrollment import api
from services.enrollment.api import create_router
from services.enrollment.settings import EnrollmentSettings
from shared.chassis import outbox
from shared.chassis.database import Pool, Tx
from shared.chassis.decode import decode
from shared.chassis.health import Health
from shared.chassis.http import create_api
from shared.chassis.outbox import Announcement, announce
from shared.chassis.service import Runtime
from shared.chassis.settings import ApiKey
from shared.contracts import platform
from shared.contracts.envelope import by_name

pytestmark = pytest.mark.service("enrollment")

STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCHED = {"content-type": "application/cloudevents-batch+json"}
REGISTERED = "vn.hocvu.platform.enrollment.registered.v1"


def _key(name: str, *scopes: str, source: str | None = None) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes, source=source)


@pytest.fixture
async def client(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    settings = EnrollmentSettings(kafka_bootstrap_servers=("x:1",), database_url="x", http_port=1, pseudonym_key="00" * 32)
    app = create_api(
        "Enrollment", "", keys=[_key("owner", "*"), _key("reader", "registers:read"), _key("bdhvs", "facts:write", source="/p")], health=Health()
    )
    app.include_router(create_router(Runtime(pool, settings), settings.history_sources))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://e", headers={"authorization": "Bearer owner"}) as found:
        await found.put("/v1/registers/courses/AAA", json={"title": "A", "launched_by": "BXD"})
        yield found


def _event(**changes: Any) -> dict[str, Any]:
    data = {"account": "lan", "enrollment": "e1", "course": "AAA", "occurred_at": "2026-06-01T00:00:00Z", **changes.pop("data", {})}
    event = {"specversion": "1.0", "id": "1", "source": "/p", "type": REGISTERED, "data": data, **changes}
    return {name: value for name, value in event.items() if value is not None}


async def _stored(pool: Pool) -> list[Any]:
    async with pool.acquire() as connection:
        return list(await connection.fetch("SELECT * FROM outbox WHERE topic = 'platform-events' ORDER BY seq"))


async def test_the_three_modes_store_the_same_event(client: httpx.AsyncClient, pool: Pool) -> None:
    event = _event(data={"full_name": "Nguyen Van A"}) | {"subject": "Nguyen Van A", "classroom": "Nguyen Van A"}
    binary = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/p", "ce-type": REGISTERED}
    binary |= {"ce-subject": "Nguyen Van A", "ce-classroom": "Nguyen Van A"}
    answers = [
        await client.post("/v1/events", content=json.dumps(event["data"]), headers=binary),
        await client.post("/v1/events", content=json.dumps(event), headers=STRUCTURED),
        await client.post("/v1/events", content=json.dumps([event]), headers=BATCHED),
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    rows = await _stored(pool)
    assert len({(row["key"], row["value"]) for row in rows}) == 1
    assert rows[0]["key"] == b"/p|lan"
    assert not any(b"Nguyen" in row["value"] + row["headers"] for row in rows), "what no contract speaks of may name a person"


@pytest.mark.parametrize("parent", [f"00-{'a' * 32}-{'b' * 16}-01", "no trace", None])
async def test_the_trace_of_the_request_goes_on_with_the_fact(client: httpx.AsyncClient, pool: Pool, parent: str | None) -> None:
    given = {"traceparent": parent} if parent else {}
    answer = await client.post("/v1/events", content=json.dumps(_event()), headers=STRUCTURED | given)
    assert answer.status_code == 202, "a trace that cannot be followed is no reason to refuse a fact"
    async with pool.acquire() as connection:
        (row,) = [row for row in await outbox.pending(connection, 10) if row.topic == "platform-events"]
    found = dict(row.headers).get("traceparent")
    assert (found.decode().split("-")[1] if found else None) == ("a" * 32 if parent and parent.startswith("00-") else None)


@pytest.mark.parametrize(
    ("status", "reason", "field", "body"),
    [
        (400, "not_json", "body", b"{"),
        (400, "not_utf8", "body", b'{"id": "\xff"}'),
        (400, "not_json", "body", b"[" * 10_000),
        (413, "", "", b'{"x": "' + b"x" * 5_000_000 + b'"}'),
        (422, "not_an_event", "body", b"[]"),
        (422, "missing_attribute", "data", {**_event(), "data": None}),
        (422, "invalid_attribute", "id", _event(id=None)),
        (422, "invalid_attribute", "source", _event(source="")),
        (422, "invalid_attribute", "specversion", _event(specversion="0.3")),
        (422, "invalid_attribute", "time", _event(time="yesterday")),
        (422, "unknown_type", "type", _event(type="vn.hocvu.platform.exam.passed.v1")),
        (422, "schema_violation", "account", _event(data={"account": 7})),
        (422, "schema_violation", "occurred_at", _event(data={"occurred_at": "1782000000"})),
        (422, "schema_violation", "occurred_at", _event(data={"occurred_at": "+1782000000.5"})),
        (422, "schema_violation", "occurred_at", _event(data={"occurred_at": 1782000000})),
        (422, "schema_violation", "occurred_at", _event(data={"occurred_at": "soon"})),
        (422, "time_in_future", "data.occurred_at", _event(data={"occurred_at": "2038-01-01T00:00:00Z"})),
        (422, "time_before_movement", "data.occurred_at", _event(data={"occurred_at": "1970-01-01T00:00:00Z"})),
        (422, "unknown_course", "data.course", _event(data={"course": "ZZZ"})),
    ],
)
async def test_bad_input_gets_a_problem_document_and_nothing_is_stored(
    client: httpx.AsyncClient, pool: Pool, status: int, reason: str, field: str, body: bytes | dict[str, Any]
) -> None:
    if isinstance(body, dict) and body.get("data") is None:
        body.pop("data")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.post("/v1/events", content=content, headers=STRUCTURED)
    told = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert reason in told["title"]
    assert not field or field in [error["field"] for error in told["errors"]]
    assert "Traceback" not in answer.text
    assert await _stored(pool) == []


@dataclass
class _Record:
    """A record as the relay would write it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    topic: str = "platform-events"
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


ODD = "/p\u00a0\u200bnền"
"""A source of letters that print and of some that do not."""


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("ce-source", quote(ODD, safe="/"), ODD),
        ("ce-source", '"/p%20\\"q\\""', '/p "q"'),
        ("ce-id", "100%", "100%"),
        ("content-type", "Application/JSON; charset=UTF-8", None),
        ("traceparent", "somebody else's", None),
    ],
)
async def test_what_http_takes_as_an_attribute_is_taken_from_kafka_too(
    client: httpx.AsyncClient, pool: Pool, name: str, value: str, wanted: str | None
) -> None:
    headers = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/p", "ce-type": REGISTERED, name: value}
    answer = await client.post("/v1/events", content=json.dumps(_event()["data"]), headers=headers)
    assert answer.status_code == 202, answer.text
    async with pool.acquire() as connection:
        (row,) = [row for row in await outbox.pending(connection, 10) if row.topic == "platform-events"]
    read = decode(_Record(row.key, row.value, row.headers), by_name(platform.FACTS))
    assert read is not None
    assert wanted in (None, read.id, read.source)


@pytest.mark.parametrize("source", ["/nền".encode(), b"/p%00", b"/p%0A", b"/p%FF", b"", b"/" + b"p" * 200])
async def test_an_attribute_that_no_later_reader_takes_is_refused_at_the_door(client: httpx.AsyncClient, pool: Pool, source: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"ce-specversion", b"1.0"), (b"ce-id", b"1"), (b"ce-type", REGISTERED.encode())]
    answer = await client.post("/v1/events", content=json.dumps(_event()["data"]), headers=[*headers, (b"ce-source", source)])
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, ["source"])
    assert await _stored(pool) == []


async def test_an_unknown_type_is_answered_with_those_that_are_known(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", content=json.dumps(_event(type="vn.hocvu.platform.exam.passed.v1")), headers=STRUCTURED)
    assert all(known.name in answer.json()["errors"][0]["reason"] for known in platform.FACTS)


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("AAA", {"title": "a\nb"}),
        ("AAA", {"title": "a\x00b"}),
        ("AAA", {"title": ""}),
        ("AAA", {"launched_by": "B\x7fD"}),
        ("AAA", {"course_sets": ["KH\x00"]}),
        ("A%00A", {}),
        ("kho%C3%A1%20h%E1%BB%8Dc", {}),
    ],
)
async def test_a_course_that_could_not_be_announced_is_not_entered(client: httpx.AsyncClient, pool: Pool, path: str, changes: dict[str, Any]) -> None:
    before = await pool.fetch("SELECT * FROM course")
    answer = await client.put(f"/v1/registers/courses/{path}", json={"title": "B", "launched_by": "BXD", **changes})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert await pool.fetch("SELECT * FROM course") == before


async def test_a_bad_item_of_a_batch_does_no_harm_to_its_neighbours(client: httpx.AsyncClient, pool: Pool) -> None:
    events = [_event(), _event(id="2", data={"course": "ZZZ"}), 7, _event(id="3")]
    answer = await client.post("/v1/events", content=json.dumps(events), headers=BATCHED)
    assert [item["status"] for item in answer.json()["items"]] == ["accepted", "refused", "refused", "accepted"]
    assert len(await _stored(pool)) == 2


async def test_a_key_speaks_for_its_own_source_only(client: httpx.AsyncClient, pool: Pool) -> None:
    for source, status in (("/p", 202), ("/q", 422)):
        answer = await client.post("/v1/events", content=json.dumps(_event(source=source)), headers={**STRUCTURED, "authorization": "Bearer bdhvs"})
        assert answer.status_code == status
    answer = await client.post("/v1/events", content=json.dumps(_event()), headers={**STRUCTURED, "authorization": "Bearer reader"})
    assert answer.status_code == 403
    assert len(await _stored(pool)) == 1


async def test_a_request_that_comes_late_does_not_undo_a_later_one(client: httpx.AsyncClient) -> None:
    course, first, second = "/v1/registers/courses/BBB", {"title": "B", "launched_by": "BXD"}, {"title": "B2", "launched_by": "BXD"}
    entered = await client.put(course, json=first, headers={"if-none-match": "*"})
    assert entered.headers["etag"] == f'"{entered.json()["version"]}"'
    changed = await client.put(course, json=second, headers={"if-match": entered.headers["etag"]})
    assert changed.json()["changed"] is True
    late = await client.put(course, json=first, headers={"if-none-match": "*"})
    assert (late.status_code, late.headers["content-type"]) == (412, "application/problem+json")
    read = await client.get(course)
    assert (read.json()["title"], read.headers["etag"]) == ("B2", changed.headers["etag"])
    # A copy of what stands is no contradiction, whatever it saw.
    assert (await client.put(course, json=second, headers={"if-match": entered.headers["etag"]})).json()["changed"] is False
    # Without a condition whoever comes last is right: what the condition is for.
    assert (await client.put(course, json=first)).json()["changed"] is True
    assert (await client.get("/v1/registers/courses/CCC")).status_code == 404


@pytest.mark.parametrize("condition", [{"if-match": "7"}, {"if-match": '"x"'}, {"if-match": 'W/"7"'}, {"if-match": "*"}, {"if-none-match": '"7"'}])
async def test_a_condition_that_cannot_be_read_changes_nothing(client: httpx.AsyncClient, condition: dict[str, str]) -> None:
    answer = await client.put("/v1/registers/courses/AAA", json={"title": "B", "launched_by": "BXD"}, headers=condition)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (await client.get("/v1/registers/courses/AAA")).json()["title"] == "A"


async def test_a_course_that_did_not_change_is_not_announced_again(client: httpx.AsyncClient, pool: Pool) -> None:
    entry = {"title": "B", "launched_by": "BXD", "course_sets": ["KH-440"]}
    assert (await client.put("/v1/registers/courses/BBB", json=entry)).json()["changed"] is True
    assert (await client.put("/v1/registers/courses/BBB", json=entry)).json()["changed"] is False
    assert [course["code"] for course in (await client.get("/v1/registers/courses")).json()["courses"]] == ["AAA", "BBB"]
    assert (await client.get("/v1/registers/territory?province=99")).status_code == 404


async def test_no_fact_is_accepted_that_a_crash_could_lose(client: httpx.AsyncClient, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def announce_unsafely(tx: Tx, announcements: Sequence[Announcement]) -> None:
        await tx.execute("SET LOCAL synchronous_commit TO off")  # as when the server is told so at this moment
        await announce(tx, announcements)

    monkeypatch.setattr(api, "announce", announce_unsafely)
    answer = await client.post("/v1/events", content=json.dumps(_event()), headers=STRUCTURED)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert await _stored(pool) == []
