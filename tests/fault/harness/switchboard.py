"""The proxy's own process: accepts, learns who calls, dials the server, and obeys the test.

python -m tests.fault.harness.switchboard FILE_DESCRIPTOR
"""

import asyncio
import itertools
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

from tests.fault.harness import wire
from tests.fault.harness.line import Line
from tests.fault.harness.owners import learn
from tests.fault.harness.pipe import Active, End
from tests.fault.harness.toxics import HalfOpen, LoseAnswer, Refuse, Reset, Route, Told

HOST = "127.0.0.1"

BACKLOG = 512
"""Connections that may wait to be accepted."""


class Switchboard:
    """All connections and all toxics, inside the proxy's process."""

    def __init__(self) -> None:
        self.actives: dict[int, Active] = {}
        self.lines: set[Line] = set()
        self.latest = 0
        self.backends = wire.Backends()
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """A new connection's number."""
        return next(self._numbers)

    def dialogue(self, kind: str) -> wire.Dialogue:
        """How connections to this kind of server talk."""
        match kind:
            case "kafka":
                return wire.Kafka()
            case "postgres":
                return wire.Postgres(self.backends)
            case "smtp":
                return wire.Smtp()
            case _:
                return wire.Plain()

    def settle(self, line: Line) -> None:
        """Forget a connection of which both ends are gone."""
        if line.client.is_closing() and (line.upstream is None or line.upstream.is_closing()):
            self.lines.discard(line)

    async def listen(self, ways: Sequence[Route]) -> None:
        """Open the ports."""
        loop = asyncio.get_running_loop()
        for way in ways:
            await loop.create_server(lambda way=way: _ClientSide(self, way), HOST, way.listen, backlog=BACKLOG)  # type: ignore[misc]

    def obey(self, command: tuple[object, ...]) -> object:
        """Carry out what the test asks."""
        match command:
            case ("add", dict(toxics)):
                for number, toxic in toxics.items():
                    self.latest = number
                    self.actives[number] = Active(number, toxic, toxic.times if isinstance(toxic, Reset | LoseAnswer) else None)
                self._apply()
                return None
            case ("remove", list(numbers)):
                bites = [self.actives.pop(number).bites for number in numbers]
                self._apply()
                return bites
            case ("bites", list(numbers)):
                return [self.actives[number].bites for number in numbers]
            case ("connections",):
                return [Told(line.server, line.name, line.port) for line in self.lines if line.name is not None]
        raise ValueError(f"unknown command {command[0]!r}")

    def _apply(self) -> None:
        named = [line for line in self.lines if line.name is not None]
        learn(named, self._pids())
        for line in named:
            line.apply(self.meant(line))

    def meant(self, line: Line) -> list[Active]:
        """The toxics that are for this connection."""
        learn([line], self._pids())
        return [
            active
            for active in self.actives.values()
            if (where := active.toxic.where).takes(line.server, line.name or "") and where.pid in (None, line.owner)
        ]

    def _pids(self) -> set[int]:
        """The processes that toxics name."""
        return {pid for active in self.actives.values() if (pid := active.toxic.where.pid) is not None}


class _ClientSide(asyncio.Protocol):
    """A connection that somebody opened to the proxy."""

    def __init__(self, board: Switchboard, route: Route) -> None:
        self._board = board
        self._route = route
        self._line: Line | None = None
        self._buffer = b""
        self._dialing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        port = transport.get_extra_info("peername")[1]
        self._line = Line(self._board.number(), self._route.server, port, self._board.dialogue(self._route.kind), transport)
        self._board.lines.add(self._line)
        everybodys = [active for active in self._board.meant(self._line) if active.toxic.where.client == "*"]
        if any(isinstance(active.toxic, Refuse | HalfOpen) for active in everybodys):
            self._line.name = ""
            self._enter()
        else:
            self._introduce()

    def data_received(self, data: bytes) -> None:
        assert self._line is not None
        if self._line.name is not None:
            self._line.ask(data)
            return
        self._buffer += data
        self._introduce()

    def _introduce(self) -> None:
        line = self._line
        assert line is not None
        line.name, instead = line.dialogue.introduce(self._buffer)
        if instead:
            line.client.write(instead)
            self._buffer = b""
        if line.name is not None:
            self._enter()

    def _enter(self) -> None:
        """Now that it is known who this is: turn away, keep waiting, or go on to the server."""
        line, first = self._line, self._buffer
        assert line is not None
        line.since = self._board.latest
        line.apply(self._board.meant(line))
        if (active := line.refusing()) is not None:
            active.bit(line, refused=1)
            line.reset()
        elif (active := line.silencing()) is not None:
            active.bit(line, unanswered=1)
            line.ask(first)
        elif not line.over:
            # Pausing is no guard: early releases of Python 3.11 read on when they are asked to pause as the connection is made.
            line.client.pause_reading()
            line.ask(first)
            self._dialing = asyncio.get_running_loop().create_task(self._dial(line))

    async def _dial(self, line: Line) -> None:
        try:
            upstream, _ = await asyncio.get_running_loop().create_connection(lambda: _ServerSide(self._board, line), HOST, self._route.upstream)
        except OSError:
            line.reset()
            return
        line.upstream = upstream
        if line.client.is_closing():
            upstream.abort()
            return
        line.to_server.open(upstream)
        if not line.client.is_closing():
            line.client.resume_reading()

    def pause_writing(self) -> None:
        assert self._line is not None
        self._line.to_client.sink_is(full=True)

    def resume_writing(self) -> None:
        assert self._line is not None
        self._line.to_client.sink_is(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._line is not None
        self._line.to_server.end(End.CLOSE if exc is None else End.RESET)
        self._board.settle(self._line)


class _ServerSide(asyncio.Protocol):
    """The proxy's own connection to the server."""

    def __init__(self, board: Switchboard, line: Line) -> None:
        self._board = board
        self._line = line

    def data_received(self, data: bytes) -> None:
        self._line.answer(data)

    def pause_writing(self) -> None:
        self._line.to_server.sink_is(full=True)

    def resume_writing(self) -> None:
        self._line.to_server.sink_is(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.to_client.end(End.CLOSE if exc is None else End.RESET)
        self._board.settle(self._line)


async def _serve(talk: Connection) -> None:
    """Until the test's side of the connection is closed, by itself or by its end."""
    board = Switchboard()
    over = asyncio.Event()
    commands: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

    def heard() -> None:
        try:
            commands.put_nowait(talk.recv())
        except (EOFError, OSError):
            over.set()

    asyncio.get_running_loop().add_reader(talk.fileno(), heard)
    obeying = asyncio.create_task(_obey(board, commands, talk))
    await over.wait()
    obeying.cancel()


async def _obey(board: Switchboard, commands: "asyncio.Queue[tuple[object, ...]]", talk: Connection) -> None:
    while True:
        command = await commands.get()
        try:
            answer = await board.listen(command[1]) if command[0] == "listen" else board.obey(command)  # type: ignore[arg-type, func-returns-value]
        except Exception as error:  # noqa: BLE001  # the test is told, whatever it was
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        talk.send(answer)


if __name__ == "__main__":
    asyncio.run(_serve(Connection(int(sys.argv[1]))))
