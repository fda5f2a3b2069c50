"""Versions only rise."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.chassis.clock import next_version, version_due

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@given(st.none() | st.integers(0, 2**62), st.integers(-(10**9), 10**9))
def test_a_version_is_above_the_one_before_and_not_below_the_wall_clock(previous: int | None, offset_s: int) -> None:
    at = NOON + timedelta(seconds=offset_s)
    version = next_version(previous, at)
    assert previous is None or version > previous
    assert version >= int(at.timestamp() * 1_000_000)


def test_a_database_restored_to_yesterday_announces_higher_versions_than_today() -> None:
    announced = next_version(next_version(None, NOON), NOON)
    restored = next_version(None, NOON - timedelta(days=1))
    assert next_version(restored, NOON + timedelta(seconds=1)) > announced


def test_what_readers_hold_is_not_announced_again_unless_a_lost_database_may_have_said_otherwise() -> None:
    told = next_version(None, NOON)
    later = NOON + timedelta(seconds=1)
    assert version_due(told, changed=False, since=told, at=later) is None
    assert version_due(None, changed=True, since=0, at=later) == next_version(None, later)
    assert version_due(told, changed=True, since=0, at=later) == next_version(told, later)
    assert version_due(told, changed=False, since=told + 1, at=later) == next_version(told, later)
