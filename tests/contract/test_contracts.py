"""Can yesterday's reader read today's event, and does every event have what a reader needs?"""

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deploy.local.layout import SERVICES
from shared.chassis.service import Runtime, Service
from shared.contracts import generate
from shared.contracts.catalogue import EVENT_TYPES
from shared.contracts.decoding import struct_of
from shared.contracts.envelope import EventType, by_name
from shared.contracts.topics import EVENT_TOPICS, TOPICS

ALL = sorted(EVENT_TYPES.values(), key=lambda known: known.name)
NAMES = [known.name for known in ALL]


@pytest.mark.parametrize("known", ALL, ids=NAMES)
def test_every_event_type_has_examples_that_its_schema_and_both_decoders_take_alike(known: EventType[Any]) -> None:
    found = generate.examples(known)
    assert "full" in found
    stored = json.loads((generate.HERE / "schemas" / f"{known.name}.json").read_text())
    for example in found.values():
        jsonschema.validate(example, stored, cls=jsonschema.Draft202012Validator)
        body = json.dumps(example).encode()
        assert _plain(known.decode(body)) == known.model.model_validate_json(body).model_dump()


def test_what_is_derived_is_up_to_date() -> None:
    assert [path.name for path, text in generate.everything().items() if path.read_text("utf-8") != text] == []


def test_no_contract_breaks_what_was_released_and_every_type_is_released() -> None:
    assert generate.breaks() == []
    assert {path.stem for path in generate.RELEASED.glob("*.json")} == set(NAMES)


def test_a_breaking_change_is_not_healed_by_writing_the_schemas_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was released had a field that the contract no longer has, and a type that is gone."""
    name = "vn.hocvu.platform.enrollment.registered.v1"
    promised = generate.schema(EVENT_TYPES[name])
    promised["properties"]["language"] = {"type": "string"}
    (tmp_path / f"{name}.json").write_text(json.dumps(promised))
    (tmp_path / "vn.hocvu.platform.enrollment.forgotten.v1.json").write_text("{}")
    monkeypatch.setattr(generate, "RELEASED", tmp_path)
    monkeypatch.setattr(generate, "everything", lambda: pytest.fail("something was about to be written"))
    for asked in ([], ["--release"]):
        monkeypatch.setattr("sys.argv", ["generate", *asked])
        assert generate.main() == 1
    assert json.loads((tmp_path / f"{name}.json").read_text()) == promised
    assert len(generate.breaks()) == 2


def _without(schema: dict[str, Any]) -> None:
    del schema["properties"]["course"]


def _required(schema: dict[str, Any]) -> None:
    schema["required"].append("reason")


def _narrower(schema: dict[str, Any]) -> None:
    schema["properties"]["course"]["maxLength"] = 3


def _other_type(schema: dict[str, Any]) -> None:
    schema["properties"]["account"]["type"] = "integer"


def _other_pattern(schema: dict[str, Any]) -> None:
    schema["properties"]["course"]["pattern"] = "^[A-Z]*$"


@pytest.mark.parametrize("spoil", [_without, _required, _narrower, _other_type, _other_pattern])
def test_a_change_that_breaks_a_reader_of_yesterday_is_red(spoil: Any) -> None:
    old = generate.schema(EVENT_TYPES["vn.hocvu.platform.enrollment.registered.v1"])
    new = copy.deepcopy(old)
    spoil(new)
    assert generate.incompatibilities(old, new)


def test_fewer_values_and_lost_forms_are_red_and_an_optional_field_is_not() -> None:
    old = generate.schema(EVENT_TYPES["vn.hocvu.platform.learner.registered.v1"])
    fewer, lost, more = copy.deepcopy(old), copy.deepcopy(old), copy.deepcopy(old)
    fewer["$defs"]["GroupMembership"]["properties"]["group"]["enum"].remove("PUB")
    lost["$defs"]["Residence"]["properties"]["valid_to"] = {"type": "null"}
    more["properties"]["language"] = {"type": "string"}
    assert generate.incompatibilities(old, fewer)
    assert generate.incompatibilities(old, lost)
    assert generate.incompatibilities(old, more) == []


def test_a_type_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        by_name((ALL[0],), (ALL[0],))


def test_every_topic_says_who_writes_what_it_is_keyed_by_and_how_long_it_lives() -> None:
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)
    for topic in TOPICS:
        assert all((topic.owner, topic.key, topic.partitioned_by, topic.meaning))
        assert topic.partitions > 0
        assert "." not in topic.name
        assert "_" not in topic.name
        assert (topic.retention is None) == (topic.cleanup == "compact") or topic.cleanup == "delete"


def test_every_event_type_names_its_owner_and_a_topic_of_the_list() -> None:
    topics = {topic.name: topic for topic in EVENT_TOPICS}
    for known in ALL:
        owner = known.name.split(".")[2]
        assert topics[known.topic].owner in (owner, "platforms")
        assert known.meaning


@pytest.mark.parametrize("name", SERVICES)
def test_every_event_type_of_a_topic_is_handled_or_ignored_by_every_reader(name: str) -> None:
    service: Service = importlib.import_module(f"services.{name}.main").SERVICE
    runtime = Runtime(pool=None, settings=_Settings())  # type: ignore[arg-type]
    subscriptions = service.subscriptions(runtime)
    assert {wanted.topic.name for wanted in subscriptions} == {topic.name for topic in EVENT_TOPICS if name in topic.readers}
    for wanted in subscriptions:
        known = {one.name for one in (*wanted.handlers, *wanted.ignored)}
        assert known == {one.name for one in ALL if one.topic == wanted.topic.name}


class _Settings:
    history_sources = ()
    reports_url = ""

    class pseudonym_key:  # noqa: N801
        @staticmethod
        def get_secret_value() -> str:
            return "00" * 32


def test_the_asyncapi_document_refers_to_nothing_that_is_not_there() -> None:
    document = generate.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    references = [value for value in _walk(document) if isinstance(value, str) and value.startswith("#/") and not value.startswith("#/$defs")]
    assert len(references) > len(ALL)
    for reference in references:
        found: Any = document
        for part in reference[2:].split("/"):
            found = found[part]
    assert all(operation["action"] in ("send", "receive") for operation in document["operations"].values())


def _walk(value: Any) -> Any:
    if isinstance(value, dict):
        for name, one in value.items():
            if name == "$ref":
                yield one
            yield from _walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from _walk(one)


spoilers: st.SearchStrategy[Any] = st.sampled_from(
    ["", None, 3, -1, True, "x" * 300, "\n", "2026-13-45", "2026-06-01T00:00:00", "2026-06-01T00:00:00Z", [], {}, "é", "00004", "99", 10**30, 1.5]
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_fast_decoder_and_the_contract_agree_on_good_and_spoilt_input(data: st.DataObject) -> None:
    known = data.draw(st.sampled_from(ALL))
    example = copy.deepcopy(data.draw(st.sampled_from(list(generate.examples(known).values()))))
    for _ in range(data.draw(st.integers(0, 2))):
        name = data.draw(st.sampled_from([*known.model.model_fields, "unknown"]))
        example[name] = data.draw(spoilers)
    body = json.dumps(example).encode()
    if data.draw(st.booleans()) and body:
        at = data.draw(st.integers(0, len(body) - 1))
        body = body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :]
    try:
        judged: Any = known.model.model_validate_json(body).model_dump()
    except ValidationError:
        judged = None
    try:
        fast: Any = _plain(known.decode(body))
    except ValidationError:
        fast = None
    assert fast == judged


def test_a_type_without_a_fast_form_is_refused_when_the_contract_is_written() -> None:
    from pydantic import BaseModel

    class Strange(BaseModel):
        what: complex

    with pytest.raises(TypeError, match="no fast form"):
        struct_of(Strange)


def _plain(value: Any) -> Any:
    """A decoded value, struct or model, as plain dictionaries."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "__struct_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return tuple(_plain(one) for one in value) if isinstance(value, tuple | list) else value
