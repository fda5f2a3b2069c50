"""Can yesterday's reader read today's event, and does every event have what a reader needs?"""

import copy
import importlib
import json
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
from shared.contracts.topics import EVENT_TOPICS, PLATFORMS, TOPICS

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
        assert topics[known.topic].owner in (owner, PLATFORMS)
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
