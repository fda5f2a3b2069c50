"""When a course counts as completed."""

import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.assessment.domain import Kind, OutcomeFact, merge

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)


def said(kind: Kind, day: int) -> OutcomeFact:
    return OutcomeFact(UUID(int=10 * day + kind), kind, UUID(int=1), UUID(int=2), "AAA", "/p", BEGIN + timedelta(days=day))


def test_every_permutation_and_duplication_gives_the_same_completion() -> None:
    story = [said(Kind.COMPLETED, 1), said(Kind.COMPLETED, 2), said(Kind.REVOKED, 3), said(Kind.COMPLETED, 4), said(Kind.COMPLETED, 5)]
    assert {merge(order).completed_at for order in itertools.permutations(story)} == {BEGIN + timedelta(days=4)}


def test_the_first_of_several_completions_counts() -> None:
    assert merge([said(Kind.COMPLETED, 2), said(Kind.COMPLETED, 1)]).completed_at == BEGIN + timedelta(days=1)


def test_a_revocation_takes_away_what_stood_before_it_even_if_it_arrives_first() -> None:
    assert merge([said(Kind.REVOKED, 3), said(Kind.COMPLETED, 1)]).completed_at is None


def test_a_revocation_of_the_same_instant_comes_after_the_completion() -> None:
    assert merge([said(Kind.REVOKED, 1), said(Kind.COMPLETED, 1)]).completed_at is None
