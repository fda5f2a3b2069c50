"""Liveness and readiness. Ready means that work gets done, not that a connection stands."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from shared.chassis.database import Pool, connection
from shared.chassis.errors import MustNotWork
from shared.chassis.progress import Progress
from shared.chassis.stops import RUNBOOK

Check = Callable[[], Awaitable[str | None]]
"""Gives None when all is well, else one sentence that says what is wrong."""

STUCK_S = 30.0
"""A batch at work, or a lag without progress, for longer than this is not ready, seconds."""

STILL_S = 60.0
"""A partition on which records wait and nothing moves for so long is not ready, though its neighbours go on, seconds."""

DATABASE_ANSWER_S = 2.0
"""Longest wait for the database's answer, seconds."""


class Health:
    """The named checks of a process."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Watch one more thing."""
        self._checks[name] = check

    async def ask(self) -> dict[str, str | None]:
        """Run every check; the answer by name, None when well."""
        answers = await asyncio.gather(*(check() for check in self._checks.values()))
        return dict(zip(self._checks, answers, strict=True))


def database(pool: Pool) -> Check:
    """Whether the database answers within two seconds; the answer comes in that time also when it does not."""

    async def check() -> str | None:
        try:
            async with asyncio.timeout(DATABASE_ANSWER_S), connection(pool) as link:
                await link.fetchval("SELECT 1")
        except MustNotWork as refusal:
            return str(refusal)
        except Exception as error:  # noqa: BLE001  (every kind of trouble is the same answer)
            return f"the database does not answer ({type(error).__name__})"
        return None

    return check


def progress(topic: str, seen: Progress) -> Check:
    """Whether a subscription gets its work done."""

    async def check() -> str | None:
        now = time.monotonic()
        if not seen.joined:
            return f"has not joined the consumer group of {topic} yet"
        if seen.gone is not None:
            return f"{seen.gone.sentence}; see {RUNBOOK}"
        if seen.halted:
            told = "; ".join(f"{stop.reason}: {stop.sentence}" for _, stop in sorted(seen.halted.items()))
            return f"{told}; nothing of it is skipped, a person must decide: see {RUNBOOK}"
        if seen.working_since is not None and now - seen.working_since > STUCK_S:
            return f"a batch of {topic} has been at work for {now - seen.working_since:.0f} s ({seen.trouble or 'no error'})"
        if sum(seen.lag.values()) > 0 and seen.working_since is None and now - seen.last_done > STUCK_S:
            return f"{topic} has a lag of {sum(seen.lag.values())} and nothing was applied for {now - seen.last_done:.0f} s"
        stuck = sorted(partition for partition, lag in seen.lag.items() if lag > 0 and now - seen.moved_at.get(partition, now) > STILL_S)
        if stuck:
            told = ", ".join(str(partition) for partition in stuck)
            return f"records of {topic} wait on partitions {told}, where nothing was applied for {STILL_S:.0f} s, while others go on"
        if now - seen.measured_at > STUCK_S:
            return f"the broker has not told the ends of {topic} for {now - seen.measured_at:.0f} s"
        if seen.trouble is not None:
            return f"{topic} is in trouble ({seen.trouble})"
        return None

    return check
