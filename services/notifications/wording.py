"""What messages say, in Vietnamese, from strict templates: a missing value is an error, never an empty place."""

from datetime import date, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.notifications.domain import Recipient
from shared.contracts.envelope import VIET_NAM
from shared.contracts.reporting import Report, period_title_vi

_FOLDER = FileSystemLoader(Path(__file__).parent / "templates")

# Plain text for mail and the in-app ledger; nothing here is HTML, and escaping would show in a mail.
_TEMPLATES = Environment(loader=_FOLDER, undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701


def report_frozen(report: Report, recipient: Recipient, reports_url: str) -> tuple[str, str]:
    """Title and body of the message that a report was frozen.

    Args:
        report: what was frozen.
        recipient: who is told.
        reports_url: address of the reports, without the id.
    """
    # The first freezing is version 1, the first restatement version 2.
    restatement = report.version - 1
    what = f"số liệu điều chỉnh lần {restatement} của báo cáo" if restatement else "số liệu báo cáo"
    over = period_title_vi(report.period)
    title = f"Đã chốt {what} {over}"
    body = _TEMPLATES.get_template("report_frozen.vi.txt").render(
        recipient=recipient.name_vi,
        what=what[0].upper() + what[1:],
        period=over,
        first_day=_day(report.period_from),
        last_day=_day(report.period_to),
        scope=_scope(report.scope),
        frozen_at=_moment(report.frozen_at),
        rows=_number(report.rows),
        sha256=report.sha256,
        address=f"{reports_url.rstrip('/')}/{report.report_id}",
    )
    return title, body


def _scope(scope: str) -> str:
    """A node of the territory in words; names belong to the register, which this service does not hold."""
    match scope.split("/"):
        case [_]:
            return "toàn quốc"
        case [_, "?"]:
            return "chưa xác định địa bàn"
        case [_, province]:
            return f"tỉnh, thành phố mã {province}"
        case [_, province, "?"]:
            return f"tỉnh, thành phố mã {province}, chưa xác định cấp xã"
        case [_, province, commune]:
            return f"xã, phường, đặc khu mã {commune} (tỉnh, thành phố mã {province})"
    return scope


def _number(count: int) -> str:
    return f"{count:,}".replace(",", ".")


def _day(day: date) -> str:
    return f"{day:%d/%m/%Y}"


def _moment(instant: datetime) -> str:
    return f"{instant.astimezone(VIET_NAM):%H:%M ngày %d/%m/%Y}"
