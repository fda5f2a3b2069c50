"""The HTTP server of a process: uvicorn, whose answer to what is no request is a problem document too."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from http import HTTPStatus

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from shared.chassis.problem import Problem
from shared.chassis.settings import ServiceSettings

HEAD_BYTES = 16_384
"""Most of a request line and its headers, 16 KiB, before more is waited for; the usual limit of servers."""

REQUEST_S = 30.0
"""How long a caller may take for a whole request, from the first byte awaited to the last of the body, seconds."""

LINGER_S = 2.0
"""How long a refused connection is still read, seconds. Closed at once with bytes unread, it would be reset, and the caller would not see why."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers; the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(H11Protocol):
    """A connection that refuses in the words of every other refusal, where uvicorn says it in plain text."""

    _refused = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        self._watch_the_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget_the_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless nothing more is expected of the caller."""
        if not self._refused:
            super().data_received(data)
            self._watch_the_clock()

    def _watch_the_clock(self) -> None:
        """Half a request must not keep a connection for ever. Between two requests uvicorn's own limit holds."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget_the_clock()
        elif self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(REQUEST_S, self._too_slow)

    def _forget_the_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._refuse(Problem(408, "Request Timeout", f"A request is sent within {REQUEST_S:.0f} s; nothing was stored."))

    def send_400_response(self, msg: str) -> None:
        """Answer what h11 could not read: 431 when the head is too long, else the status that h11 suggests."""
        error = sys.exception()
        status = HTTPStatus(error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else HTTPStatus.BAD_REQUEST)
        detail = "This is not a request of HTTP/1.1; nothing was read of it."
        if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            detail = f"A request line and its headers have at most {HEAD_BYTES} bytes together; what is longer belongs into the body."
        self._refuse(Problem(status, status.phrase, detail))

    def _refuse(self, problem: Problem) -> None:
        """Say why, and end the connection."""
        self._refused = True
        self._forget_the_clock()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = problem.response()
            reason = HTTPStatus(problem.status).phrase.encode()
            head = h11.Response(status_code=problem.status, headers=[*answer.raw_headers, (b"connection", b"close")], reason=reason)
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            if self.transport.can_write_eof():
                self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.transport.close)


def create_server(app: FastAPI, settings: ServiceSettings) -> uvicorn.Server:
    """The HTTP server of a process; it ends when `should_exit` is set."""
    config = uvicorn.Config(
        app, host=settings.http_host, port=settings.http_port, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3,
        http=_Connection, h11_max_incomplete_event_size=HEAD_BYTES,
    )  # fmt: skip
    return _Server(config)
