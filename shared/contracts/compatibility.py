"""What a change of the contracts would break: yesterday's records and writers, yesterday's readers, and the places of keys.

The judge is what was released (`released/`), never what was generated last. During a rolling upgrade both versions of a
service run, and compacted topics keep records for years; so what was written yesterday must be read today, and what we
write today must be read by a reader of yesterday.
"""

import json
from pathlib import Path
from typing import Any

from shared.contracts.envelope import EventType
from shared.contracts.topics import Topic

RELEASED = Path(__file__).parent / "released"
"""Schemas and topics that were promised: the judge of every change."""

TOPICS_FILE = "topics.json"
"""Name of the released topics; every other file in `released/` is the schema of one type."""

WAY_OUT = """\
A field may be added as optional, and so may a topic; the rest has two ways out:
- a new version of the type (v2, v3, …) beside this one, written when every reader of the topic knows it: a reader of yesterday
  sets aside a type it does not know. A topic that is to be partitioned otherwise is a new topic;
- readers first: where only yesterday's readers are in the way, one change enters the new form in the released file by hand and
  teaches every reader, while nobody writes it; when no reader of yesterday runs any more, a second one writes it.
A released file is a promise to everybody who reads or writes the topic: who changes it by hand argues it in the change that does."""
"""What to do instead, for whoever was refused."""

Json = dict[str, Any]

_NOT_JUDGED = {
    "title", "description", "examples", "$schema", "$id", "$defs",
    "default", "required", "properties", "items", "anyOf", "type", "enum", "const",
}  # fmt: skip
"""Words of a schema that are for people, or that are judged by rules of their own."""

_AT_MOST = ("maxLength", "maximum", "exclusiveMaximum", "maxItems")
_AT_LEAST = ("minLength", "minimum", "exclusiveMinimum", "minItems")


def schema(event_type: EventType[object]) -> Json:
    """JSON Schema of an event type's data."""
    found = event_type.model.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:hocvu:{event_type.name}", **found}


def released_topics(topics: tuple[Topic, ...]) -> Json:
    """What a topic promises for ever: what decides the place of a key."""
    return {topic.name: {"partitions": topic.partitions, "key": topic.key, "partitioned_by": topic.partitioned_by} for topic in topics}


def breaks(types: "dict[str, EventType[object]]", topics: tuple[Topic, ...]) -> list[str]:
    """What of today's contracts would break who relies on what was released; `released/` is written by `--release` only."""
    written_by_us = {topic.name: topic.written_by_us for topic in topics}
    found = []
    for path in sorted(RELEASED.glob("*.json")):
        old = json.loads(path.read_text("utf-8"))
        if path.name == TOPICS_FILE:
            found += moved(old, released_topics(topics))
            continue
        known = types.get(path.stem)
        if known is None:
            found.append(f"{path.stem}: is not in the catalogue any more")
        else:
            found += [f"{path.stem}: {one}" for one in incompatibilities(old, schema(known), written_by_us=written_by_us[known.topic])]
    return found


def moved(old: Json, new: Json) -> list[str]:
    """Topics that are gone or that would put a key elsewhere: its older events would stand in another partition."""
    gone = [f"topic {name}: is not in the list any more" for name in old if name not in new]
    return gone + [
        f"topic {name}: {word} was {told!r} and is {new[name].get(word)!r}"
        for name in sorted(old.keys() & new.keys())
        for word, told in old[name].items()
        if new[name].get(word) != told
    ]


def incompatibilities(old: Json, new: Json, *, written_by_us: bool) -> list[str]:
    """What of a schema's change would break a reader or a writer of yesterday; empty when nothing would.

    Args:
        old: the schema that was released.
        new: the schema of today.
        written_by_us: one of our services writes the type, so yesterday's services read what today's schema allows. What
            platforms alone write may become wider: they write it when they know of it, and by then we read it.
    """
    before, after = _resolved(old, old.get("$defs", {})), _resolved(new, new.get("$defs", {}))
    found = _lost(before, after, "data")
    found += [f"what was written yesterday is refused today: {one}" for one in refused(before, after, "data")]
    if written_by_us:
        found += [f"what is written today is refused by a reader of yesterday: {one}" for one in refused(after, before, "data")]
    return found


def _lost(old: Json, new: Json, path: str) -> list[str]:
    """What no reader refuses and every reader misses: a field that is gone, a default that means something else."""
    before, after = old.get("properties", {}), new.get("properties", {})
    found = [f"{path}.{name} was removed" for name in before if name not in after]
    optional = before.keys() & after.keys() - set(old.get("required", [])) - set(new.get("required", []))
    for name in sorted(before.keys() & after.keys()):
        told, tells = before[name].get("default"), after[name].get("default")
        if name in optional and told != tells:
            found.append(f"{path}.{name} meant {told!r} where it is absent and means {tells!r} now")
        found += _lost(before[name], after[name], f"{path}.{name}")
    if "items" in old and "items" in new:
        found += _lost(old["items"], new["items"], f"{path}[]")
    for one in old.get("anyOf", []):
        for other in new.get("anyOf", []):
            if (one.get("type"), one.get("title")) == (other.get("type"), other.get("title")):
                found += _lost(one, other, path)
    return found


def refused(written: Json, read: Json, path: str) -> list[str]:
    """What a writer may write that keeps to one schema, and a reader refuses that keeps to another. A word unknown here counts as refused."""
    if "anyOf" in written or "anyOf" in read:
        return _no_form(written.get("anyOf", [written]), read.get("anyOf", [read]), path)
    if "type" in read and written.get("type") != read["type"]:
        return [f"{path} may have another type"]
    found = []
    gives, takes = written.get("properties", {}), read.get("properties", {})
    found += [f"{path}.{name} may be absent" for name in sorted(set(read.get("required", [])) - set(written.get("required", [])))]
    for name in sorted(gives.keys() & takes.keys()):
        found += refused(gives[name], takes[name], f"{path}.{name}")
    if "items" in read:
        found += refused(written.get("items", {}), read["items"], f"{path}[]")
    values, taken = _values(written), _values(read)
    if taken is not None and values is None:
        found.append(f"{path} may be anything")
    elif taken is not None and values is not None:
        found += [f"{path} may be {value!r}" for value in values if value not in taken]
    found += [f"{path} may pass {word}" for word in _AT_MOST if word in read and written.get(word, float("inf")) > read[word]]
    found += [f"{path} may pass {word}" for word in _AT_LEAST if word in read and written.get(word, float("-inf")) < read[word]]
    others = read.keys() - _NOT_JUDGED - {*_AT_MOST, *_AT_LEAST}
    return found + [f"{path} may have another {word}" for word in sorted(others) if written.get(word) != read[word]]


def _no_form(written: list[Json], read: list[Json], path: str) -> list[str]:
    """Each form that is written must be taken as one of the forms that are read; of those of its type the nearest is told."""
    found = []
    for one in written:
        alike = [other for other in read if other.get("type") == one.get("type")] or read
        told = [refused(one, other, path) for other in alike]
        nearest = min(told, key=len)
        found += nearest
    return found


def _values(found: Json) -> list[object] | None:
    """The values that a schema allows, where it lists them."""
    if "const" in found:
        return [found["const"]]
    return found.get("enum")


def _resolved(found: Any, definitions: Json) -> Any:  # noqa: ANN401  # any part of a schema
    if isinstance(found, dict):
        if "$ref" in found:
            return {**_resolved(definitions[found["$ref"].rpartition("/")[2]], definitions), **{k: v for k, v in found.items() if k != "$ref"}}
        return {name: _resolved(value, definitions) for name, value in found.items() if name != "$defs"}
    return [_resolved(one, definitions) for one in found] if isinstance(found, list) else found
