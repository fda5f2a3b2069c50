"""The fold of outcome facts looks at the set of facts and at nothing else: properties over every life story."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.assessment.domain import CompletionState, Kind, OutcomeFact, merge

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)


def _fact(number: int, kind: Kind, hour: int, person: int, course: str) -> OutcomeFact:
    return OutcomeFact(UUID(int=number), kind, UUID(int=1), UUID(int=person), course, "/platforms/a", BEGIN + timedelta(hours=hour))


# Few instants, so that facts of the same instant, the hard case, are common.
_facts = st.builds(_fact, st.integers(1, 10**6), st.sampled_from(Kind), st.integers(0, 5), st.integers(1, 2), st.sampled_from(["AAA", "BBB"]))
stories = st.lists(_facts, min_size=1, max_size=12, unique_by=lambda fact: fact.fact_id)


def _bytes(state: CompletionState) -> bytes:
    return msgspec.json.encode(state)


@given(stories, st.randoms(use_true_random=False))
def test_any_order_and_any_copies_give_the_same_bytes(story: list[OutcomeFact], chance: random.Random) -> None:
    told = story + chance.choices(story, k=len(story))
    chance.shuffle(told)
    assert _bytes(merge(set(told))) == _bytes(merge(told)) == _bytes(merge(story))


@given(stories)
def test_what_stands_is_the_first_completion_after_the_last_revocation(story: list[OutcomeFact]) -> None:
    """The definition said another way, without a fold."""
    revoked = max((fact.occurred_at for fact in story if fact.kind is Kind.REVOKED), default=BEGIN - timedelta(days=1))
    standing = [fact.occurred_at for fact in story if fact.kind is Kind.COMPLETED and fact.occurred_at > revoked]
    assert merge(story).completed_at == min(standing, default=None)


@given(stories)
def test_person_and_course_are_those_of_the_fact_that_was_true_first(story: list[OutcomeFact]) -> None:
    first = min(fact.occurred_at for fact in story)
    state = merge(story)
    assert (state.person_ref, state.course) in {(fact.person_ref, fact.course) for fact in story if fact.occurred_at == first}


@given(stories)
def test_a_source_clock_in_another_offset_says_the_same_instant(story: list[OutcomeFact]) -> None:
    viet_nam = timezone(timedelta(hours=7))
    moved = [replace(fact, occurred_at=fact.occurred_at.astimezone(viet_nam)) for fact in story]
    assert merge(moved) == merge(story)
