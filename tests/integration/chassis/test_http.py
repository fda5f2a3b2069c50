"""The HTTP side that every process has: problem documents, keys and scopes, limits, health, metrics."""

import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import Depends

from shared.chassis.auth import requires
from shared.chassis.database import Pool
from shared.chassis.health import Health, database
from shared.chassis.http import create_api
from shared.chassis.settings import ApiKey


def _key(name: str, *scopes: str) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes)


@pytest.fixture
async def client(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    health = Health()
    health.add("database", database(pool))
    app = create_api("Bakery", "Bread.", keys=[_key("baker", "bread:bake"), _key("owner", "*"), _key("guest")], health=health)

    @app.post("/bread", dependencies=[Depends(requires("bread:bake"))])
    async def bread(loaves: int) -> dict[str, int]:
        return {"loaves": 12 // loaves}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://bakery") as found:
        yield found


def _as(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def test_who_holds_the_scope_may(client: httpx.AsyncClient) -> None:
    for name in ("baker", "owner"):
        assert (await client.post("/bread?loaves=3", headers=_as(name))).json() == {"loaves": 4}
    assert (await client.post("/bread?loaves=3", headers={"x-api-key": "baker"})).status_code == 200


@pytest.mark.parametrize(
    ("status", "path", "headers", "body"),
    [
        (401, "/bread?loaves=3", {}, b""),
        (401, "/bread?loaves=3", _as("stranger"), b""),
        (403, "/bread?loaves=3", _as("guest"), b""),
        (404, "/nowhere", _as("owner"), b""),
        (405, "/livez", {}, b""),
        (413, "/bread?loaves=3", _as("owner"), b"x" * 2_000_000),
        (422, "/bread?loaves=many", _as("owner"), b""),
        (500, "/bread?loaves=0", _as("owner"), b""),
    ],
)
async def test_every_refusal_is_a_problem_document_without_a_trace(
    client: httpx.AsyncClient, status: int, path: str, headers: dict[str, str], body: bytes
) -> None:
    answer = await client.post(path, headers=headers, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["title"]
    assert "Traceback" not in answer.text
    assert "many" not in answer.text


async def test_health_and_metrics_answer_without_a_key(client: httpx.AsyncClient, pool: Pool) -> None:
    assert (await client.get("/livez")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready", "checks": {"database": "ok"}}
    assert "consume_events_total" in (await client.get("/metrics")).text
    pool.terminate()
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "does not answer" in answer.json()["checks"]["database"]
