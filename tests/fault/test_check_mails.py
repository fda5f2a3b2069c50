"""Which repeated mail the checker overlooks, and which it does not."""

from collections import Counter

from tests.fault.harness.check_mails import Delivery, compare

SENT, REPEATED = Delivery("sent", 0), Delivery("sent", 1)


def test_a_mail_may_be_repeated_after_a_lost_answer_once() -> None:
    assert compare({"a": SENT, "b": REPEATED}, Counter(a=1, b=2), Counter()) == []
    (found,) = compare({"a": SENT, "b": REPEATED}, Counter(a=2, b=3), Counter())
    assert (found.invariant, found.harm, found.count) == ("I10", "double", 2)


def test_what_a_lost_database_had_sent_may_be_sent_again() -> None:
    assert compare({"a": SENT}, Counter(a=2), Counter(a=1)) == []
    (found,) = compare({"a": SENT, "b": SENT}, Counter(a=3, b=2), Counter(a=1))
    assert (found.harm, found.count) == ("double", 2)


def test_a_mail_of_a_report_that_is_lost_with_the_database_was_ordered() -> None:
    assert compare({}, Counter(a=1), Counter(a=1)) == []
    (found,) = compare({}, Counter(a=1, b=1), Counter(a=1))
    assert (found.harm, found.examples) == ("other", ["b"])


def test_a_mail_that_is_noted_must_have_been_taken() -> None:
    (found,) = compare({"a": SENT, "b": SENT}, Counter(b=1), Counter(a=1))
    assert (found.harm, found.examples) == ("lost", ["a"])


def test_a_mail_must_not_wait_for_ever() -> None:
    (found,) = compare({"a": SENT, "b": Delivery("pending", 0), "c": Delivery("sending", 1)}, Counter(a=1, c=1), Counter())
    assert (found.harm, found.count) == ("lost", 2)


def test_a_person_is_asked_only_after_two_lost_answers() -> None:
    assert compare({"a": Delivery("unknown", 2)}, Counter(a=2), Counter()) == []
    (found,) = compare({"a": Delivery("unknown", 1), "b": Delivery("failed", 0)}, Counter(a=1), Counter())
    assert (found.harm, found.count) == ("other", 2)
