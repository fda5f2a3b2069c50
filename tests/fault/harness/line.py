"""A connection through the proxy: whose it is, its two directions, and what happens in the midst of a request or instead of an answer."""

import asyncio
import socket
import struct
from collections.abc import Iterable

from tests.fault.harness.pipe import Active, End, Pipe
from tests.fault.harness.toxics import Forget, HalfOpen, LoseAnswer, Refuse, Reset, Toxic, Way
from tests.fault.harness.wire import Asked, Dialogue


class Line:
    """A connection: who it belongs to, its two directions, and what is asked on it.

    Args:
        number: counted by the proxy.
        server: name of the route.
        port: the client's port, which tells its process.
        dialogue: how it talks.
        client: the accepted connection.
    """

    def __init__(self, number: int, server: str, port: int, dialogue: Dialogue, client: asyncio.Transport) -> None:
        self.number = number
        self.server = server
        self.port = port
        self.name: str | None = None
        self.owner: int | None = None  # pid of the client, once somebody has asked
        self.asked_for: set[int] = set()  # pids of which it is known whether they are the client
        self.since = 0  # the last toxic that was switched on before this connection stood
        self.dialogue = dialogue
        self.client = client
        self.upstream: asyncio.Transport | None = None
        self.over = False  # nothing that comes from now on is handed on
        self.to_server = Pipe(self, self.reset, lambda on: _brake(self.client, on=on))
        self.to_client = Pipe(self, self.reset, lambda on: _brake(self.upstream, on=on))
        self.to_client.open(client)
        self._passed = {Way.TO_SERVER: 0, Way.TO_CLIENT: 0}
        self._cut_at: tuple[Active, int] | None = None
        self._losing: Active | None = None
        self._actives: list[Active] = []
        self._counted_from: dict[int, dict[Way, int]] = {}

    def apply(self, actives: Iterable[Active]) -> None:
        """Let these toxics, and no others, work on this connection from now on; one that was forgotten stays so."""
        if any(isinstance(active.toxic, Forget) for active in self._actives):
            return
        self._actives = [active for active in actives if active.number > self.since or not isinstance(active.toxic, Forget)]
        for active in self._actives:
            self._counted_from.setdefault(active.number, dict(self._passed))
        for way, pipe in ((Way.TO_SERVER, self.to_server), (Way.TO_CLIENT, self.to_client)):
            pipe.apply(active for active in self._actives if _goes(active.toxic, way))
        for active in self._actives:
            toxic = active.toxic
            if isinstance(toxic, Reset) and toxic.request is None and not toxic.after_bytes and not self.over and active.strikes():
                active.bit(self, resets=1)
                self.reset()

    def refusing(self) -> Active | None:
        """The toxic that turns this connection away."""
        return next((active for active in self._actives if isinstance(active.toxic, Refuse)), None)

    def silencing(self) -> Active | None:
        """The toxic that leaves this connection without an answer."""
        return next((active for active in self._actives if isinstance(active.toxic, HalfOpen)), None)

    def ask(self, data: bytes) -> None:
        """A piece from the client."""
        if self.over:
            return
        for asked in self.dialogue.asked(data):
            self._look(asked)
        data, reset = self._until_reset(data, Way.TO_SERVER)
        if data:
            self.to_server.feed(data)
        if reset:
            self.over = True
            self.to_server.end(End.RESET)

    def answer(self, data: bytes) -> None:
        """A piece from the server."""
        if self.over:
            return
        go_on, lost = self.dialogue.answered(data)
        data, reset = self._until_reset(data[:go_on], Way.TO_CLIENT)
        if data:
            self.to_client.feed(data)
        if lost and self._losing is not None:
            self._losing.bit(self, answers=1, resets=1)
            self.reset()
        elif reset:
            self.over = True
            self.to_client.end(End.RESET)

    def reset(self) -> None:
        """RST to both ends; what was not handed on is gone."""
        self.over = True
        for end in (self.client, self.upstream):
            if end is not None and not end.is_closing():
                found: socket.socket = end.get_extra_info("socket")
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.abort()

    def _look(self, asked: Asked) -> None:
        for active in self._actives:
            toxic = active.toxic
            if isinstance(toxic, LoseAnswer) and self._losing is None and asked.name.startswith(toxic.request) and active.strikes():
                self._losing = active
                self.dialogue.lose(asked)
            if isinstance(toxic, Reset) and toxic.request and self._cut_at is None and asked.name.startswith(toxic.request) and active.strikes():
                self._cut_at = active, self._passed[Way.TO_SERVER] + asked.at + toxic.after_bytes

    def _until_reset(self, data: bytes, way: Way) -> tuple[bytes, bool]:
        """What goes on of this piece, and whether the connection is reset behind it."""
        begin = self._passed[way]
        self._passed[way] += len(data)
        if self._cut_at is None:
            for active in self._actives:
                toxic = active.toxic
                if isinstance(toxic, Reset) and toxic.request is None and _goes(toxic, way):
                    at = self._counted_from[active.number][way] + toxic.after_bytes
                    if at <= self._passed[way] and active.strikes():
                        active.bit(self, resets=1)
                        return data[: max(0, at - begin)], True
        elif way is Way.TO_SERVER and self._cut_at[1] <= self._passed[way]:
            active, at = self._cut_at
            active.bit(self, resets=1)
            return data[: max(0, at - begin)], True
        return data, False


def _brake(source: asyncio.Transport | None, *, on: bool) -> None:
    if source is not None and not source.is_closing():
        (source.pause_reading if on else source.resume_reading)()


def _goes(toxic: Toxic, way: Way) -> bool:
    return toxic.way in (way, Way.BOTH)
