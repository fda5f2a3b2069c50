"""Errors of the API as `application/problem+json` (RFC 9457): what is wrong, where, and what to do; never a stack trace."""

import logging
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared.chassis.errors import PASSING, is_transient

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
"""Content type of every error."""


class Problem(HTTPException):
    """An answer that says no; an `HTTPException`, because FastAPI hides anything else that is raised while it reads a body.

    Attributes:
        status: HTTP status.
        title: short, the same for every occurrence.
        detail: this occurrence, and what to do; no values of fields.
        errors: one entry per field: {"field": …, "reason": …}.
    """

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(status, detail)
        self.status = status
        self.title = title
        self.errors = list(errors)

    def response(self) -> JSONResponse:
        """The answer."""
        body: dict[str, object] = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        if self.errors:
            body["errors"] = self.errors
        headers = {"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else None
        return JSONResponse(body, self.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    # By their names, because whatever is handled as `Exception` is raised again behind the answer, and logged as our mistake.
    for kind in PASSING:
        app.add_exception_handler(kind, _on_anything)
    app.add_exception_handler(Exception, _on_anything)


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101  (registered for this class)
    return error.response()


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (registered for this class)
    errors = [{"field": ".".join(str(part) for part in mistake["loc"]), "reason": str(mistake["msg"])} for mistake in error.errors()]
    return Problem(422, "Not valid", "Mend the fields named below and send again.", errors).response()


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (registered for this class)
    return Problem(error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail)).response()


async def _on_gone(_: Request, __: Exception) -> JSONResponse:
    """The caller went away in the midst of the request: nobody hears this, and nothing is to be mended."""
    return Problem(400, "Broken off", "The request was not sent to its end; nothing was stored.").response()


async def _on_anything(request: Request, error: Exception) -> JSONResponse:
    if is_transient(error):
        log.warning(
            "request met a passing error",
            extra={"path": request.scope["route"].path if "route" in request.scope else None, "error": type(error).__name__},
        )
        return Problem(503, "Not now", "The service cannot reach its database; nothing was stored, try again in a few seconds.").response()
    log.error("request failed", exc_info=error, extra={"path": request.scope["route"].path if "route" in request.scope else None})
    return Problem(500, "Our mistake", "The request could not be carried out; nothing was stored. The operators have been told.").response()
