"""The parts of the clerk's work that need no server: mending, choosing, naming, cutting into batches."""

import json
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import pytest

from shared.chassis.letters.choosing import choose
from shared.chassis.letters.desk import BATCH_BYTES, Desk, cut
from shared.chassis.letters.mending import Mending, mend, parse
from shared.chassis.letters.mistakes import LONGEST_WORDS, Invalid, insist_on_words
from shared.chassis.letters.reasons import MACHINERY, ReasonBook
from shared.chassis.letters.sources import Source, meant, named
from shared.chassis.letters.store import Filter, Record
from shared.chassis.letters.telling import readable
from shared.contracts.topics import RECORD_BYTES

CODES = {reason.code for reason in MACHINERY}
HEADERS = [("ce_id", b"1"), ("CE_Type", b"loaf.eaten"), ("ce_source", b"/ovens/1"), ("ce_type", b"loaf.eatn"), ("x", b"\xff")]


def record(value: bytes | None = b'{"loaf": "a", "slices": [{"grams": 10}], "\xc3\xa2": 1.0}') -> Record:
    return Record("loaves", 0, 7, 0, b"k", value, HEADERS)


def test_single_fields_are_set_and_the_rest_stays() -> None:
    mended = mend(record(), Mending(fields={"loaf": "b", "slices.0.grams": 12, "slices.1": {"grams": 1}, "new": None}))
    assert json.loads(mended.value or b"") == {"loaf": "b", "slices": [{"grams": 12}, {"grams": 1}], "â": 1.0, "new": None}
    assert mended.changed == ("data.loaf", "data.slices.0.grams", "data.slices.1", "data.new")
    assert mended.headers == tuple(HEADERS)


def test_data_that_is_replaced_keeps_its_very_bytes() -> None:
    assert mend(record(), Mending(data=b'{ "loaf":"b"}\n')).value == b'{ "loaf":"b"}\n'


def test_fields_are_set_on_top_of_new_data() -> None:
    assert mend(record(b"\xff"), Mending(data=b'{"loaf": "b"}', fields={"grams": 9})).value == b'{"loaf": "b", "grams": 9}'


def test_a_header_replaces_all_of_its_name_in_whatever_case() -> None:
    mended = mend(record(), Mending(headers={"CE_TYPE": "loaf.eaten"}))
    assert mended.headers == (("ce_id", b"1"), ("ce_source", b"/ovens/1"), ("x", b"\xff"), ("ce_type", b"loaf.eaten"))
    assert mended.changed == ("ce_type",)


@pytest.mark.parametrize("name", ["ce_id", "CE_ID", " ce_id ", "ce_source", "Ce_Source"])
def test_the_identity_cannot_be_edited_however_it_is_written(name: str) -> None:
    with pytest.raises(Invalid, match="is the identity of the event"):
        mend(record(), Mending(headers={"ce_type": "x", name: "2"}))


@pytest.mark.parametrize(
    ("value", "wanted", "said"),
    [
        (b"{}", Mending(), "changes nothing"),
        (b'{"a": 1}', Mending(fields={"a": 1}), "changes nothing"),
        (b"{}", Mending(data=b"{]"), r"not JSON \(line 1, column 2\)"),
        (b"{}", Mending(data=b""), "not JSON"),
        (b"{}", Mending(data=b"\xff"), "not UTF-8"),
        (b"{}", Mending(data=b"[" * 100_000), "nested too deeply"),
        (b"{}", Mending(data=b"NaN"), "no NaN"),
        (b"{}", Mending(data=b"1" * 10_000), "number that is too long"),
        (b"{}", Mending(data=b'"' + b"x" * RECORD_BYTES + b'"'), f"at most {RECORD_BYTES}"),
        (b"{]", Mending(fields={"a": 1}), "not JSON, so single fields cannot be set"),
        (None, Mending(fields={"a": 1}), "not JSON, so single fields cannot be set"),
        (b"{}", Mending(fields={"a.b": 1}), "a.b leads to no field"),
        (b"[]", Mending(fields={"5": 1}), "5 leads to no field"),
        (b"[1]", Mending(fields={"-1": 1}), "-1 leads to no field"),
        (b"7", Mending(fields={"a": 1}), "a leads to no field"),
        (b"{}", Mending(fields={"": 1}), "leads to no field"),
        (b"{}", Mending(fields={"a": "\ud800"}), "cannot be written"),
        (b"{}", Mending(fields={"a": float("inf")}), "cannot be written"),
        (b"{}", Mending(headers={"": "x"}), "no name of a header"),
        (b"{}", Mending(headers={"ce_typé": "x"}), "no name of a header"),
        (b"{}", Mending(headers={"ce_type": ""}), "printable characters"),
        (b"{}", Mending(headers={"ce_type": "a\nb"}), "printable characters"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_in_one_sentence(value: bytes | None, wanted: Mending, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        mend(record(value), wanted)
    for language in ("vi", "en"):
        assert refused.value.sentence(language).count("\n") == 0
    assert refused.value.vi != refused.value.en


def test_numbers_and_letters_are_kept_as_they_were() -> None:
    mended = mend(record(b'{"big": 12345678901234567890, "vi": "\xc6\xb0", "x": 1}'), Mending(fields={"x": 2}))
    assert mended.value == '{"big": 12345678901234567890, "vi": "ư", "x": 2}'.encode()
    assert parse(b'"\\u01b0"') == "ư"


def test_a_day_means_all_of_it_in_viet_nam() -> None:
    chosen = choose(CODES, reason="not_json", since="2026-11-24", until="2026-11-24")
    assert chosen == Filter(
        "not_json", since=datetime(2026, 11, 23, 17, tzinfo=UTC), until=datetime(2026, 11, 24, 17, tzinfo=UTC), state="open"
    )  # fmt: skip
    assert choose(CODES, until="2026-11-24T15:00").until == datetime(2026, 11, 24, 8, tzinfo=UTC)
    assert choose(CODES, since="2026-11-24T15:00Z").since == datetime(2026, 11, 24, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong", [{"since": "soon"}, {"until": "0001-01-01"}, {"since": "9999-12-31"}, {"reason": "salty"}, {"topic": ""}, {"topic": "a\x00"}]
)
def test_a_filter_that_can_match_nothing_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        choose(CODES, **wrong)  # type: ignore[arg-type]


def _source(name: str) -> Source:
    def never() -> AbstractAsyncContextManager[Desk]:
        raise AssertionError

    return Source(name, ReasonBook(), never)


def test_a_letter_is_named_with_its_service_unless_only_one_can_be_meant() -> None:
    both = [_source("oven"), _source("shop")]
    assert named(both, None, "shop-12") == (both[1], 12)
    assert named(both, "shop", "12") == (both[1], 12)
    assert named(both[:1], None, "12") == (both[0], 12)
    for service, letter in ((None, "12"), ("oven", "shop-12"), (None, "mill-12"), ("mill", "12"), (None, "shop-0"), (None, "shop-x"), (None, "")):
        with pytest.raises(Invalid):
            named(both, service, letter)
    with pytest.raises(Invalid):
        named(both, None, "shop-" + "9" * 30)


def test_nobody_settles_everything_by_saying_nothing() -> None:
    both = [_source("oven"), _source("shop")]
    with pytest.raises(Invalid, match="--all"):
        meant(both, None, [], Filter(), every=False)
    assert list(meant(both, None, [], Filter(), every=True)) == ["oven", "shop"]
    assert list(meant(both, "shop", [], Filter(reason="not_json"), every=False)) == ["shop"]
    found = meant(both, None, ["shop-2", "oven-1", "shop-3"], Filter(), every=False)
    assert {name: chosen.ids for name, (_, chosen) in found.items()} == {"shop": (2, 3), "oven": (1,)}


def test_batches_are_of_one_topic_and_fit_into_memory() -> None:
    large = BATCH_BYTES // 2
    rows = [(1, "a", 10), (2, "b", large), (3, "a", 10), (4, "b", large), (5, "b", large), (6, "a", 3 * BATCH_BYTES), (7, "a", 1)]
    assert cut(rows) == [("a", [1, 3]), ("b", [2, 4]), ("b", [5]), ("a", [6]), ("a", [7])]


@pytest.mark.parametrize(("by", "why"), [("", "x"), ("lan", " "), ("lan", "a\nb"), ("lan", "x" * (LONGEST_WORDS + 1)), ("\x1b[31m", "x")])
def test_who_and_why_are_words(by: str, why: str) -> None:
    with pytest.raises(Invalid):
        insist_on_words(by, why)


def test_what_a_stranger_wrote_does_no_harm_to_a_screen() -> None:
    assert readable(b"a\x1b[31m\xff\x00\nb") == "a\\x1b[31m\\xff\\x00\nb"
