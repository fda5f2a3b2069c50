"""A system for crash points with its books and acts: it lists the points, comes to rest, and is checked."""

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.fault.harness.acts import ACTS, Acts
from tests.fault.harness.books import Books
from tests.fault.harness.check_mails import MAILS_S, all_are_sent, check_sent
from tests.fault.harness.checker import check
from tests.fault.harness.crash_system import CrashSystem
from tests.fault.harness.findings import Finding
from tests.fault.harness.points import Point, read
from tests.fault.harness.through import until_through
from tests.fault.harness.topic_reader import TopicReader
from tests.support.waiting import eventually

_IDLE = "reporting/publisher/after COMMIT"
"""The end of one round of the slowest loop that goes round while there is nothing to do."""


@dataclass
class CrashLab:
    """A system, what was offered to it, and what can be done to it."""

    draw: random.Random
    system: CrashSystem = field(default_factory=CrashSystem)
    books: Books = field(default_factory=Books)
    acts: Acts = field(init=False)
    reader: TopicReader = field(init=False)

    def __post_init__(self) -> None:
        """Acts and reader of this system."""
        self.acts = Acts(self.system, self.books, self.draw)
        self.reader = TopicReader(self.system.bootstrap_servers)

    async def list_points(self) -> list[Point]:
        """Start the system, let every act be done once by processes that trace, and list all points that were reached.

        No service runs afterwards.
        """
        file = self.system.layout.root / "trace"
        traces: dict[str, str] = {}
        self.system.trace = file
        await self.system.start()
        await self.at_rest()
        traces["fresh"] = await _new(file, traces)
        await eventually(lambda: _has_new(file, traces, _IDLE))
        traces["idle"] = await _new(file, traces)
        for act in ACTS[1:-1]:
            await self.acts.do(act)
            if act in ("start", "quarter"):
                await eventually(lambda: _has_new(file, traces, _IDLE))
            await self.at_rest()
            traces[act] = await _new(file, traces)
        self.system.end_all()
        self.system.trace = None
        return read({act: traces[act] for act in ACTS})

    async def at_rest(self) -> None:
        """Wait until everything that was offered has gone its whole way, mails included."""
        await until_through(self.system, self.reader)
        await eventually(lambda: all_are_sent(self.system), within=MAILS_S)

    async def check(self) -> list[Finding]:
        """What is wrong now; an empty list when nothing is. At rest only."""
        return [
            *await check(self.system, self.reader, self.books),
            *await check_sent(self.system),
        ]

    async def verdict(self) -> list[Finding]:
        """Wait for rest, and check; what does not come to rest is a finding."""
        try:
            await self.at_rest()
        except AssertionError as restless:
            return [Finding("I11", "other", "does not come to rest", 1, [str(restless)]), *await self.check()]
        return await self.check()

    async def close(self) -> None:
        """End the system."""
        await self.reader.close()
        await self.system.stop()


async def _new(file: Path, known: dict[str, str]) -> str:
    """What the file holds behind what is known."""
    return (await asyncio.to_thread(file.read_text, "utf-8"))[sum(map(len, known.values())) :]


async def _has_new(file: Path, known: dict[str, str], words: str) -> bool:
    return words in await _new(file, known)
