"""What a person sees of a rebuild, and what the reader of its tests takes offence at."""

import pytest

from services.reporting.rebuild.rebuilding import Rebuilt
from services.reporting.rebuild.screen import Screen, told
from services.reporting.rebuild.store import Compared
from tests.support.reporting_reader import Reader

EQUAL = Compared("course", 4, "aa", "aa")
OTHER = Compared("figure", 900, "aa", "bb")
ROW = ("I-04", "ALL", "VN", "2026-06-01", "2 2 0 0 0 0", "1 1 0 0 0 0")


def test_a_result_says_table_by_table_what_stood_and_what_was_made() -> None:
    right = told(Rebuilt((EQUAL,), 0, (), 12, 3, 4.0, 0.25, 1))
    assert right == ["course: 4 rows, equal", "  before  aa", "  rebuilt aa", "equal; 12 records, 3 came meanwhile, 4.0 s, folds waited 0.25 s"]
    wrong = told(Rebuilt((EQUAL, OTHER), 1, (ROW,), 12, 3, 4.0, 0.25, 1))
    assert "figure: 900 rows, DIFFERENT" in wrong
    assert "  I-04 ALL VN 2026-06-01 2 2 0 0 0 0 1 1 0 0 0 0" in wrong
    assert wrong[-1].startswith("DIFFERENT, 1 rows of figures")


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("services.reporting.rebuild.screen.time.monotonic", lambda: clock[-1])
    with Screen() as screen:
        for second, done in ((103.0, 3000), (110.0, 10_000), (112.0, 11_000), (121.0, 42_000)):
            clock.append(second)
            screen.tell("reading topics", done, 50_000)
    lines = capsys.readouterr().err.split("\n")
    assert lines[:2] == [
        "reading topics: 10,000 of 50,000 records, 1,000/s, 40 s left",
        "reading topics: 42,000 of 50,000 records, 2,000/s, 4 s left",
    ]


def _answer(nation: int, province: int) -> list[dict[str, object]]:
    counts = {"VN": nation, "VN/51": province}
    return [{"indicator": one, "scope": node, "counts": {"all": counts[node]}} for one in ("I-01", "I-02", "I-04", "I-05") for node in counts]


def test_the_reader_sees_a_total_that_falls_and_a_whole_that_is_not_its_parts() -> None:
    reader = Reader("", "")
    for nation in (3, 3, 5):
        reader.judge(_answer(nation, nation), parts=True)
    assert reader.wrong == []
    reader.judge(_answer(5, 4), parts=True)
    assert "I-01 all: the provinces add up to 4, the nation says 5" in reader.wrong
    reader.wrong.clear()
    reader.judge(_answer(0, 0), parts=True)
    assert "I-02 of the nation fell from 5 to 0" in reader.wrong
