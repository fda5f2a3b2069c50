"""What the guards cost: offset row and outbox, against the same handler without them, in one run on the same servers."""

import statistics
from typing import Any

from deploy.local.layout import Layout
from shared.contracts.topics import PLATFORM_EVENTS
from tests.bench.consuming import ROUNDS, drive

RECORDS = 60_000
"""Records of one drive."""


async def cost_of_guards(layout: Layout) -> dict[str, Any]:
    """Events per second with and without the guards (medians), and how much slower the guarded one is, in percent.

    Args:
        layout: a stack whose services are stopped and whose `platform-events` holds RECORDS facts and more.
    """
    rates: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for guarded in (True, False):
            driven = await drive(layout, PLATFORM_EVENTS, RECORDS, guarded=guarded)
            rates[guarded].append(RECORDS / driven.seconds)
    with_guards, without = statistics.median(rates[True]), statistics.median(rates[False])
    return {
        "with_guards_events_per_second": round(with_guards),
        "without_guards_events_per_second": round(without),
        "cost_percent": round((1 - with_guards / without) * 100, 1),
    }
