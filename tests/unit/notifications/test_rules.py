"""Who is told, when it is tried again, and when a person must decide."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from jinja2 import UndefinedError
from pydantic import ValidationError

from services.notifications import wording
from services.notifications.domain import AnswerLost, Later, Never, Outcome, Recipient, Sent, concerns, message_id, mistakes, next_state, pause
from services.notifications.main import RECIPIENTS_CSV, read_recipients
from services.notifications.settings import NotificationsSettings
from services.notifications.wording import report_frozen
from shared.contracts.reporting import Report
from shared.contracts.topics import PROVINCE_CODES


@pytest.mark.parametrize(
    ("scope", "mine", "told"),
    [
        ("VN", "VN", True),
        ("VN", "VN/51", True),
        ("VN/51", "VN", True),
        ("VN/51", "VN/5", False),
        ("VN/51", "VN/48", False),
        ("VN/51/23377", "VN/51", True),
    ],
)
def test_an_office_is_told_of_its_own_scope_what_is_below_and_what_is_above(scope: str, mine: str, told: bool) -> None:
    assert concerns(scope, Recipient("office", "Sở", mine, "office@hocvu.example")) is told


def test_a_message_has_one_id_however_often_the_event_comes() -> None:
    assert message_id("r", "s", "a") == message_id("r", "s", "a")
    assert len({message_id("r", "s", "a"), message_id("r", "s", "b"), message_id("r", "t", "a"), message_id("q", "s", "a")}) == 4


@pytest.mark.parametrize(
    ("outcome", "lost", "state"),
    [
        (Sent(), 1, "sent"),
        (Later("busy"), 1, "pending"),
        (Never("no"), 0, "failed"),
        (AnswerLost("gone"), 0, "pending"),
        (AnswerLost("gone"), 1, "unknown"),
    ],
)
def test_a_lost_answer_is_tried_once_more_and_then_unknown(outcome: Outcome, lost: int, state: str) -> None:
    assert next_state(outcome, lost) == state


def test_pauses_double_up_to_an_hour() -> None:
    assert [pause(n) for n in (1, 2, 3, 50)] == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20), timedelta(hours=1)]


OFFICE = Recipient("o", "Sở Khoa học và Công nghệ Quảng Ngãi", "VN/51", "o@hocvu.example")


def frozen(scope: str = "VN", version: int = 1) -> Report:
    return Report(
        report_id=UUID(int=7),
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


def test_a_message_is_vietnamese_and_complete() -> None:
    title, body = report_frozen(frozen(), OFFICE, "https://hocvu.example/v1/reports/")
    assert title == "Đã chốt số liệu báo cáo Quý III/2026"
    assert "Số liệu báo cáo Quý III/2026 (15/06/2026 - 14/09/2026), phạm vi toàn quốc" in body
    assert "01:00 ngày 15/09/2026" in body
    assert "Kính gửi: Sở Khoa học và Công nghệ Quảng Ngãi" in body
    assert "Số dòng số liệu: 12.489" in body
    assert "a" * 64 in body
    assert f"quyền truy cập hệ thống do quản trị cấp): https://hocvu.example/v1/reports/{UUID(int=7)}" in body
    assert "điều chỉnh" not in body, "no restatement is built, so none is promised"


def test_a_restatement_says_which_one_it_is() -> None:
    title, body = report_frozen(frozen(version=3), OFFICE, "https://hocvu.example/v1/reports")
    assert title == "Đã chốt số liệu điều chỉnh lần 2 của báo cáo Quý III/2026"
    assert "Số liệu điều chỉnh lần 2 của báo cáo Quý III/2026" in body


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("VN", "phạm vi toàn quốc,"),
        ("VN/51", "phạm vi tỉnh, thành phố mã 51,"),
        ("VN/51/23377", "phạm vi xã, phường, đặc khu mã 23377 (tỉnh, thành phố mã 51),"),
        ("VN/?", "phạm vi chưa xác định địa bàn,"),
        ("VN/51/?", "phạm vi tỉnh, thành phố mã 51, chưa xác định cấp xã,"),
    ],
)
def test_every_scope_is_said_in_words(scope: str, words: str) -> None:
    assert words in report_frozen(frozen(scope), OFFICE, "https://hocvu.example/v1/reports")[1]


def test_a_missing_value_is_an_error_and_never_an_empty_place() -> None:
    with pytest.raises(UndefinedError):
        wording._TEMPLATES.get_template("report_frozen.vi.txt").render(recipient="Sở")


def test_the_offices_shipped_can_be_used_and_are_the_nation_s_and_every_province_s() -> None:
    offices = read_recipients(RECIPIENTS_CSV)
    assert mistakes(offices) == []
    assert sorted(office.scope for office in offices) == ["VN", "VN", *(f"VN/{code}" for code in sorted(PROVINCE_CODES))]
    assert all(office.address.endswith("@hocvu.example") for office in offices)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(OFFICE, recipient="Sở"),
        replace(OFFICE, recipient=""),
        replace(OFFICE, name_vi=""),
        replace(OFFICE, name_vi="Sở\nKhoa học"),
        replace(OFFICE, scope="51"),
        replace(OFFICE, scope="VN/51/"),
        replace(OFFICE, address="o"),
        replace(OFFICE, address="Sở@hocvu.example"),
        replace(OFFICE, address="o@hocvu.example\r\nBcc: x@hocvu.example"),
        replace(OFFICE, address="o@hocvu.example, x@hocvu.example"),
    ],
)
def test_an_office_that_could_not_be_told_is_refused(wrong: Recipient) -> None:
    assert mistakes([OFFICE]) == []
    assert len(mistakes([wrong])) == 1


def test_a_lease_that_ends_while_a_mail_is_still_being_sent_is_refused() -> None:
    told = {"kafka_bootstrap_servers": "127.0.0.1:1", "database_url": "postgresql://x", "http_port": 1, "smtp_timeout_s": 4}
    assert NotificationsSettings.model_validate(told).delivery_lease_s == 60
    assert NotificationsSettings.model_validate({**told, "delivery_lease_s": 8.1}).delivery_lease_s == 8.1
    with pytest.raises(ValidationError, match="more than twice smtp_timeout_s"):
        NotificationsSettings.model_validate({**told, "delivery_lease_s": 8})
