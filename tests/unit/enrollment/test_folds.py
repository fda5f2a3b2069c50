"""Entities are a function of the set of facts: no order, no copy and no split into batches can matter."""

import itertools
import json
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.enrollment.enrollments.domain import EnrollmentState, change
from services.enrollment.enrollments.domain import merge as merge_enrollment
from services.enrollment.facts.domain import ABOUT_ENROLLMENTS, Fact, Kind, judge
from services.enrollment.intake.facts import check_time, to_fact
from services.enrollment.persons.domain import Pseudonyms
from services.enrollment.persons.domain import merge as merge_person
from shared.contracts import platform

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
WHO = UUID(int=1)
WHAT = UUID(int=2)


def told(kind: Kind, day: int, number: int = 0, **content: object) -> Fact:
    return Fact(UUID(int=1000 * kind + 100 * day + number), kind, WHAT, WHO, BEGIN + timedelta(days=day), json.dumps(content).encode())


def life() -> list[Fact]:
    return [
        told(Kind.ENROLLMENT_REGISTERED, 1, course="AAA"),
        told(Kind.ENROLLMENT_STARTED, 3),
        told(Kind.ENROLLMENT_STARTED, 2),
        told(Kind.ENROLLMENT_WITHDRAWN, 4),
        told(Kind.ENROLLMENT_REINSTATED, 5),
        told(Kind.ENROLLMENT_VOIDED, 6, reason="test"),
        told(Kind.ENROLLMENT_REINSTATED, 7),
    ]


def test_every_permutation_of_a_life_story_gives_the_same_entity() -> None:
    states = {merge_enrollment(order) for order in itertools.permutations(life())}
    assert states == {EnrollmentState(WHO, "AAA", "ACTIVE", BEGIN + timedelta(days=1), BEGIN + timedelta(days=2), None)}


facts = st.lists(
    st.builds(
        lambda kind, day, number: told(kind, day, number, course="AAA", reason="test"),
        st.sampled_from(sorted(ABOUT_ENROLLMENTS)), st.integers(0, 5), st.integers(0, 9),
    ),
    min_size=1, max_size=9, unique_by=lambda fact: fact.fact_id,
)  # fmt: skip


@settings(max_examples=300)
@given(facts, st.randoms(use_true_random=False))
def test_copies_and_splits_into_batches_change_nothing(story: list[Fact], order: random.Random) -> None:
    arrivals = story + order.choices(story, k=len(story))
    order.shuffle(arrivals)
    kept: dict[UUID, Fact] = {}
    while arrivals:
        batch, arrivals = arrivals[: (size := order.randint(1, 4))], arrivals[size:]
        verdicts = judge(batch, {known.fact_id: known.digest for known in kept.values()})
        assert not verdicts.reused
        kept.update({batch[index].fact_id: batch[index] for index in verdicts.new})
    assert merge_enrollment(kept.values()) == merge_enrollment(story) == _slowly(story)


def _slowly(story: list[Fact]) -> EnrollmentState:
    """The same rules told the other way round: from the answer back to the facts."""
    line = sorted(story, key=lambda fact: (fact.occurred_at, int(fact.kind), fact.fact_id))
    ends = [i for i, fact in enumerate(line) if fact.kind is Kind.ENROLLMENT_REINSTATED]
    since = line[ends[-1] + 1 :] if ends else line
    withdrawn = next((fact.occurred_at for fact in since if fact.kind is Kind.ENROLLMENT_WITHDRAWN), None)
    voided = any(fact.kind is Kind.ENROLLMENT_VOIDED for fact in since)

    # A start at the very instant of the withdrawal ranks before it.
    starts = [fact.occurred_at for fact in line if fact.kind is Kind.ENROLLMENT_STARTED and (withdrawn is None or fact.occurred_at <= withdrawn)]
    started = starts[0] if starts else None
    registered = next((fact.occurred_at for fact in line if fact.kind is Kind.ENROLLMENT_REGISTERED), None)
    status = "VOIDED" if voided else "AWAITING" if registered is None else "CANCELLED" if withdrawn else "ACTIVE"
    return EnrollmentState(WHO, "AAA" if registered else None, status, registered, started, withdrawn)  # type: ignore[arg-type]


def test_withdrawal_before_the_first_activity_leaves_no_participation_and_after_it_participation_stays() -> None:
    before = merge_enrollment([told(Kind.ENROLLMENT_REGISTERED, 1, course="A"), told(Kind.ENROLLMENT_WITHDRAWN, 2), told(Kind.ENROLLMENT_STARTED, 3)])
    after = merge_enrollment([told(Kind.ENROLLMENT_REGISTERED, 1, course="A"), told(Kind.ENROLLMENT_STARTED, 2), told(Kind.ENROLLMENT_WITHDRAWN, 3)])
    assert (before.status, before.started_at) == ("CANCELLED", None)
    assert (after.status, after.started_at) == ("CANCELLED", BEGIN + timedelta(days=2))


def test_what_was_taken_back_is_as_if_it_had_not_been_in_any_order_of_arrival() -> None:
    kept = [told(Kind.ENROLLMENT_REGISTERED, 1, course="A"), told(Kind.ENROLLMENT_STARTED, 5)]
    mistakes = [told(Kind.ENROLLMENT_WITHDRAWN, 3), told(Kind.ENROLLMENT_WITHDRAWN, 4), told(Kind.ENROLLMENT_VOIDED, 4, reason="error")]
    story = [*kept, *mistakes, told(Kind.ENROLLMENT_REINSTATED, 6)]
    assert {merge_enrollment(order) for order in itertools.permutations(story)} == {merge_enrollment(kept)}
    assert merge_enrollment(story[:-1]).started_at is None
    # Withdrawn again after that: the activity was before the withdrawal that stands.
    again = merge_enrollment([*story, told(Kind.ENROLLMENT_WITHDRAWN, 7)])
    assert (again.started_at, again.withdrawn_at) == (BEGIN + timedelta(days=5), BEGIN + timedelta(days=7))


@settings(max_examples=300)
@given(facts)
def test_a_reinstatement_leaves_what_the_story_without_withdrawals_and_voidings_tells(story: list[Fact]) -> None:
    taken_back = (Kind.ENROLLMENT_WITHDRAWN, Kind.ENROLLMENT_VOIDED)
    end = told(Kind.ENROLLMENT_REINSTATED, 9)
    assert merge_enrollment([*story, end]) == merge_enrollment([*(fact for fact in story if fact.kind not in taken_back), end])


def test_an_activity_known_before_its_registration_waits() -> None:
    state = merge_enrollment([told(Kind.ENROLLMENT_STARTED, 3)])
    assert (state.status, state.course, state.started_at) == ("AWAITING", None, BEGIN + timedelta(days=3))


def test_the_most_consequential_change_names_the_event() -> None:
    story = life()
    names = [change(merge_enrollment(story[: n - 1]) if n > 1 else None, merge_enrollment(story[:n])) for n in (1, 2, 4, 5, 6, 7)]
    assert names == ["registered", "started", "withdrawn", "reinstated", "voided", "reinstated"]


def test_a_persons_later_fact_corrects_the_affiliation_that_begins_on_the_same_day() -> None:
    def person(number: int, day: int, code: str) -> Fact:
        content = {"assurance": 1, "residences": [[code, "2026-01-01", None]], "groups": [["CIT", "2026-01-01", None]]}
        return Fact(UUID(int=number), Kind.LEARNER_REGISTERED, WHO, WHO, BEGIN + timedelta(days=day), json.dumps(content).encode())

    story = [person(1, 1, "23377"), person(2, 2, "00004")]
    assert merge_person(story) == merge_person(reversed(story))
    assert [residence.code for residence in merge_person(story).residences] == ["00004"]


def test_the_same_id_with_other_content_is_not_a_copy() -> None:
    first, other = told(Kind.ENROLLMENT_REGISTERED, 1, course="A"), told(Kind.ENROLLMENT_REGISTERED, 1, course="B")
    verdicts = judge([first, first, other], {})
    assert (verdicts.new, verdicts.copies, verdicts.reused) == ((0,), (1,), (2,))
    assert judge([first, other], {first.fact_id: first.digest}).reused == (1,)


def test_pseudonyms_are_the_same_again_and_different_for_every_account_source_and_key() -> None:
    one = Pseudonyms(b"k" * 32)
    assert one.person("/a", "lan") == Pseudonyms(b"k" * 32).person("/a", "lan")
    assert (
        len(
            {
                one.person("/a", "lan"),
                one.person("/b", "lan"),
                one.person("/a", "minh"),
                Pseudonyms(b"j" * 32).person("/a", "lan"),
                one.fact("/a", "lan"),
            }
        )
        == 5
    )
    assert one.enrollment("/a", "lan", "1") != one.enrollment("/a", "minh", "1")
    assert (one.person("/a", "lan").version, one.person("/a", "lan").variant) == (8, "specified in RFC 4122")


@pytest.mark.parametrize(
    ("at", "source", "reason"),
    [
        (datetime(2026, 11, 24, 12, 5, tzinfo=UTC), "/p", None),
        (datetime(2026, 11, 24, 12, 5, 1, tzinfo=UTC), "/p", "time_in_future"),
        (datetime(2038, 1, 1, tzinfo=UTC), "/history", "time_in_future"),
        (datetime(2025, 3, 25, 17, tzinfo=UTC), "/p", None),
        (datetime(2025, 3, 25, 16, 59, 59, tzinfo=UTC), "/p", "time_before_movement"),
        (datetime(1970, 1, 1, tzinfo=UTC), "/p", "time_before_movement"),
        (datetime(2024, 1, 1, tzinfo=UTC), "/history", None),
    ],
)
def test_times_that_cannot_be_right_are_refused(at: datetime, source: str, reason: str | None) -> None:
    wrong = check_time(at, source, datetime(2026, 11, 24, 12, tzinfo=UTC), ("/history",))
    assert (wrong.reason if wrong else None) == reason


def test_every_fact_of_the_catalogue_can_be_read_and_keeps_no_id_of_the_platform() -> None:
    example = {
        "account": "lan-secret", "enrollment": "lan-secret-1", "course": "AAA", "occurred_at": "2026-06-01T00:00:00+07:00",
        "residences": [{"code": "23377", "valid_from": "2025-07-01"}], "groups": [{"group": "PUB", "valid_from": "2025-07-01"}],
    }  # fmt: skip
    for known in platform.FACTS:
        data = known.decode(json.dumps(example).encode())
        fact = to_fact(known.name, "id-lan-secret", "/p", data, Pseudonyms(b"k" * 32))  # type: ignore[arg-type]
        assert b"lan-secret" not in fact.content
        assert fact.occurred_at == datetime(2026, 5, 31, 17, tzinfo=UTC)
