"""What persons contribute: hand-written cases of docs/indicators.md, and properties of the one path."""

import random
from datetime import UTC, date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.reporting.figures.domain import (
    ALL,
    CIT,
    EMPTY,
    ENT,
    PUB,
    STU,
    UNGROUPED,
    Affiliation,
    CompletionRow,
    Document,
    EnrollmentRow,
    PersonRow,
    Register,
    Row,
    Update,
    add_difference,
    codes,
    contributions,
    day_number,
    merge,
    microseconds,
    roll_up,
    unknown_codes,
)

REGISTER = Register({"51": "51", "23377": "51", "23400": "51", "01": "01", "00004": "01"}, {"BXD1": ("KH-440",), "BXD2": ("KH-440",), "MOOC": ()})
BO_Y, BA_DINH = "VN/51/23377", "VN/01/00004"


def day(month: int, number: int, year: int = 2026) -> int:
    return day_number(date(year, month, number))


def us(month: int, number: int, hour: int = 3) -> int:
    return microseconds(datetime(2026, month, number, hour, tzinfo=UTC))


def person(*residences: tuple[str, int, int | None], groups: tuple[tuple[str, int, int | None], ...] = (("PUB", day(1, 1), None),)) -> PersonRow:
    return PersonRow(1, tuple(Affiliation(*one) for one in residences), tuple(Affiliation(*one) for one in groups))


LAN = person(("23377", day(1, 1), None))


def enrollment(
    course: str = "BXD1", status: str = "ACTIVE", registered: int | None = us(6, 1), started: int | None = us(6, 5), withdrawn: int | None = None
) -> EnrollmentRow:
    return EnrollmentRow(1, course, status, registered, started, withdrawn)


def at(document: Document, indicator: str, leaf: str, group: int = ALL, course_set: str = "ALL", until: int = day(12, 31)) -> int:
    """The running sum of a counter up to a day."""
    rows = contributions(document, REGISTER)
    return sum(counts[group] for (i, s, node, when), counts in rows.items() if (i, s, node) == (indicator, course_set, leaf) and when <= until)


def test_two_courses_and_two_accounts_of_the_same_kind_count_the_person_once() -> None:
    lan = Document(LAN, {b"1": enrollment("BXD1"), b"2": enrollment("BXD2")}, {b"1": CompletionRow(1, us(8, 1))})
    assert at(lan, "I-01", BO_Y) == at(lan, "I-01", BO_Y, PUB) == at(lan, "I-01", BO_Y, course_set="KH-440") == 1
    assert at(lan, "I-02", BO_Y) == 2
    assert at(lan, "I-04", BO_Y) == at(lan, "I-05", BO_Y) == 1
    assert at(lan, "I-01", BO_Y, CIT) == 0


def test_participation_begins_on_the_day_of_the_earliest_activity() -> None:
    lan = Document(LAN, {b"1": enrollment(started=us(6, 9)), b"2": enrollment("BXD2", started=us(6, 5))}, {})
    assert contributions(lan, REGISTER)["I-01", "ALL", BO_Y, day(6, 5)][ALL] == 1
    assert at(lan, "I-01", BO_Y, until=day(6, 4)) == 0


def test_registered_but_never_started_is_an_enrollment_and_no_participation() -> None:
    lan = Document(LAN, {b"1": enrollment(started=None)}, {})
    assert (at(lan, "I-02", BO_Y), at(lan, "I-01", BO_Y)) == (1, 0)


def test_whoever_completed_took_part_from_that_day_on_if_nothing_was_told_of_an_earlier_activity() -> None:
    silent = Document(LAN, {b"1": enrollment(started=None)}, {b"1": CompletionRow(1, us(8, 1))})
    assert (at(silent, "I-01", BO_Y, until=day(7, 31)), at(silent, "I-01", BO_Y), at(silent, "I-04", BO_Y)) == (0, 1, 1)
    told = Document(LAN, {b"1": enrollment(started=us(6, 5))}, {b"1": CompletionRow(1, us(8, 1))})
    assert at(told, "I-01", BO_Y, until=day(6, 5)) == at(told, "I-01", BO_Y) == 1
    late = Document(LAN, {b"1": enrollment(started=us(8, 9))}, {b"1": CompletionRow(1, us(8, 1))})
    assert at(late, "I-01", BO_Y, until=day(8, 1)) == at(late, "I-01", BO_Y) == 1
    for row in (enrollment(started=None, status="CANCELLED", withdrawn=us(7, 30)), enrollment(started=None, status="VOIDED")):
        assert at(Document(LAN, {b"1": row}, {b"1": CompletionRow(1, us(8, 1))}), "I-01", BO_Y) == 0
    assert at(Document(LAN, {b"1": enrollment(started=None)}, {b"1": CompletionRow(2, None)}), "I-01", BO_Y) == 0


def test_a_voided_enrollment_leaves_everything() -> None:
    assert contributions(Document(LAN, {b"1": enrollment(status="VOIDED")}, {b"1": CompletionRow(1, us(8, 1))}), REGISTER) == {}


def test_facts_before_their_registration_contribute_nothing_yet() -> None:
    waiting = Document(LAN, {b"1": EnrollmentRow(1, None, "AWAITING", None, us(6, 5), None)}, {b"1": CompletionRow(1, us(8, 1))})
    assert contributions(waiting, REGISTER) == {}
    assert contributions(Document(LAN, {}, {b"1": CompletionRow(1, us(8, 1))}), REGISTER) == {}


def test_enrolling_again_in_the_same_course_is_two_enrollments_one_participation_one_completion() -> None:
    lan = Document(LAN, {b"1": enrollment(), b"2": enrollment()}, {b"1": CompletionRow(1, us(8, 1)), b"2": CompletionRow(1, us(9, 1))})
    assert (at(lan, "I-02", BO_Y), at(lan, "I-01", BO_Y), at(lan, "I-05", BO_Y)) == (2, 1, 1)
    assert contributions(lan, REGISTER)["I-05", "ALL", BO_Y, day(8, 1)][ALL] == 1


def test_a_completion_after_a_withdrawal_in_force_does_not_count_and_one_before_does() -> None:
    early = Document(LAN, {b"1": enrollment(status="CANCELLED", withdrawn=us(8, 2))}, {b"1": CompletionRow(1, us(8, 1))})
    late = Document(LAN, {b"1": enrollment(status="CANCELLED", withdrawn=us(7, 30))}, {b"1": CompletionRow(1, us(8, 1))})
    assert (at(early, "I-04", BO_Y), at(late, "I-04", BO_Y), at(late, "I-01", BO_Y)) == (1, 0, 1)


def test_who_moves_takes_the_stock_along_and_leaves_the_flows_where_they_happened() -> None:
    moved = person(("23377", day(1, 1), None), ("00004", day(7, 1), None))
    lan = Document(moved, {b"1": enrollment()}, {b"1": CompletionRow(1, us(6, 20))})
    assert [at(lan, "I-01", BO_Y, until=day(6, 30)), at(lan, "I-01", BO_Y), at(lan, "I-01", BA_DINH)] == [1, 0, 1]
    assert (at(lan, "I-02", BO_Y), at(lan, "I-05", BO_Y), at(lan, "I-05", BA_DINH)) == (1, 1, 0)


def test_who_ends_a_residence_without_a_new_one_is_unattributed_from_that_day() -> None:
    lan = Document(person(("23377", day(1, 1), day(7, 1))), {b"1": enrollment()}, {})
    assert (at(lan, "I-01", BO_Y), at(lan, "I-01", "VN/?"), at(lan, "I-01", BO_Y, until=day(6, 30))) == (0, 1, 1)


def test_the_deepest_place_that_is_known_counts() -> None:
    assert at(Document(person(("51", day(1, 1), None)), {b"1": enrollment()}, {}), "I-01", "VN/51/?") == 1
    assert at(Document(person(("99999", day(1, 1), None)), {b"1": enrollment()}, {}), "I-01", "VN/?") == 1
    assert at(Document(None, {b"1": enrollment()}, {}), "I-01", "VN/?", UNGROUPED) == 1


def test_who_changes_groups_moves_between_groups_and_may_hold_several() -> None:
    student = person(("23377", day(1, 1), None), groups=(("ENT", day(7, 1), None), ("STU", day(1, 1), day(7, 1)), ("CIT", day(1, 1), None)))
    lan = Document(student, {b"1": enrollment()}, {})
    assert [at(lan, "I-01", BO_Y, group, until=day(6, 30)) for group in (ALL, CIT, STU, ENT)] == [1, 1, 1, 0]
    assert [at(lan, "I-01", BO_Y, group) for group in (ALL, CIT, STU, ENT)] == [1, 1, 0, 1]


def test_the_day_is_the_day_in_viet_nam() -> None:
    for hour, minute, expected in ((16, 59, day(9, 14)), (17, 0, day(9, 15))):
        instant = microseconds(datetime(2026, 9, 14, hour, minute, tzinfo=UTC))
        lan = Document(LAN, {b"1": enrollment()}, {b"1": CompletionRow(1, instant)})
        assert ("I-05", "ALL", BO_Y, expected) in contributions(lan, REGISTER)


def test_a_course_that_is_not_in_the_register_counts_for_all_and_is_awaited() -> None:
    lan = Document(LAN, {b"1": enrollment("NEW")}, {})
    assert (at(lan, "I-01", BO_Y), at(lan, "I-01", BO_Y, course_set="KH-440")) == (1, 0)
    assert unknown_codes(lan, REGISTER) == {"course:NEW"}
    assert codes(lan) == {"course:NEW", "territory:23377"}


# Properties of the one path.

days = st.integers(day(1, 1), day(12, 31))
affiliations = st.lists(
    st.tuples(st.sampled_from(["23377", "23400", "00004", "51", "99999"]), days, st.none() | days), max_size=4, unique_by=lambda one: one[1]
)
memberships = st.lists(st.tuples(st.sampled_from(["CIT", "STU", "PUB", "ENT"]), days, st.none() | days), max_size=4, unique_by=lambda one: one[:2])
instants = st.integers(us(1, 1), us(12, 31))


def _person(version: int, residences: list[tuple[str, int, int | None]], groups: list[tuple[str, int, int | None]]) -> Update:
    lived = tuple(Affiliation(*one) for one in sorted(residences, key=lambda one: one[1]))
    belonged = tuple(Affiliation(*one) for one in sorted(groups, key=lambda one: one[:2]))
    return Update(b"", PersonRow(version, lived, belonged))


def _enrollment(key: bytes, version: int, course: str, status: str, registered: int, started: int | None, withdrawn: int | None) -> Update:
    return Update(key, EnrollmentRow(version, course, status, registered, started, withdrawn))


persons = st.builds(_person, st.integers(1, 9), affiliations, memberships)
enrollments = st.builds(
    _enrollment,
    st.sampled_from([b"1", b"2", b"3"]),
    st.integers(1, 9),
    st.sampled_from(["BXD1", "BXD2", "MOOC", "NEW"]),
    st.sampled_from(["ACTIVE", "ACTIVE", "CANCELLED", "VOIDED"]),
    instants,
    st.none() | instants,
    st.none() | instants,
)
completions = st.builds(
    lambda key, version, at: Update(key, CompletionRow(version, at)), st.sampled_from([b"1", b"2", b"3"]), st.integers(1, 9), st.none() | instants
)
# One version of an entity has one content, as at its owner.
stories = st.lists(persons | enrollments | completions, max_size=12, unique_by=lambda u: (type(u.row), u.entity_id, u.row.version))


@settings(max_examples=300, deadline=timedelta(seconds=2))
@given(stories, st.randoms(use_true_random=False))
def test_any_order_copies_and_splits_of_a_story_give_the_same_figures(story: list[Update], order: random.Random) -> None:
    whole = contributions(merge(EMPTY, story), REGISTER)
    arrivals = story + order.choices(story, k=len(story)) if story else []
    order.shuffle(arrivals)
    rows: dict[Row, list[int]] = {}
    document = EMPTY
    while arrivals:
        batch, arrivals = arrivals[: (size := order.randint(1, 5))], arrivals[size:]
        after = merge(document, batch)
        add_difference(document, after, (REGISTER, REGISTER), rows)
        document = after
    assert roll_up(rows) == roll_up(whole)
    assert document == merge(EMPTY, story)


@settings(max_examples=200, deadline=timedelta(seconds=2))
@given(st.lists(stories, min_size=1, max_size=4))
def test_every_total_closes_and_no_stock_ever_leaves_zero_and_one_per_person(people: list[list[Update]]) -> None:
    rows: dict[Row, list[int]] = {}
    for story in people:
        mine = contributions(merge(EMPTY, story), REGISTER)
        for indicator in ("I-01", "I-04"):
            for when in sorted({row[3] for row in mine}):
                value = sum(counts[ALL] for (i, course_set, _, d), counts in mine.items() if (i, course_set) == (indicator, "ALL") and d <= when)
                assert value in (0, 1)
        for when in sorted({row[3] for row in mine}):
            taking_part, done = (
                sum(counts[ALL] for (i, course_set, _, d), counts in mine.items() if (i, course_set) == (indicator, "ALL") and d <= when)
                for indicator in ("I-01", "I-04")
            )
            assert taking_part >= done
        add_difference(EMPTY, merge(EMPTY, story), (REGISTER, REGISTER), rows)
    figures = roll_up(rows)
    for (indicator, course_set, _, when), counts in [item for item in figures.items() if item[0][2] == "VN"]:
        below = [c for (i, s, node, d), c in figures.items() if (i, s, d) == (indicator, course_set, when) and node.count("/") == 1]
        assert [sum(column) for column in zip(*below, strict=True)] == counts


@settings(max_examples=200, deadline=timedelta(seconds=2))
@given(stories, stories)
def test_what_was_counted_under_old_registers_is_taken_back_under_them(known: list[Update], news: list[Update]) -> None:
    later = Register({**REGISTER.province_of, "99999": "01", "23400": "01"}, {"BXD1": ("KH-441",), "MOOC": ("KH-440", "KH-441"), "NEW": ("KH-440",)})
    before, after = merge(EMPTY, known), merge(merge(EMPTY, known), news)
    rows = contributions(before, REGISTER)
    add_difference(before, before, (REGISTER, later), rows)
    assert roll_up(rows) == roll_up(contributions(before, later))
    add_difference(before, after, (later, later), rows)
    assert roll_up(rows) == roll_up(contributions(after, later))


def test_an_older_version_changes_nothing_and_gives_the_same_object_back() -> None:
    document = merge(EMPTY, [Update(b"1", enrollment()), Update(b"", LAN)])
    assert merge(document, [Update(b"1", EnrollmentRow(1, "MOOC", "VOIDED", None, None, None)), Update(b"", LAN)]) is document
