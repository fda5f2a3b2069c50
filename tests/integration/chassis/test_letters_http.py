"""The clerk's work over HTTP: scopes, every verb, and a problem document for every mistake."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.chassis.database import Pool
from shared.chassis.health import Health
from shared.chassis.http import create_api
from shared.chassis.letters.api import serve
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.settings import ApiKey
from tests.support.bakery import SCHEMA, Bakery, headers, loaf, open_bakery
from tests.support.infrastructure import Infrastructure
from tests.support.letters import acts, set_aside

ALL = "/v1/dead-letters"


def _key(name: str, *scopes: str) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes)


def _as(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


@pytest.fixture
async def bakery(infra: Infrastructure, pool: Pool) -> Bakery:
    """A bakery with three letters: mistyped, wrong data, no JSON."""
    await pool.execute(SCHEMA)
    found = await open_bakery(infra.bootstrap_servers, partitions=1)
    await set_aside(pool, found.loaves, found.group, [(headers(1, type=b"bakery.loaf.backed.v1"), loaf(1))], "unknown_type")
    await set_aside(pool, found.loaves, found.group, [([*headers(2), ("ce_subject", b"Lan")], b'{"loaf": 7, "baker": "Lan"}')], "schema_violation")
    await set_aside(pool, found.loaves, found.group, [(headers(3), b"\xff{Lan")], "not_utf8")
    return found


@pytest.fixture
async def client(pool: Pool, bakery: Bakery) -> AsyncIterator[httpx.AsyncClient]:
    keys = [
        _key("clerk", "dead-letters:read", "dead-letters:write"), _key("mender", "dead-letters:read", "dead-letters:write", "dead-letters:data"),
        _key("reader", "dead-letters:read"), _key("baker", "bread:bake"),
    ]  # fmt: skip
    app = create_api("Bakery", "Bread.", keys=keys, health=Health())
    serve(app, Desk(pool, bakery.group, [bakery.subscription()], ReasonBook()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bakery", headers=_as("clerk")) as found:
        yield found


async def _baked(pool: Pool) -> dict[str, int]:
    return {row["loaf"]: row["times"] for row in await pool.fetch("SELECT loaf, times FROM baked")}


async def test_the_list_says_where_when_and_why_and_never_what(client: httpx.AsyncClient) -> None:
    told = (await client.get(ALL)).json()
    assert [(one["id"], one["reason"], one["state"], one["edited"]) for one in told["dead_letters"]] == [
        (1, "unknown_type", "open", False), (2, "schema_violation", "open", False), (3, "not_utf8", "open", False),
    ]  # fmt: skip
    assert (told["count"], told["by_reason"]) == (3, {"not_utf8": 1, "schema_violation": 1, "unknown_type": 1})
    assert told["dead_letters"][0]["explanation"]["vi"].startswith("Loại sự kiện")
    assert "Lan" not in json.dumps(told)
    assert [one["id"] for one in (await client.get(f"{ALL}?reason=not_utf8")).json()["dead_letters"]] == [3]
    first = (await client.get(f"{ALL}?limit=2")).json()
    assert first["after"] == 2
    assert [one["id"] for one in (await client.get(f"{ALL}?limit=2&after=2")).json()["dead_letters"]] == [3]
    assert (await client.get(f"{ALL}?until=2020-01-01")).json()["dead_letters"] == []
    codes = {one["code"] for one in (await client.get(f"{ALL}/reasons")).json()["reasons"]}
    assert {"not_json", "handler_failed"} <= codes


async def test_the_routes_are_described(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {f"{ALL}{path}" for path in ("", "/reasons", "/redrive", "/drop", "/{letter_id}", "/{letter_id}/redrive", "/{letter_id}/drop")} <= set(
        paths
    )


async def test_data_is_shown_to_those_only_who_may_see_it(client: httpx.AsyncClient) -> None:
    shown = (await client.get(f"{ALL}/2")).json()
    assert "Lan" not in json.dumps(shown)
    assert shown["headers"][3] == {"name": "ce_id", "value": "2"}
    assert shown["headers"][-1] == {"name": "ce_subject", "value": "(3 bytes)"}
    refused = await client.get(f"{ALL}/2?with_data=true")
    assert (refused.status_code, "dead-letters:data" in refused.json()["detail"]) == (403, True)
    assert (await client.get(f"{ALL}/2?with_data=true", headers=_as("mender"))).json()["data"] == {"text": '{"loaf": 7, "baker": "Lan"}'}
    assert (await client.get(f"{ALL}/3?with_data=true", headers=_as("mender"))).json()["data"] == {"base64": "/3tMYW4="}


async def test_a_letter_is_mended_redriven_once_and_the_journal_names_the_key(client: httpx.AsyncClient, pool: Pool) -> None:
    half = await client.patch(f"{ALL}/2", json={"why": "asked the oven", "set": {"grams": 0}})
    assert half.json()["would_be_refused"]["reason"] == "schema_violation"
    still = (await client.post(f"{ALL}/2/redrive")).json()
    assert (still["state"], still["reason"], "grams" in still["detail"]) == ("open", "schema_violation", True)
    mended = await client.patch(f"{ALL}/2", json={"why": "asked again", "set": {"grams": 500, "loaf": "loaf-2"}})
    assert (mended.status_code, mended.json()["would_be_refused"]) == (200, None)
    done = await client.post(f"{ALL}/2/redrive")
    assert (done.status_code, done.json()["state"], done.json()["settled_by"]) == (200, "redriven", "clerk")
    again = await client.post(f"{ALL}/2/redrive")
    assert (again.status_code, "by clerk; nothing was done" in again.json()["detail"]) == (409, True)
    assert await _baked(pool) == {"loaf-2": 1}
    shown = (await client.get(f"{ALL}/2?with_data=true", headers=_as("mender"))).json()
    assert shown["original_data"] == {"text": '{"loaf": 7, "baker": "Lan"}'}
    assert [(one["act"], one["by"], one["outcome"], one["changed"]) for one in shown["acts"]] == [
        ("edit", "clerk", "edited", ["data.grams"]), ("redrive", "clerk", "schema_violation", []),
        ("edit", "clerk", "edited", ["data.grams", "data.loaf"]), ("redrive", "clerk", "redriven", []),
    ]  # fmt: skip


async def test_many_are_settled_in_one_request_and_the_answer_says_where_to_go_on(client: httpx.AsyncClient, pool: Pool, bakery: Bakery) -> None:
    await set_aside(pool, bakery.loaves, bakery.group, [(headers(n), loaf(n)) for n in range(10, 20)], "unknown_type")
    await client.patch(f"{ALL}/1", json={"why": "mistyped", "headers": {"ce_type": "bakery.loaf.baked.v1"}})
    first = (await client.post(f"{ALL}/redrive", json={"reason": "unknown_type", "limit": 4})).json()
    assert first == {"redriven": 4, "refused": {}, "settled_before": 0, "after": 6, "more": True}
    second = (await client.post(f"{ALL}/redrive", json={"reason": "unknown_type", "after": 6})).json()
    assert second == {"redriven": 7, "refused": {}, "settled_before": 0, "after": 13, "more": False}
    rest = (await client.post(f"{ALL}/redrive", json={"all": True})).json()
    assert (rest["redriven"], rest["refused"]) == (0, {"schema_violation": 1, "not_utf8": 1})
    dropped = (await client.post(f"{ALL}/drop", json={"ids": [2, 3], "why": "crumbs"})).json()
    assert (dropped["dropped"], dropped["more"]) == (2, False)
    assert set((await _baked(pool)).values()) == {1}
    assert (await client.get(f"{ALL}?state=dropped")).json()["count"] == 2
    one = await client.post(f"{ALL}/2/drop", json={"why": "once more"})
    assert (one.status_code, "was dropped" in one.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("status", "who", "method", "path", "body", "said"),
    [
        (401, "stranger", "GET", "", None, "known API key"),
        (403, "baker", "GET", "", None, "dead-letters:read"),
        (403, "reader", "POST", "/1/redrive", None, "dead-letters:write"),
        (403, "reader", "PATCH", "/1", {"why": "x", "set": {"a": 1}}, "dead-letters:write"),
        (404, "clerk", "GET", "/99", None, "has the id"),
        (404, "clerk", "POST", "/99/redrive", None, "has the id"),
        (404, "clerk", "POST", "/99/drop", {"why": "x"}, "has the id"),
        (404, "clerk", "PATCH", "/99", {"why": "x", "set": {"a": 1}}, "has the id"),
        (422, "clerk", "GET", "/many", None, "Mend the fields"),
        (422, "clerk", "GET", "/0", None, "Mend the fields"),
        (422, "clerk", "GET", f"/{2**63}", None, "Mend the fields"),
        (422, "clerk", "GET", "?reason=salty", None, "no such reason code"),
        (422, "clerk", "GET", "?since=soon", None, "Write a time like"),
        (422, "clerk", "GET", "?topic=%00", None, "Mend the fields"),
        (422, "clerk", "GET", "?limit=0", None, "Mend the fields"),
        (422, "clerk", "POST", "/redrive", {}, "Say which letters"),
        (422, "clerk", "POST", "/redrive", {"reasn": "not_json"}, "Mend the fields"),
        (422, "clerk", "POST", "/drop", {"all": True}, "Mend the fields"),
        (422, "clerk", "POST", "/drop", {"all": True, "why": " "}, "Say why"),
        (422, "clerk", "POST", "/1/drop", {}, "Mend the fields"),
        (422, "clerk", "PATCH", "/1", {"set": {"a": 1}}, "Mend the fields"),
        (422, "clerk", "PATCH", "/1", {"why": "x"}, "changes nothing"),
        (422, "clerk", "PATCH", "/1", {"why": "x", "headers": {"Ce_Id": "2"}}, "is the identity"),
        (422, "clerk", "PATCH", "/3", {"why": "x", "set": {"a": 1}}, "not JSON"),
    ],
)
async def test_every_mistake_gets_a_problem_document_and_changes_nothing(
    client: httpx.AsyncClient, pool: Pool, status: int, who: str, method: str, path: str, body: Any, said: str
) -> None:
    answer = await client.request(method, f"{ALL}{path}", headers=_as(who), json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    told = answer.json()
    assert said in told["detail"]
    assert "Traceback" not in answer.text
    assert await acts(pool) == []
    assert await _baked(pool) == {}
