"""Bring the four databases to their present schema and load what ships with the services."""

import asyncio
import csv

from deploy.local import postgres
from deploy.local.layout import REPOSITORY, SERVICES, Layout
from services.enrollment.registers import handlers as registers
from services.notifications import store as notifications
from services.notifications.domain import Recipient
from shared.chassis.clock import now
from shared.chassis.database import create_pool, transaction
from shared.chassis.migrations import migrate


async def everything(layout: Layout) -> int:
    """Migrate and load; returns how much was new: files applied, register entries, offices."""
    applied = await asyncio.gather(
        *(migrate(postgres.dsn(layout, service, service), service, REPOSITORY / "services" / service / "migrations") for service in SERVICES)
    )
    return sum(len(files) for files in applied) + await _registers(layout) + await _offices(layout)


async def _registers(layout: Layout) -> int:
    pool = await create_pool(postgres.dsn(layout, "enrollment", "enrollment"), size=2)
    try:
        async with transaction(pool) as tx:
            return await registers.put_territory(tx, registers.read_territory(registers.TERRITORY_CSV), now())
    finally:
        await pool.close()


async def _offices(layout: Layout) -> int:
    file = REPOSITORY / "services" / "notifications" / "recipients.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        offices = [Recipient(row["recipient"], row["name_vi"], row["scope"], row["address"]) for row in csv.DictReader(lines)]
    pool = await create_pool(postgres.dsn(layout, "notifications", "notifications"), size=2)
    try:
        async with transaction(pool) as tx:
            # The shipped addresses are placeholders: what an operator has entered in their place stays.
            return 0 if await notifications.recipients(tx) else await notifications.put_recipients(tx, offices)
    finally:
        await pool.close()
