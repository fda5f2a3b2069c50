"""One direction of a connection through the proxy: a plain hand-over until a toxic makes it a queue."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from tests.fault.harness.toxics import Bites, Cut, Delay, Forget, HalfOpen, Rate, Slices, Toxic

QUEUED_BYTES = 4 * 1_048_576
"""A direction that holds back more than this reads no more, as a kernel's buffers would fill up."""

PIECES_PER_S = 50
"""Into how many pieces per second a thin line cuts what it carries."""


@dataclass
class Active:
    """A toxic that is switched on.

    Attributes:
        number: counted by the proxy.
        left: how often it may still strike; None: without end.
        seen: the connections it was done to, by number.
    """

    number: int
    toxic: Toxic
    left: int | None = None
    bites: Bites = field(default_factory=Bites)
    seen: set[int] = field(default_factory=set)

    def bit(self, line: "Whose", **what: int) -> None:
        """Count what was done to a connection."""
        if line.number not in self.seen:
            self.seen.add(line.number)
            self.bites.connections = len(self.seen)
            self.bites.clients.add(f"{line.name} {line.server.partition('-')[0]}".strip())
        for name, more in what.items():
            setattr(self.bites, name, getattr(self.bites, name) + more)

    def strikes(self) -> bool:
        """Use one of the times it may strike; False when there is none left."""
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


class Whose(Protocol):
    """A connection, as far as counting needs it."""

    number: int
    server: str
    name: str | None


class End(Enum):
    """How a stream ends."""

    CLOSE = "close"
    RESET = "reset"


class Pipe:
    """One direction of a connection.

    Args:
        line: the connection.
        reset: resets the connection.
        brake: called with whether the source must stop sending.
    """

    def __init__(self, line: Whose, reset: Callable[[], None], brake: Callable[[bool], None]) -> None:
        self.sink: asyncio.Transport | None = None
        self._torn = False
        self._line = line
        self._reset = reset
        self._brake = brake
        self._sink_full = self._braked = False
        self._queue: deque[tuple[float, memoryview | End, list[Active]]] = deque()
        self._queued = 0
        self._timer: asyncio.Handle | None = None
        self._last_due = 0.0
        self._free_at = 0.0
        self._dice: dict[int, random.Random] = {}
        self._delays: list[tuple[Active, Delay]] = []
        self._rates: list[tuple[Active, Rate]] = []
        self._slices: list[tuple[Active, Slices]] = []
        self._held: list[Active] = []
        self._gone: list[Active] = []
        self._plain = True

    def open(self, sink: asyncio.Transport) -> None:
        """Here is the receiver; what came before it goes first."""
        self.sink = sink
        self._pump()

    def apply(self, actives: Iterable[Active]) -> None:
        """Let these toxics, and no others, work on this direction from now on."""
        mine = list(actives)
        self._delays = [(active, active.toxic) for active in mine if isinstance(active.toxic, Delay)]
        self._rates = [(active, active.toxic) for active in mine if isinstance(active.toxic, Rate)]
        self._slices = [(active, active.toxic) for active in mine if isinstance(active.toxic, Slices)]
        self._held = [active for active in mine if isinstance(active.toxic, Cut) and active.toxic.late]
        self._gone = [one for one in mine if isinstance(one.toxic, HalfOpen | Forget) or (isinstance(one.toxic, Cut) and not one.toxic.late)]
        self._plain = not (self._delays or self._rates or self._slices or self._held or self._gone)
        if not self._gone and self._torn:
            self._reset()
            return
        if not self._delays:
            self._last_due = self._free_at = 0.0
            self._queue = deque((0.0, item, touched) for _, item, touched in self._queue)
        self._pump()

    def feed(self, data: bytes) -> None:
        """Hand a piece on, now or when the toxics let it."""
        if self._plain and not self._queue and self.sink is not None:
            if not self.sink.is_closing():
                self.sink.write(data)
            return
        self._take(memoryview(data), len(data))

    def sink_is(self, *, full: bool) -> None:
        """The receiver takes no more for now, or again."""
        self._sink_full = full
        self._slow_down()

    def _slow_down(self) -> None:
        wanted = self._sink_full or self._queued > (QUEUED_BYTES // 2 if self._braked else QUEUED_BYTES)
        if wanted != self._braked:
            self._braked = wanted
            self._brake(wanted)

    def end(self, how: End) -> None:
        """End the stream behind what was fed before."""
        self._take(how, 0)

    def _take(self, item: memoryview | End, size: int) -> None:
        if self._gone:
            self._torn = True
            for active in self._gone:
                active.bit(self._line, bytes=size)
            return
        touched = [active for active, _ in (*self._delays, *self._rates, *self._slices)] + self._held
        for active in touched:
            active.bit(self._line, bytes=size)
        self._last_due = max(self._last_due, time.monotonic() + sum(self._draw(delay) for _, delay in self._delays))
        self._queue.append((self._last_due, item, touched))
        self._queued += size
        self._slow_down()
        self._pump()

    def _draw(self, delay: Delay) -> float:
        """Seconds by which this piece comes later."""
        dice = self._dice.setdefault(delay.seed, random.Random(f"{delay.seed}/{self._line.number}"))  # noqa: S311
        return (delay.ms + delay.jitter_ms * dice.random()) / 1000

    def _pump(self) -> None:
        """Hand on what is due; come back when the next piece is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and self.sink is not None and not self._held:
            due, item, _ = self._queue[0]
            at = max(due, self._free_at)
            now = time.monotonic()
            if at > now:
                self._timer = asyncio.get_running_loop().call_later(at - now, self._pump)
                return
            if isinstance(item, End):
                self._queue.popleft()
                self._finish(item)
                return
            self._send(item, now)
            if self._slices and self._queue:
                # A slice of its own: the loop hands this one to the kernel before the next is written.
                self._timer = asyncio.get_running_loop().call_later(max(0.0, self._free_at - now), self._pump)
                return

    def _send(self, item: memoryview, now: float) -> None:
        size = len(item)
        for _, slices in self._slices:
            size = min(size, slices.size)
            self._free_at = now + slices.pause_ms / 1000
        for _, rate in self._rates:
            size = max(1, min(size, int(rate.bytes_per_s / PIECES_PER_S)))
            self._free_at = max(self._free_at, now + size / rate.bytes_per_s)
        assert self.sink is not None
        if not self.sink.is_closing():
            self.sink.write(bytes(item[:size]))
        due, _, touched = self._queue.popleft()
        if size < len(item):
            self._queue.appendleft((due, item[size:], touched))
        self._queued -= size
        self._slow_down()

    def _finish(self, how: End) -> None:
        self._queue.clear()
        if how is End.RESET:
            self._reset()
        elif self.sink is not None:
            self.sink.close()
