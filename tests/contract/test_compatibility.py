"""Every kind of change that would break who relies on what was released is refused, and what breaks nobody is not."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from shared.contracts import compatibility, generate
from shared.contracts.catalogue import EVENT_TYPES
from shared.contracts.enrollment import Enrollment
from shared.contracts.topics import PLATFORM_EVENTS, TASK_UPDATES, TOPICS

Schema = dict[str, Any]

PERSON = "vn.hocvu.enrollment.person.registered.v1"
"""A type with everything a rule looks at: bounds, a list, an enumeration, a pattern, a default, a field that may be null."""


def _schema() -> Schema:
    """The released form, with a short text and a number besides, which the person has not."""
    found = compatibility.schema(EVENT_TYPES[PERSON])
    found["properties"]["note"] = {"type": "string", "minLength": 2, "maxLength": 9, "pattern": "^[A-Z]*$"}
    found["properties"]["level"] = {"type": "integer", "default": 1}
    found["properties"]["kind"] = {"const": "A", "type": "string"}
    found["properties"]["groups"]["maxItems"] = 100
    return found


def _field(name: str, **changed: Any) -> Callable[[Schema], None]:
    return lambda schema: schema["properties"][name].update(changed)


def _member(field: str, **changed: Any) -> Callable[[Schema], None]:
    return lambda schema: schema["$defs"]["GroupMembership"]["properties"][field].update(changed)


def _groups(*values: str) -> Callable[[Schema], None]:
    return _member("group", enum=list(values))


NARROWER: dict[str, tuple[Callable[[Schema], None], str]] = {
    "an optional field is required": (lambda schema: schema["required"].append("groups"), "data.groups may be absent"),
    "a value less": (_groups("CIT", "STU", "ENT"), "data.groups[].group may be 'PUB'"),
    "one value of a text": (_field("note", const="A"), "data.note may be anything"),
    "a lower upper bound": (_field("assurance", maximum=2), "data.assurance may pass maximum"),
    "a higher lower bound": (_field("assurance", minimum=1), "data.assurance may pass minimum"),
    "a shorter text": (_field("note", maxLength=3), "data.note may pass maxLength"),
    "a longer text at least": (_field("note", minLength=3), "data.note may pass minLength"),
    "a shorter list": (_field("groups", maxItems=99), "data.groups may pass maxItems"),
    "never null": (_member("valid_to", anyOf=[{"type": "string", "format": "date"}]), "data.groups[].valid_to may have another type"),
    "a new rule": (_field("level", multipleOf=2), "data.level may have another multipleOf"),
    "no unknown fields": (lambda schema: schema.update(additionalProperties=False), "data may have another additionalProperties"),
}
"""What refuses a writer of yesterday."""

WIDER: dict[str, tuple[Callable[[Schema], None], str]] = {
    "a required field is optional": (lambda schema: schema["required"].remove("version"), "data.version may be absent"),
    "a value more": (_groups("CIT", "STU", "PUB", "ENT", "OTH"), "data.groups[].group may be 'OTH'"),
    "two values of one": (lambda schema: schema["properties"].update(kind={"enum": ["A", "B"], "type": "string"}), "data.kind may be 'B'"),
    "a higher upper bound": (_field("assurance", maximum=4), "data.assurance may pass maximum"),
    "a lower lower bound": (_field("assurance", minimum=-1), "data.assurance may pass minimum"),
    "no upper bound": (lambda schema: schema["properties"]["assurance"].pop("maximum"), "data.assurance may pass maximum"),
    "a longer text": (_field("note", maxLength=10), "data.note may pass maxLength"),
    "a longer list": (_field("groups", maxItems=101), "data.groups may pass maxItems"),
    "no pattern": (lambda schema: schema["properties"]["note"].pop("pattern"), "data.note may have another pattern"),
    "no format": (lambda schema: schema["properties"]["person_ref"].pop("format"), "data.person_ref may have another format"),
    "may be null": (
        lambda schema: schema["properties"].update(version={"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}),
        "data.version may have another type",
    ),
    "anything": (lambda schema: schema["properties"].update(note={}), "data.note may have another type"),
}
"""What a reader of yesterday refuses."""

EITHER: dict[str, tuple[Callable[[Schema], None], str]] = {
    "a field is gone": (lambda schema: schema["properties"].pop("groups"), "data.groups was removed"),
    "a field of a member is gone": (
        lambda schema: schema["$defs"]["Residence"]["properties"].pop("valid_to"),
        "data.residences[].valid_to was removed",
    ),
    "another default": (_field("level", default=2), "data.level meant 1 where it is absent and means 2 now"),
    "another default of null": (_member("valid_to", default="2030-01-01"), "data.groups[].valid_to meant None"),
    "another type": (_field("assurance", type="string"), "data.assurance may have another type"),
    "another pattern": (_field("note", pattern="^[a-z]*$"), "data.note may have another pattern"),
    "another format": (_field("person_ref", format="uri"), "data.person_ref may have another format"),
}
"""What breaks one or the other whoever writes."""

HARMLESS: dict[str, Callable[[Schema], None]] = {
    "nothing": lambda _: None,
    "other words": _field("version", description="told otherwise", title="Other"),
    "a new optional field": lambda schema: schema["properties"].update(language={"type": "string"}),
    "the same values in another order": _groups("ENT", "PUB", "STU", "CIT"),
}


def _told(spoil: Callable[[Schema], None], *, written_by_us: bool) -> list[str]:
    new = _schema()
    spoil(new)
    return compatibility.incompatibilities(_schema(), new, written_by_us=written_by_us)


@pytest.mark.parametrize("kind", NARROWER)
def test_what_refuses_yesterdays_records_is_red_whoever_writes(kind: str) -> None:
    spoil, reason = NARROWER[kind]
    for written_by_us in (True, False):
        assert f"what was written yesterday is refused today: {reason}" in _told(spoil, written_by_us=written_by_us)


@pytest.mark.parametrize("kind", WIDER)
def test_what_a_reader_of_yesterday_refuses_is_red_where_we_write(kind: str) -> None:
    spoil, reason = WIDER[kind]
    assert _told(spoil, written_by_us=True) == [f"what is written today is refused by a reader of yesterday: {reason}"]
    # What platforms alone write may become wider: they begin when they know of it.
    assert _told(spoil, written_by_us=False) == []


@pytest.mark.parametrize("kind", EITHER)
def test_what_is_lost_or_told_otherwise_is_red_whoever_writes(kind: str) -> None:
    spoil, reason = EITHER[kind]
    for written_by_us in (True, False):
        assert any(reason in one for one in _told(spoil, written_by_us=written_by_us))


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_breaks_nobody_is_not_red(kind: str) -> None:
    assert _told(HARMLESS[kind], written_by_us=True) == []


def test_who_writes_decides_and_facts_taken_over_http_are_written_by_us() -> None:
    assert {topic.name for topic in TOPICS if not topic.written_by_us} == {TASK_UPDATES.name}
    assert PLATFORM_EVENTS.written_by_us
    assert not dataclasses.replace(PLATFORM_EVENTS, handed_over_by=()).written_by_us


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"partitions": 24}, "partitions was 12 and is 24"),
        ({"partitioned_by": "account"}, "partitioned_by was 'source and account' and is 'account'"),
        ({"key": "account"}, "key was 'source and account' and is 'account'"),
    ],
)
def test_a_topic_that_puts_a_key_elsewhere_is_red(change: dict[str, Any], told: str) -> None:
    changed = tuple(dataclasses.replace(topic, **change) if topic == PLATFORM_EVENTS else topic for topic in TOPICS)
    assert compatibility.breaks(EVENT_TYPES, changed) == [f"topic platform-events: {told}"]


def test_a_topic_that_is_gone_is_red_and_a_new_one_is_not() -> None:
    new = dataclasses.replace(PLATFORM_EVENTS, name="other-events")
    assert compatibility.breaks(EVENT_TYPES, (*TOPICS, new)) == []
    before = compatibility.released_topics((*TOPICS, new))
    assert compatibility.moved(before, compatibility.released_topics(TOPICS)) == ["topic other-events: is not in the list any more"]


def test_no_contract_breaks_what_was_released_and_everything_is_released() -> None:
    assert compatibility.breaks(EVENT_TYPES, TOPICS) == []
    assert {path.stem for path in compatibility.RELEASED.glob("vn.*.json")} == set(EVENT_TYPES)
    assert json.loads((compatibility.RELEASED / compatibility.TOPICS_FILE).read_text("utf-8")).keys() == {topic.name for topic in TOPICS}


class _Wider(Enrollment):
    status: Literal["AWAITING", "ACTIVE", "CANCELLED", "VOIDED", "PAUSED"] = Field()  # type: ignore[assignment]
    version: int = Field(default=1, ge=1)


def test_a_wider_type_of_ours_is_not_healed_by_writing_the_schemas_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One status more and a version that may be absent: schemas and release are refused, and the way out is told."""
    name = "vn.hocvu.enrollment.enrollment.registered.v1"
    monkeypatch.setattr(generate, "EVENT_TYPES", {**EVENT_TYPES, name: dataclasses.replace(EVENT_TYPES[name], model=_Wider)})
    _refused_by_every_command(monkeypatch)
    told = capsys.readouterr().out
    assert "data.status may be 'PAUSED'" in told
    assert "data.version may be absent" in told
    assert compatibility.WAY_OUT in told


def test_a_narrower_type_is_not_healed_by_writing_the_schemas_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was released had a field that the contract no longer has, and a type that is gone."""
    name = "vn.hocvu.platform.enrollment.registered.v1"
    promised = compatibility.schema(EVENT_TYPES[name])
    promised["properties"]["language"] = {"type": "string"}
    (tmp_path / f"{name}.json").write_text(json.dumps(promised))
    (tmp_path / "vn.hocvu.platform.enrollment.forgotten.v1.json").write_text("{}")
    monkeypatch.setattr(compatibility, "RELEASED", tmp_path)
    _refused_by_every_command(monkeypatch)
    assert json.loads((tmp_path / f"{name}.json").read_text()) == promised
    assert len(compatibility.breaks(EVENT_TYPES, TOPICS)) == 2


def test_a_release_notes_every_type_and_every_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatibility, "RELEASED", tmp_path / "released")
    monkeypatch.setattr(generate, "everything", dict)
    monkeypatch.setattr("sys.argv", ["generate", "--release"])
    assert generate.main() == 0
    assert {path.stem for path in compatibility.RELEASED.iterdir()} == {"topics", *EVENT_TYPES}
    assert compatibility.breaks(EVENT_TYPES, TOPICS) == []


def _refused_by_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in compatibility.RELEASED.iterdir()}
    monkeypatch.setattr(generate, "everything", lambda: pytest.fail("something was about to be written"))
    for asked in ([], ["--check"], ["--release"]):
        monkeypatch.setattr("sys.argv", ["generate", *asked])
        assert generate.main() == 1
    assert {path: path.read_bytes() for path in compatibility.RELEASED.iterdir()} == before


def test_a_released_form_that_may_be_null_is_judged_form_by_form() -> None:
    old = compatibility.schema(EVENT_TYPES["vn.hocvu.enrollment.enrollment.registered.v1"])
    new = copy.deepcopy(old)
    new["properties"]["course"]["anyOf"][0]["maxLength"] = 200
    reason = "what is written today is refused by a reader of yesterday: data.course may pass maxLength"
    assert compatibility.incompatibilities(old, new, written_by_us=True) == [reason]
