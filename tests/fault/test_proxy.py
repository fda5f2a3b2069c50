"""Every toxic of the proxy bites as it says, measured at a server that echoes."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fault.harness.proxy import Proxy
from tests.fault.harness.toxics import Cut, Delay, Forget, HalfOpen, Rate, Refuse, Reset, Route, Slices, Toxic, Way, Where
from tests.support.processes import free_port
from tests.support.waiting import eventually

SILENT_S = 0.3
"""How long nothing must come before we say that nothing comes, seconds."""


class Echo:
    """A server that sends back what it gets and notes the pieces in which that came."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.opened = 0
        self.closed = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while data := await reader.read(65_536):
                self.heard.append(data)
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            self.closed += 1
            writer.close()

    @property
    def text(self) -> bytes:
        return b"".join(self.heard)

    async def has_heard(self, text: bytes) -> bool:
        return self.text == text

    async def has_closed(self, number: int) -> bool:
        return self.closed == number


class Caller:
    """A client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hears(self, size: int, within: float = 10) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), within)

    async def hears_nothing(self) -> bool:
        try:
            return not await asyncio.wait_for(self.reader.read(1), SILENT_S)
        except TimeoutError:
            return True

    async def asks(self, data: bytes) -> bytes:
        self.say(data)
        return await self.hears(len(data))


class Lab:
    """An echo server, the proxy before it, and its port."""

    def __init__(self, echo: Echo, proxy: Proxy, port: int) -> None:
        self.echo = echo
        self.proxy = proxy
        self.port = port
        self.callers: list[Caller] = []

    async def call(self) -> Caller:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.callers.append(caller)
        return caller


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture(scope="module")
def proxy(ports: tuple[int, int]) -> Iterator[Proxy]:
    with Proxy([Route("echo", "plain", *ports)]) as running:
        yield running


@pytest.fixture
async def lab(proxy: Proxy, ports: tuple[int, int]) -> AsyncIterator[Lab]:
    echo = Echo()
    server = await asyncio.start_server(echo.answer, "127.0.0.1", ports[1])
    made = Lab(echo, proxy, ports[0])
    yield made
    for caller in made.callers:
        caller.writer.close()
    server.close()


async def test_without_a_toxic_everything_passes(lab: Lab) -> None:
    caller = await lab.call()
    text = bytes(range(256)) * 40_000
    assert await caller.asks(text) == text
    caller.writer.close()
    await eventually(lambda: lab.echo.has_closed(1))


async def test_delay_comes_once_in_each_direction_and_keeps_the_order(lab: Lab) -> None:
    caller = await lab.call()
    with lab.proxy.hurting(Delay(ms=100, jitter_ms=50, seed=7)) as number:
        began = time.monotonic()
        for piece in (b"one ", b"two ", b"three"):
            caller.say(piece)
            await asyncio.sleep(0)
        assert await caller.hears(13) == b"one two three"
        assert time.monotonic() - began >= 0.2
        assert lab.proxy.bites(number).bytes == 26
    began = time.monotonic()
    with lab.proxy.hurting(Delay(ms=100, way=Way.TO_CLIENT)) as number:
        assert await caller.asks(b"half") == b"half"
        assert time.monotonic() - began >= 0.1
        assert lab.proxy.bites(number).bytes == 4


async def test_a_thin_line_carries_what_it_can(lab: Lab) -> None:
    caller = await lab.call()
    with lab.proxy.hurting(Rate(bytes_per_s=8_000, way=Way.TO_SERVER)):
        began = time.monotonic()
        assert await caller.asks(b"x" * 4_000) == b"x" * 4_000
        assert time.monotonic() - began >= 0.45
    assert await caller.asks(b"y" * 400_000) == b"y" * 400_000


async def test_slices_arrive_one_by_one_and_whole(lab: Lab) -> None:
    caller = await lab.call()
    text = b"twenty bytes, no more"
    with lab.proxy.hurting(Slices(pause_ms=2, way=Way.TO_SERVER)) as number:
        assert await caller.asks(text) == text
        assert lab.proxy.bites(number).bytes == len(text)
    assert max(map(len, lab.echo.heard)) < len(text)
    assert len(lab.echo.heard) > len(text) // 2


@pytest.mark.parametrize("way", [Way.TO_SERVER, Way.TO_CLIENT])
async def test_what_a_cut_swallows_is_gone_and_the_connection_ends_when_it_heals(lab: Lab, way: Way) -> None:
    caller = await lab.call()
    await caller.asks(b"before ")
    with lab.proxy.hurting(Cut(way=way)) as number:
        caller.say(b"lost")
        assert await caller.hears_nothing()
        if way is Way.TO_CLIENT:
            await eventually(lambda: lab.echo.has_heard(b"before lost"))
        else:
            assert lab.echo.text == b"before "
        assert lab.proxy.bites(number).bytes == 4
        assert lab.echo.closed == 0
    with pytest.raises(ConnectionError):
        await caller.asks(b"after")
    assert await (await lab.call()).asks(b"new") == b"new"


async def test_what_was_sent_during_a_cut_arrives_late_though_its_sender_is_gone(lab: Lab) -> None:
    caller = await lab.call()
    await caller.asks(b"before ")
    with lab.proxy.hurting(Cut(way=Way.TO_SERVER, late=True)) as number:
        caller.say(b"late")
        caller.writer.close()
        await eventually(lambda: _bit(lab, number))
        assert (lab.echo.text, lab.echo.closed) == (b"before ", 0)
    await eventually(lambda: lab.echo.has_heard(b"before late"))
    await eventually(lambda: lab.echo.has_closed(1))


async def test_half_open_is_silence_for_those_that_stand_and_those_that_come(lab: Lab) -> None:
    standing = await lab.call()
    await standing.asks(b"before")
    with lab.proxy.hurting(HalfOpen()) as number:
        coming = await lab.call()
        for caller in (standing, coming):
            caller.say(b"hello?")
            assert await caller.hears_nothing()
        assert lab.echo.opened == 1
        assert lab.proxy.bites(number).unanswered == 1
        assert lab.proxy.bites(number).connections == 2
    for caller in (standing, coming):
        with pytest.raises(ConnectionError):
            await caller.asks(b"after")


async def test_who_is_forgotten_stays_so_and_who_comes_is_served(lab: Lab) -> None:
    standing = await lab.call()
    await standing.asks(b"before")
    with lab.proxy.hurting(Forget()) as number:
        coming = await lab.call()
        with lab.proxy.hurting(Delay(ms=1)):
            assert await coming.asks(b"hello") == b"hello"
        standing.say(b"hello?")
        assert await standing.hears_nothing()
        assert lab.proxy.bites(number).bytes == 6
    standing.say(b"hello?")
    assert await standing.hears_nothing()
    assert await coming.asks(b"after") == b"after"


async def test_refused_are_those_that_come(lab: Lab) -> None:
    standing = await lab.call()
    await standing.asks(b"before")
    with lab.proxy.hurting(Refuse()) as number:
        with pytest.raises(ConnectionError):
            await (await lab.call()).asks(b"hello?")
        assert await standing.asks(b"still here") == b"still here"
        assert lab.proxy.bites(number).refused == 1


async def test_reset_strikes_after_so_many_bytes_and_so_many_times(lab: Lab) -> None:
    with lab.proxy.hurting(Reset(after_bytes=6, way=Way.TO_SERVER, times=1)) as number:
        caller = await lab.call()
        with pytest.raises(ConnectionError):
            await caller.asks(b"uncut|and what is cut off")
        await eventually(lambda: lab.echo.has_heard(b"uncut|"))
        assert await (await lab.call()).asks(b"a second one is spared") == b"a second one is spared"
        assert lab.proxy.bites(number).resets == 1


async def test_reset_of_no_bytes_ends_what_stands(lab: Lab) -> None:
    caller = await lab.call()
    await caller.asks(b"before")
    with lab.proxy.hurting(Reset(times=1)), pytest.raises(ConnectionError):
        await caller.asks(b"after")
    assert await (await lab.call()).asks(b"new") == b"new"


async def test_a_process_is_known_by_its_connections_old_and_new(lab: Lab) -> None:
    toxic = Reset(where=Where(pid=os.getpid()), after_bytes=1, way=Way.TO_SERVER, times=2)
    standing = await lab.call()
    with lab.proxy.hurting(toxic) as number:
        for caller in (standing, await lab.call()):
            with pytest.raises(ConnectionError):
                await caller.asks(b"hello")
        assert lab.proxy.bites(number).resets == 2


@pytest.mark.parametrize("toxic", [Cut(where=Where(server="other")), Refuse(where=Where(client="somebody")), HalfOpen(where=Where(pid=1))])
async def test_who_is_not_meant_feels_nothing(lab: Lab, toxic: Toxic) -> None:
    standing = await lab.call()
    with lab.proxy.hurting(toxic) as number:
        for caller in (standing, await lab.call()):
            assert await caller.asks(b"hello") == b"hello"
        assert not lab.proxy.bites(number)


async def test_the_proxy_says_when_a_port_is_taken(ports: tuple[int, int], proxy: Proxy) -> None:
    with pytest.raises(RuntimeError, match="in use"):
        Proxy([Route("echo", "plain", *ports)])


async def _bit(lab: Lab, number: int) -> bool:
    return bool(lab.proxy.bites(number))
