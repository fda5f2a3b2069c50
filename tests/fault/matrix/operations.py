"""Faults that operators make, or ask for."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.layout import SERVICES
from tests.fault.harness import witness
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.support.waiting import eventually

REPLAYED = 20_000
"""Most records that one replay reads again; of longer topics it takes some partitions only, so that long sessions end."""

REPLAY_S = 60.0
"""Longest wait until a service stands again where it stood, seconds."""

_STANDS = "SELECT topic, partition, next_offset FROM consumed_offset WHERE next_offset > 0"

_STAND = "UPDATE consumed_offset SET next_offset = $3 WHERE topic = $1 AND partition = $2"


@fault("O1", "replay from the first record beside live traffic, every service at once", seconds=6.0)
async def replayed(run: Run) -> None:
    mails = await asyncio.to_thread(_mails, run)
    await run.lab.reader.catch_up()
    firsts = await run.lab.reader.firsts()
    chosen = {service: await _some(run, service, firsts) for service in SERVICES}
    await asyncio.gather(*(_replay(run, service, stretches) for service, stretches in chosen.items()))
    told = await asyncio.to_thread(_mails, run)
    again = [name for name, times in told.items() if times > max(1, mails.get(name, 0))]
    assert not again, f"mails were sent again: {again}"


@dataclass(frozen=True)
class Stretch:
    """A part of a partition that is replayed.

    Attributes:
        first: offset of the first record that is still there; what retention has taken, nobody can read again.
        end: offset behind the last record that was applied. What a transaction leaves behind its records is passed much later.
    """

    topic: str
    partition: int
    first: int
    end: int


async def _replay(run: Run, service: str, stretches: Sequence[Stretch]) -> None:
    """Set offset rows back while the processes live, and wait until they have come back and every record was applied again."""
    async with run.system.database(service) as connection:
        async with connection.transaction():
            # This waits for whoever applies something of them.
            await connection.executemany(_STAND, [(one.topic, one.partition, one.first) for one in stretches])
            applied = sum([await witness.forget_since(connection, one.topic, one.partition, one.first) for one in stretches])

        async def back() -> bool:
            stands = {(row[0], row[1]): row[2] for row in await connection.fetch(_STANDS)}
            return all(stands.get((one.topic, one.partition), 0) >= one.end for one in stretches)

        await eventually(back, REPLAY_S)
        again = sum([await witness.seen_since(connection, one.topic, one.partition, one.first) for one in stretches])
    assert again >= applied > 0, f"{service} had applied {applied} records and applied {again} again"


async def _some(run: Run, service: str, firsts: Mapping[tuple[str, int], int]) -> list[Stretch]:
    """All partitions of a service, or as many as may be replayed."""
    async with run.system.database(service) as connection:
        stood = {(row[0], row[1]): row[2] for row in await connection.fetch(_STANDS)}
    ends = run.lab.reader.next_after_last
    chosen: list[Stretch] = []
    for topic, partition in run.draw.sample(sorted(stood), len(stood)):
        place = topic, partition
        one = Stretch(topic, partition, firsts[place], min(stood[place], ends.get(place, 0)))
        if not chosen or sum(other.end - other.first for other in chosen) + one.end - one.first <= REPLAYED:
            chosen.append(one)
    return chosen


def _mails(run: Run) -> Counter[str]:
    """How often the mail server took each message."""
    folder: Path = run.system.layout.root / "mails"
    lines = (line for path in folder.glob("*.eml") for line in path.read_text("utf-8", "replace").splitlines())
    return Counter(line.partition(":")[2].strip() for line in lines if line.lower().startswith("message-id:"))
