"""Log lines are JSON, one line each, and hold no texts of exceptions, which may hold values."""

import json
import logging
import sys

from shared.chassis.logging import CONTEXT, JsonFormatter


def _line(message: str, **extra: object) -> dict[str, object]:
    record = logging.LogRecord("bakery", logging.WARNING, __file__, 1, message, (), None)
    vars(record).update(extra)
    found: dict[str, object] = json.loads(JsonFormatter().format(record))
    return found


def test_facts_are_fields_and_what_is_consumed_is_bound_once() -> None:
    token = CONTEXT.set({"topic": "loaves"})
    line = _line("a batch was given back", attempt=3)
    CONTEXT.reset(token)
    assert (line["message"], line["level"], line["attempt"], line["topic"]) == ("a batch was given back", "WARNING", 3, "loaves")


def test_an_exception_is_told_by_its_kind_and_place_only() -> None:
    try:
        int("Nguyen Van A")
    except ValueError:
        record = logging.LogRecord("bakery", logging.ERROR, __file__, 1, "batch failed", (), sys.exc_info())
    text = JsonFormatter().format(record)
    assert json.loads(text)["error"] == "ValueError"
    assert "Nguyen" not in text
    assert "\n" not in text
