"""The HTTP side of every process: health, metrics, problem documents, a limit on bodies; a service adds its routers."""

import re
from collections.abc import Sequence

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.chassis import problem, telemetry
from shared.chassis.auth import Keys
from shared.chassis.health import Health
from shared.chassis.settings import ApiKey

BODY_BYTES = 1_048_576
"""Largest request body, 1 MiB; larger input travels as a file or over Kafka."""

OPERATIONS = ("/livez", "/readyz", "/metrics")
"""What orchestrators and Prometheus ask for."""


def create_api(title: str, description: str, *, keys: Sequence[ApiKey], health: Health) -> FastAPI:
    """An app with what every process has; the caller adds routers."""
    app = FastAPI(title=title, description=description, version="1", redoc_url=None)
    app.state.keys = Keys(keys)
    problem.install(app)
    app.add_middleware(JudgeBody)
    app.add_middleware(FollowTrace)

    @app.get("/livez", tags=["operations"], summary="Is the process alive?")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", tags=["operations"], summary="Does work get done?")
    async def readyz() -> JSONResponse:
        answers = await health.ask()
        well = all(answer is None for answer in answers.values())
        checks = {name: answer or "ok" for name, answer in answers.items()}
        return JSONResponse({"status": "ready" if well else "not ready", "checks": checks}, 200 if well else 503)

    @app.get("/metrics", tags=["operations"], summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


class FollowTrace:
    """Carry a request out under its caller's trace (header `traceparent`), which goes on with what is announced meanwhile."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. What asks for health and metrics every few seconds is no trace of anything."""
        if scope["type"] != "http" or scope["path"] in OPERATIONS:
            await self._app(scope, receive, send)
            return
        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("ascii", "replace")
        with telemetry.request_span(str(scope["method"]), parent):
            await self._app(scope, receive, send)


class JudgeBody:
    """Refuse bodies over the limit before they are read, those without a length as soon as they pass it, and those that nobody here reads."""

    def __init__(self, app: ASGIApp, limit: int = BODY_BYTES) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413 or 415."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > self._limit:
            await self._too_large().response()(scope, receive, send)
            return
        if int(length) or "transfer-encoding" in headers:
            wrong = _unreadable(headers)
            if wrong is not None:
                await wrong.response()(scope, receive, send)
                return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise self._too_large()
            return message

        await self._app(scope, limited, send)

    def _too_large(self) -> problem.Problem:
        return problem.Problem(413, "Too large", f"A request has at most {self._limit} bytes; send several, or use Kafka or a file.")


_CHARSET = re.compile(r';\s*charset[*0-9]*\s*=\s*"?([^\s";]*)', re.IGNORECASE)


def _unreadable(headers: Headers) -> problem.Problem | None:
    """Why a body could not be read as what its sender means; None when it can. JSON is UTF-8 (RFC 8259, 8.1), and nothing is unpacked here."""
    codings = [one.strip().lower() for told in headers.getlist("content-encoding") for one in told.split(",")]
    if any(coding not in ("", "identity") for coding in codings):
        wrong = {"field": "content-encoding", "reason": "a body is read as it is; send it without a coding"}
        return problem.Problem(415, "Unknown content coding", "Nothing was stored; send the body as it is, not packed.", [wrong])
    if any(charset.lower() not in ("utf-8", "utf8", "us-ascii") for charset in _CHARSET.findall(headers.get("content-type", ""))):
        wrong = {"field": "content-type", "reason": "charset is utf-8, or is not told"}
        return problem.Problem(415, "Unknown charset", "Nothing was stored; send the body in UTF-8.", [wrong])
    return None
