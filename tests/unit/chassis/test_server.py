"""What real bytes get from the real HTTP server: a refusal is a problem document even where there is no request."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from pydantic import BaseModel

from services.assessment.main import SERVICE
from shared.chassis import server as server_module
from shared.chassis.errors import Transient
from shared.chassis.health import Health
from shared.chassis.http import BODY_BYTES, create_api
from shared.chassis.server import HEAD_BYTES, create_server
from tests.support.waiting import eventually

PROBLEM = "application/problem+json"


class _Loaf(BaseModel):
    name: str


@contextlib.asynccontextmanager
async def _served(change: Callable[[uvicorn.Config], None] = lambda _: None) -> AsyncIterator[int]:
    """The server with a route that FastAPI reads the body for; gives its port."""
    app = create_api("Bakery", "Bread.", keys=(), health=Health())

    @app.put("/bread/{code}")
    async def bread(code: str, loaf: _Loaf) -> dict[str, str]:
        return {code: loaf.name}

    @app.get("/slow")
    async def slow() -> dict[str, str]:
        await asyncio.sleep(3 * server_module.REQUEST_S if server_module.REQUEST_S < 1 else 0)
        return {}

    @app.get("/away")
    async def away() -> dict[str, str]:
        raise Transient("the oven is being cleaned")

    told = {"kafka_bootstrap_servers": ["x:1"], "database_url": "x", "http_port": 1}
    server = create_server(app, SERVICE.settings.model_validate(told))
    change(server.config)

    async def started() -> bool:
        return server.started

    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await eventually(started, within=10)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await running


async def _answer(port: int, *sent: bytes) -> tuple[int, str, Any]:
    """Status, media type and body of the answer to bytes that are written without looking for one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent:
            writer.write(part)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else await reader.read()
    finally:
        writer.close()
    media_type = headers["content-type"]
    return int(head.split()[1]), media_type, json.loads(body) if media_type == PROBLEM else body


NOT_HTTP = {
    "a head of a megabyte": (431, b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "a head that never ends": (431, b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * (HEAD_BYTES + 1)),
    "no HTTP at all": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "no host": (400, b"GET /livez HTTP/1.1\r\n\r\n"),
    "an encoding of transfer that nobody reads": (501, b"PUT /bread/rye HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n"),
}


@pytest.mark.parametrize("kind", NOT_HTTP)
async def test_what_is_no_request_gets_a_problem_document(kind: str) -> None:
    wanted, sent = NOT_HTTP[kind]
    async with _served() as port:
        status, media_type, told = await _answer(port, sent)
    assert (status, media_type, told["status"]) == (wanted, PROBLEM, wanted)
    assert told["title"]
    assert (str(HEAD_BYTES) in told["detail"]) == (wanted == 431)


HALF = {
    "nothing": b"",
    "half a head": b"GET /livez HTTP/1.1\r\nhost",
    "half a body": b"PUT /bread/rye HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("kind", HALF)
async def test_half_a_request_is_ended_in_time_and_is_nobodys_mistake(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_S", 0.2)
    async with _served() as port:
        status, media_type, _ = await asyncio.wait_for(_answer(port, HALF[kind]), 10)
    assert (status, media_type) == (408, PROBLEM)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_without_the_clock_half_a_request_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_S", 0.2)
    monkeypatch.setattr(server_module._Connection, "_watch_the_clock", lambda _: None)
    async with _served() as port:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_answer(port, HALF["half a head"]), 1)


async def test_who_has_asked_in_time_may_be_answered_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_S", 0.2)
    async with _served() as port:
        asked = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n"
        assert (await _answer(port, asked))[0] == 200


async def test_a_passing_error_is_no_mistake_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async with _served() as port:
        status, media_type, _ = await _answer(port, b"GET /away HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (status, media_type) == (503, PROBLEM)
    assert [record.levelname for record in caplog.records if record.name != "asyncio"].count("ERROR") == 0


async def test_a_body_without_a_length_is_refused_as_too_large_where_fastapi_reads_it() -> None:
    head = b"PUT /bread/rye HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    async with _served() as port:
        status, media_type, told = await _answer(port, head, b"%x\r\n" % (BODY_BYTES + 1), b"x" * (BODY_BYTES + 1), b"\r\n")
        assert (status, media_type, told["title"]) == (413, PROBLEM, "Too large")
        assert (await _answer(port, head, b'f\r\n{"name": "rye"}\r\n0\r\n\r\n'))[0] == 200


RYE = b'{"name": "rye"}'


@pytest.mark.parametrize(
    ("field", "header", "body"),
    [
        ("content-encoding", b"content-type: application/json\r\ncontent-encoding: gzip", gzip.compress(RYE)),
        ("content-encoding", b"content-type: application/json\r\ncontent-encoding: identity, GZIP", gzip.compress(RYE)),
        ("content-type", b"content-type: application/json; charset=utf-16", RYE.decode().encode("utf-16")),
        ("content-type", b'content-type: application/json; Charset="UTF-16"', RYE),
        ("content-type", b"content-type: application/json; charset*=utf-16''x", RYE),
        (None, b"content-type: application/json; charset=UTF-8\r\ncontent-encoding: identity", RYE),
        (None, b"content-type: application/json", RYE),
    ],
)
async def test_a_body_in_another_form_is_refused_by_the_name_of_what_says_so(field: str | None, header: bytes, body: bytes) -> None:
    head = b"PUT /bread/rye HTTP/1.1\r\nhost: x\r\n" + header
    async with _served() as port:
        by_length = await _answer(port, head + b"\r\ncontent-length: %d\r\n\r\n" % len(body), body)
        in_chunks = await _answer(port, head + b"\r\ntransfer-encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    for status, media_type, told in (by_length, in_chunks):
        if field is None:
            assert (status, media_type) == (200, "application/json")
        else:
            assert (status, media_type, [one["field"] for one in told["errors"]]) == (415, PROBLEM, [field])


async def test_without_its_own_connections_the_server_answers_in_plain_text() -> None:
    """The control: what uvicorn does when it is left alone."""

    def left_alone(config: uvicorn.Config) -> None:
        config.http = "h11"

    async with _served(left_alone) as port:
        status, media_type, _ = await _answer(port, NOT_HTTP["no host"][1])
    assert (status, media_type) == (400, "text/plain; charset=utf-8")
