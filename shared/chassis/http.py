"""The HTTP side of every process: health, metrics, problem documents, a limit on bodies; a service adds its routers."""

from collections.abc import Sequence

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
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
    app.add_middleware(LimitBody)
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


class LimitBody:
    """Refuse bodies over the limit before they are read, and those without a length as soon as they pass it."""

    def __init__(self, app: ASGIApp, limit: int = BODY_BYTES) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limit:
            await self._too_large()(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise problem.Problem(*self._words())
            return message

        await self._app(scope, limited, send)

    def _words(self) -> tuple[int, str, str]:
        return 413, "Too large", f"A request has at most {self._limit} bytes; send several, or use Kafka or a file."

    def _too_large(self) -> JSONResponse:
        return problem.Problem(*self._words()).response()
