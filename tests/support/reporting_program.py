"""Reporting on topics of a test's own, and with a rebuild that can be stopped on its way, or lacks a guard.

python -m tests.support.reporting_program worker|api|migrate|audit|rebuild

TEST_RUN    what the names of the three topics it reads end with
TEST_GATE   where a rebuild says `gate` and waits for a line: reading, comparing, switched (not committed yet)
TEST_BUG    two_transactions: what was is dropped in one transaction, what is new comes in another
            nobody_waits: folds go on while the tables are exchanged
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from services.reporting import audit
from services.reporting.main import SERVICE
from services.reporting.rebuild import reading, rebuilding, store
from services.reporting.rebuild.reading import Making
from shared.chassis.applying import Subscription
from shared.chassis.database import Tx
from shared.chassis.service import Runtime, run
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS, Topic

RUN, GATE, BUG = (os.environ.get(f"TEST_{name}", "") for name in ("RUN", "GATE", "BUG"))

ONCE = {"passed": False}
"""A gate is passed once."""


def topics_of(name: str) -> dict[str, Topic]:
    """What reporting reads, on topics of a run's own, by the name in the closed list; without a name those themselves."""
    found = (REGISTRY_EVENTS, ENROLLMENT_EVENTS, ASSESSMENT_EVENTS)
    return {topic.name: replace(topic, name=f"{topic.name}-{name}", partitions=4) if name else topic for topic in found}


def subscriptions(runtime: Runtime) -> list[Subscription]:
    return [replace(one, topic=topics_of(RUN)[one.topic.name]) for one in SERVICE.subscriptions(runtime)]


async def gate() -> None:
    """Say so, and wait for a line."""
    if not ONCE["passed"]:
        ONCE["passed"] = True
        sys.stdout.write("gate\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)


def before(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def found(*told: Any) -> Any:
        await gate()
        return await function(*told)

    return found


def after(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def found(*told: Any) -> Any:
        answer = await function(*told)
        await gate()
        return answer

    return found


async def in_two_transactions(tx: Tx) -> None:
    """What the exchange would be without its one transaction."""
    for table in store.TABLES:
        await tx.execute(f"DROP TABLE public.{table}")
    await tx.execute("COMMIT")
    await gate()
    await tx.execute("BEGIN")
    for table in store.TABLES:
        await tx.execute(f"ALTER TABLE rebuild.{table} SET SCHEMA public")
    await store.drop(tx)


async def nobody_waits(_: Tx) -> None:
    """What keeps folds waiting, without effect."""


def arm() -> None:
    """Put the gate, or take a guard away."""
    match GATE, BUG:
        case "reading", _:
            Making._fold = after(Making._fold)  # type: ignore[method-assign, assignment]
        case "comparing", _:
            store.compare = before(store.compare)  # type: ignore[assignment]
        case "switched", _:
            store.exchange = after(store.exchange)  # type: ignore[assignment]
        case _, "two_transactions":
            store.exchange = in_two_transactions
        case _, "nobody_waits":
            rebuilding.alone = nobody_waits  # type: ignore[attr-defined, assignment]
            store.exchange = before(store.exchange)  # type: ignore[assignment]
    if GATE or BUG:
        rebuilding.SWITCH_S = 60.0


if __name__ == "__main__":
    names = topics_of(RUN)
    reading.TOPICS = audit.TOPICS = tuple(topic.name for topic in names.values())  # type: ignore[assignment]
    reading.REGISTERS_TOPIC = names[REGISTRY_EVENTS.name].name
    arm()
    run(replace(SERVICE, subscriptions=subscriptions))
