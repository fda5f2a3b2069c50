"""Frozen reports as records, for tests of notifications."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from pydantic import SecretStr

from services.notifications import store
from services.notifications.domain import Recipient
from services.notifications.handlers import on_report_frozen
from services.notifications.settings import NotificationsSettings
from shared.chassis.clock import now
from shared.chassis.database import Pool, transaction
from shared.chassis.decode import Received
from shared.contracts.reporting import REPORT_FROZEN, Report

REPORTS_URL = "https://hocvu.example/v1/reports"

OFFICES = [
    Recipient("ndta", "Cục Chuyển đổi số quốc gia", "VN", "ndta@hocvu.example"),
    Recipient("so-51", "Sở Khoa học và Công nghệ Quảng Ngãi", "VN/51", "so-51@hocvu.example"),
    Recipient("so-79", "Sở Khoa học và Công nghệ Thành phố Hồ Chí Minh", "VN/79", "so-79@hocvu.example"),
]


def report(number: int = 7, scope: str = "VN", version: int = 1) -> Report:
    return Report(
        report_id=UUID(int=number),
        definition="REP-QUARTER",
        scope=scope,
        period="2026Q3",
        period_from=date(2026, 6, 15),
        period_to=date(2026, 9, 14),
        frozen_at=datetime(2026, 9, 14, 18, tzinfo=UTC),
        rows=12_489,
        sha256="a" * 64,
        version=version,
    )


def received(told: Report, offset: int = 0) -> Received[Report]:
    return Received(REPORT_FROZEN.name, f"{told.report_id}:{told.version}", "/services/reporting", told, "report-events", 0, offset)


async def load(pool: Pool, offices: Sequence[Recipient] = OFFICES) -> None:
    async with transaction(pool) as tx:
        await store.drop_others(tx, [office.recipient for office in offices])
        await store.put_recipients(tx, offices)


async def freeze(pool: Pool, *reports: Report, times: int = 1) -> None:
    """The event comes, `times` times in one batch."""
    async with transaction(pool) as tx:
        records = [received(told, offset) for offset, told in enumerate(reports * times)]
        assert await on_report_frozen(now, REPORTS_URL)(records, tx) == ()


def settings_for(port: int, dsn: str, timeout_s: float = 8) -> NotificationsSettings:
    return NotificationsSettings(
        kafka_bootstrap_servers=("127.0.0.1:1",), database_url=SecretStr(dsn), http_port=1, smtp_port=port, smtp_timeout_s=timeout_s
    )


async def states(pool: Pool) -> dict[str, str]:
    """The state of each office's delivery; of one report."""
    async with pool.acquire() as connection:
        return {
            row[0]: row[1]
            for row in await connection.fetch("SELECT recipient, state FROM message JOIN delivery USING (message_id) ORDER BY recipient")
        }


async def become_due(pool: Pool) -> None:
    """Let the time of all pauses and leases be over."""
    async with pool.acquire() as connection:
        await connection.execute(
            "UPDATE delivery SET next_attempt_at = '-infinity', lease_until = CASE WHEN state = 'sending' THEN '-infinity'::timestamptz END"
        )
