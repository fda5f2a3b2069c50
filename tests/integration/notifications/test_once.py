"""One message and one mail per (rule, subject, recipient), however often the event comes and however many deliver."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from services.notifications import handlers, store
from services.notifications.deliver import Deliverer
from services.notifications.domain import Recipient
from services.notifications.handlers import on_report_frozen
from services.notifications.main import create_deliverer
from shared.chassis.clock import now
from shared.chassis.database import Pool, transaction
from shared.chassis.errors import Transient
from tests.integration.notifications.post import Post, open_post
from tests.integration.notifications.reports import OFFICES, REPORTS_URL, freeze, load, received, report, settings_for, states

pytestmark = pytest.mark.service("notifications")


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with open_post() as opened:
        yield opened


@pytest.fixture
async def deliverer(pool: Pool, post: Post, dsn: str) -> Deliverer:
    await load(pool)
    return create_deliverer(pool, settings_for(post.port, dsn))


async def _deliver_all(deliverer: Deliverer) -> None:
    while await deliverer.deliver():
        pass


async def test_the_same_event_ten_times_is_one_message_and_one_mail_per_office(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    await freeze(pool, report(), times=4)
    await _deliver_all(deliverer)
    for _ in range(6):
        await freeze(pool, report())
    await _deliver_all(deliverer)
    assert await states(pool) == {"ndta": "sent", "so-51": "sent", "so-79": "sent"}
    assert sorted(post.repeats.values()) == [1, 1, 1]
    assert {mail["To"] for mail in post.mails} == {office.address for office in OFFICES}
    assert post.connections == 1


@pytest.mark.parametrize("key", [True, False])
async def test_it_is_the_unique_key_that_keeps_it_at_one(
    pool: Pool, post: Post, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch, *, key: bool
) -> None:
    """Ids that differ each time change nothing while the key stands; the control without the key sends every time."""
    monkeypatch.setattr(handlers, "message_id", lambda *_: uuid.uuid4())
    if not key:
        async with pool.acquire() as connection:
            await connection.execute("ALTER TABLE message DROP CONSTRAINT message_once")
    for _ in range(10):
        await freeze(pool, report())
    await _deliver_all(deliverer)
    assert len(post.mails) == (3 if key else 30)


async def test_a_restatement_is_told_once_more(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    await freeze(pool, report(), report(version=2), report())
    await _deliver_all(deliverer)
    assert len(post.mails) == 6
    assert sum("điều chỉnh lần 1" in str(mail["Subject"]) for mail in post.mails) == 3


async def test_a_province_s_report_is_told_to_the_province_and_to_the_nation(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    await freeze(pool, report(scope="VN/51"))
    await _deliver_all(deliverer)
    assert {mail["To"] for mail in post.mails} == {"ndta@hocvu.example", "so-51@hocvu.example"}


@pytest.mark.parametrize("lock", [True, False])
async def test_four_that_deliver_at_once_send_each_mail_once(
    pool: Pool, post: Post, dsn: str, monkeypatch: pytest.MonkeyPatch, *, lock: bool
) -> None:
    """The control claims without the row lock; there two get the same message."""
    if not lock:
        monkeypatch.setattr(store, "_CLAIM", store._CLAIM.replace("FOR UPDATE SKIP LOCKED", ""))
    await load(pool, [Recipient(f"office-{n}", "Sở", "VN", f"office-{n}@hocvu.example") for n in range(60)])
    await freeze(pool, report())
    await asyncio.gather(*(_deliver_all(create_deliverer(pool, settings_for(post.port, dsn))) for _ in range(4)))
    assert len(post.repeats) == 60
    assert (len(post.mails) == 60) is lock
    assert post.connections > 1


async def test_two_that_write_the_same_messages_at_once_write_them_once(pool: Pool, deliverer: Deliverer) -> None:
    """A frozen worker may wake up beside its successor."""
    await asyncio.gather(*(freeze(pool, *(report(number) for number in range(20))) for _ in range(8)))
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM message") == 60
        assert await connection.fetchval("SELECT count(*) FROM delivery") == 60


async def test_nobody_is_told_of_nothing_while_no_office_is_loaded(pool: Pool) -> None:
    """The event waits; passing it would lose it."""
    with pytest.raises(Transient):
        async with transaction(pool) as tx:
            await on_report_frozen(now, REPORTS_URL)([received(report())], tx)


async def test_a_mail_arrives_in_vietnamese_and_whole(pool: Pool, post: Post, deliverer: Deliverer) -> None:
    await freeze(pool, report(scope="VN/51"))
    await _deliver_all(deliverer)
    mail = next(one for one in post.mails if one["To"] == "so-51@hocvu.example")
    body = mail.get_content()
    assert mail["Subject"] == "Đã chốt số liệu báo cáo Quý III/2026"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "Kính gửi: Sở Khoa học và Công nghệ Quảng Ngãi" in body
    assert "15/06/2026 - 14/09/2026" in body
    assert "Số dòng số liệu: 12.489" in body
    assert "a" * 64 in body
    assert f"https://hocvu.example/v1/reports/{report().report_id}" in body
    assert "tỉnh, thành phố mã 51" in body
    async with pool.acquire() as connection:
        found = await connection.fetchval("SELECT message_id FROM message WHERE recipient = 'so-51'")
    assert mail["Message-ID"] == f"<{found}@hocvu.example>"
