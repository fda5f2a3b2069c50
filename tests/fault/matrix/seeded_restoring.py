"""Seeded bugs of what must hold over a restored database, a replay, and a death in the middle of a mail; the table of all is in `seeded`."""

from collections.abc import Sequence

from shared.contracts.topics import REPORT_EVENTS
from tests.fault.harness import witness
from tests.fault.harness.check_mails import all_are_sent
from tests.fault.harness.faults import control
from tests.fault.harness.findings import Finding
from tests.fault.harness.replacing import QUICK_S, at_point, begin, end, until_one_died
from tests.fault.harness.run import Run
from tests.fault.matrix.restore import keep, put_back
from tests.support.waiting import eventually

_PARTS = 4
"""Parts in which facts are offered, so that many entities are announced several times."""


@control("versions-counted", "versions are counted up, and a database comes back as it was earlier", ("I9",), persons=40, http=0.0, guarded=True)
async def versions_counted(run: Run) -> Sequence[Finding]:
    """What was announced in many steps is folded again in few."""
    await begin(run, "enrollment", "enrollment:versions_are_counted")
    size = len(run.ledger.offers) // _PARTS + 1
    for part in range(_PARTS):
        if part == 1:
            await keep(run, "enrollment")
        await run.offer(run.ledger.offers[part * size : (part + 1) * size])
        await run.until_through()
    end(run, "enrollment")
    await put_back(run, "enrollment")
    await begin(run, "enrollment", "enrollment:versions_are_counted")
    return await run.verdict(QUICK_S)


_STANDS = "SELECT partition, next_offset FROM consumed_offset WHERE topic = $1"

_SET_BACK = "UPDATE consumed_offset SET next_offset = $3 WHERE topic = $1 AND partition = $2"


@control("message-without-key", "each event makes messages of its own, and reports come again", ("I2 double",), persons=20, guarded=True)
async def message_without_key(run: Run) -> Sequence[Finding]:
    async with run.system.database("notifications") as connection:
        stood = [tuple(row) for row in await connection.fetch(_STANDS, REPORT_EVENTS.name)]
        if not run.guarded:
            await connection.execute("ALTER TABLE message DROP CONSTRAINT message_once")
        try:
            await begin(run, "notifications", "notifications:messages_without_a_key")
            await run.offer(run.ledger.offers)
            await run.freeze_report()
            await run.until_through()
            end(run, "notifications")
            await connection.executemany(_SET_BACK, [(REPORT_EVENTS.name, *place) for place in stood])
            for partition, first in stood:
                await witness.forget_since(connection, REPORT_EVENTS.name, partition, first)
            await begin(run, "notifications", "notifications:messages_without_a_key")
            return await run.verdict(QUICK_S)
        finally:
            if not run.guarded:
                end(run, "notifications")
                await connection.execute(
                    "TRUNCATE message CASCADE; ALTER TABLE message ADD CONSTRAINT message_once UNIQUE (rule, subject, recipient)"
                )


@control("mail-noted-first", "a mail is noted as sent and then sent, and workers die in between", ("I10 lost",), persons=20, guarded=True)
async def mail_noted_first(run: Run) -> Sequence[Finding]:
    soon = {"NOTIFICATIONS_DELIVERY_LEASE_S": "2", "NOTIFICATIONS_SMTP_TIMEOUT_S": "0.9"}
    dying = at_point("kill", "notifications/deliver/before data")
    await begin(run, "notifications", "notifications:noting_before_sending", env=soon | dying)
    await run.offer(run.ledger.offers)
    await run.freeze_report()
    await until_one_died(run, "notifications")
    await begin(run, "notifications", "notifications:noting_before_sending", env=soon)
    found = await run.healed(QUICK_S)
    await eventually(lambda: all_are_sent(run.system))
    return [*found, *await run.check()]
