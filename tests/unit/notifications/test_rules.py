"""Who is told, when it is tried again, and when a person must decide."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from services.notifications.domain import AnswerLost, Later, Never, Outcome, Recipient, Sent, concerns, message_id, next_state, pause
from services.notifications.wording import report_frozen
from shared.contracts.reporting import Report


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


def test_a_message_is_vietnamese_and_complete() -> None:
    report = Report(
        report_id=UUID(int=7), definition="REP-QUARTER", scope="VN", period="2026Q3", period_from=date(2026, 6, 15), period_to=date(2026, 9, 14),
        frozen_at=datetime(2026, 9, 14, 18, tzinfo=UTC), rows=12, sha256="a" * 64, version=1,
    )  # fmt: skip
    title, body = report_frozen(
        report, Recipient("o", "Sở Khoa học và Công nghệ Quảng Ngãi", "VN/51", "o@hocvu.example"), "https://hocvu.example/v1/reports/"
    )
    assert title == "Đã chốt số liệu báo cáo 2026Q3"
    assert "15/06/2026 - 14/09/2026" in body
    assert "01:00 ngày 15/09/2026" in body
    assert "Kính gửi: Sở Khoa học và Công nghệ Quảng Ngãi" in body
