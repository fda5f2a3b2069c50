"""What messages say, in Vietnamese, from strict templates: a missing value is an error, never an empty place."""

from datetime import date, datetime, timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.notifications.domain import Recipient
from shared.contracts.reporting import Report

_FOLDER = FileSystemLoader(Path(__file__).parent / "templates")

# Plain text for mail and the in-app ledger; nothing here is HTML, and escaping would show in a mail.
_TEMPLATES = Environment(loader=_FOLDER, undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701

_VIET_NAM = timedelta(hours=7)


def report_frozen(report: Report, recipient: Recipient) -> tuple[str, str]:
    """Title and body of the message that a report was frozen."""
    title = f"Đã chốt số liệu báo cáo {report.period}"
    body = _TEMPLATES.get_template("report_frozen.vi.txt").render(
        recipient=recipient.name_vi,
        period=report.period,
        first_day=_day(report.period_from),
        last_day=_day(report.period_to),
        scope="toàn quốc" if report.scope == "VN" else report.scope,
        frozen_at=_moment(report.frozen_at),
        rows=report.rows,
        sha256=report.sha256,
        report_id=report.report_id,
    )
    return title, body


def _day(day: date) -> str:
    return f"{day:%d/%m/%Y}"


def _moment(instant: datetime) -> str:
    return f"{instant + _VIET_NAM:%H:%M ngày %d/%m/%Y}"
