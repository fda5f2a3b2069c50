"""Whether a piece of work goes on: what was there to be done at a moment has been done, by whoever."""

from datetime import UTC, datetime

from shared.contracts.topics import EVENT_TOPICS
from tests.fault.harness.check_mails import all_are_sent
from tests.fault.harness.points import ASSIGNMENT
from tests.fault.harness.system import System
from tests.fault.harness.topic_reader import TopicReader
from tests.support.waiting import eventually

SETTLED_S = 60.0
"""Longest wait until the work of a piece goes on, seconds."""

_OFFSETS = "SELECT topic, partition, next_offset FROM consumed_offset WHERE consumer_group = $1"

_LAST = "SELECT max(seq) FROM outbox"

_STILL_THERE = "SELECT EXISTS (SELECT FROM outbox WHERE seq <= $1)"

_RELAYING = """
SELECT (SELECT count(*) FROM outbox) AS waiting, (SELECT clock_timestamp() - min(recorded_at) FROM outbox) AS oldest,
       token, clock_timestamp() - expires_at AS expired FROM lease WHERE name = 'relay'
"""

_MARKED = "SELECT EXISTS (SELECT FROM figure_change)"


async def until_settled(system: System, reader: TopicReader, service: str, piece: str) -> None:
    """Wait until everything is done that is there for this piece of work now.

    A subscription has applied what stands on its topics, a relay has published the outbox, a publisher has taken the marks.
    Of notifications no mail may wait either: a second death over one mail would make it a person's business.

    Raises:
        AssertionError: it is not after SETTLED_S.
    """
    topics = [topic for topic in EVENT_TOPICS if service in topic.readers]
    now = datetime.now(UTC)
    if piece.removeprefix(ASSIGNMENT) in {topic.name for topic in topics}:
        await reader.catch_up(topics)
        ends = {place: end for place, end in reader.next_after_last.items() if place[0] in {topic.name for topic in topics}}
        await eventually(lambda: _applied(system, service, ends), within=SETTLED_S)
    elif piece == "relay":
        async with system.database(service) as connection:
            last = await connection.fetchval(_LAST)
        try:
            await eventually(lambda: _published(system, service, last), within=SETTLED_S)
        except AssertionError:
            raise AssertionError(f"the outbox of {service} is not published after {SETTLED_S:.0f} s; {await _relaying(system, service)}") from None
    elif piece == "publisher":
        await eventually(lambda: _unmarked(system), within=SETTLED_S)
    if service == "notifications":
        await eventually(lambda: all_are_sent(system, now), within=SETTLED_S)


async def _applied(system: System, service: str, ends: dict[tuple[str, int], int]) -> bool:
    async with system.database(service) as connection:
        stands = {(row[0], row[1]): row[2] for row in await connection.fetch(_OFFSETS, service)}
    return all(stands.get(place, 0) >= end for place, end in ends.items())


async def _published(system: System, service: str, last: int | None) -> bool:
    async with system.database(service) as connection:
        return last is None or not await connection.fetchval(_STILL_THERE, last)


async def _unmarked(system: System) -> bool:
    async with system.database("reporting") as connection:
        return not await connection.fetchval(_MARKED)


async def _relaying(system: System, service: str) -> str:
    async with system.database(service) as connection:
        return f"{dict(await connection.fetchrow(_RELAYING) or {})}"
