"""Write what is derived from the contracts: JSON Schemas, the AsyncAPI document, the tables of topics and events.

`python -m shared.contracts.generate` writes, `--check` only compares and exits with 1 when something is out of date.
"""

import json
import sys
from pathlib import Path
from typing import Any

from shared.contracts.catalogue import EVENT_TYPES
from shared.contracts.envelope import JSON, EventType
from shared.contracts.topics import EVENT_TOPICS, TOPICS, Topic

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"

RELEASED = HERE / "released"
"""Schemas that readers were promised: the judge of every change."""

Json = dict[str, Any]


def schema(event_type: EventType[object]) -> Json:
    """JSON Schema of an event type's data."""
    found = event_type.model.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:hocvu:{event_type.name}", **found}


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document: every topic a channel, every event type a message, every writer and reader an operation."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hocvu",
            "version": "1.0.0",
            "description": "Events that learning platforms hand over and that hocvu's services exchange. CloudEvents 1.0, binary mode on Kafka.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {"local": {"host": "127.0.0.1:19092", "protocol": "kafka", "description": "The local stack"}},
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "messages": {name: _message(event_type) for name, event_type in sorted(EVENT_TYPES.items())},
            "schemas": {"cloudEventHeaders": _headers()},
        },
    }


def _types(topic: Topic) -> list[str]:
    return sorted(name for name, event_type in EVENT_TYPES.items() if event_type.topic == topic.name)


def _channel(topic: Topic) -> Json:
    return {
        "address": topic.name,
        "description": f"{topic.meaning} Key: {topic.key}; partitioned by: {topic.partitioned_by}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _types(topic)},
        "bindings": {"kafka": {"topic": topic.name, "partitions": topic.partitions, "topicConfiguration": _configuration(topic)}},
    }


def _configuration(topic: Topic) -> Json:
    settings: Json = {"cleanup.policy": [topic.cleanup], "max.message.bytes": topic.max_bytes}
    if topic.retention is not None:
        settings["retention.ms"] = int(topic.retention.total_seconds() * 1000)
    return settings


def _operations() -> Json:
    found: Json = {}
    for topic in EVENT_TOPICS:
        if not _types(topic):
            continue
        messages = [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in _types(topic)]
        found[f"{topic.owner}.send.{topic.name}"] = {"action": "send", "channel": {"$ref": f"#/channels/{topic.name}"}, "messages": messages}
        for reader in topic.readers:
            found[f"{reader}.receive.{topic.name}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "messages": messages,
                "bindings": {"kafka": {"groupId": {"type": "string", "const": reader}}},
            }
    return found


def _message(event_type: EventType[object]) -> Json:
    return {
        "name": event_type.name,
        "summary": event_type.meaning,
        "contentType": JSON,
        "headers": {"$ref": "#/components/schemas/cloudEventHeaders"},
        "payload": {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": schema(event_type)},
        "examples": [{"name": name, "payload": payload} for name, payload in examples(event_type).items()],
    }


def _headers() -> Json:
    text = {"type": "string", "minLength": 1, "maxLength": 200}
    return {
        "type": "object",
        "description": "CloudEvents attributes (Kafka protocol binding, binary mode)",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "content-type"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": {**text, "description": "Unique per source; the same id with the same content is a copy"},
            "ce_source": {**text, "description": "Who says it"},
            "ce_type": text,
            "ce_time": {"type": "string", "format": "date-time"},
            "ce_subject": text,
            "content-type": {"type": "string", "const": JSON},
            "traceparent": {"type": "string", "description": "W3C trace context"},
        },
    }


def examples(event_type: EventType[object]) -> dict[str, Json]:
    """The golden examples of an event type, by name."""
    folder = HERE / "examples" / event_type.name
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}


def incompatibilities(old: Json, new: Json, path: str = "") -> list[str]:
    """What of a schema's change would break a reader or a writer of yesterday; empty when nothing would.

    Fields may be added as optional. Removing, renaming, requiring, narrowing types, enumerations, patterns or bounds may not.
    """
    return _incompatibilities(_resolved(old, old.get("$defs", {})), _resolved(new, new.get("$defs", {})), path or "data")


def _incompatibilities(old: Json, new: Json, path: str) -> list[str]:
    found: list[str] = []
    before, after = old.get("properties", {}), new.get("properties", {})
    found += [f"{path}.{name} was removed" for name in before if name not in after]
    found += [f"{path}.{name} is required now" for name in set(new.get("required", [])) - set(old.get("required", []))]
    for name in before.keys() & after.keys():
        found += _incompatibilities(before[name], after[name], f"{path}.{name}")
    for part in ("items", "prefixItems"):
        if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
            found += _incompatibilities(old[part], new[part], f"{path}[]")
    found += [f"{path} has another {word}" for word in ("type", "format", "const", "pattern") if old.get(word) != new.get(word)]
    taken: Json = {"enum": old.get("enum"), **new}
    if "enum" in old and not set(old["enum"]) <= set(taken["enum"]):
        found.append(f"{path} takes fewer values")
    found += [
        f"{path} has a narrower {word}" for word in ("maxLength", "maximum", "maxItems") if word in new and new[word] < old.get(word, float("inf"))
    ]
    found += [
        f"{path} has a narrower {word}" for word in ("minLength", "minimum", "minItems") if word in new and new[word] > old.get(word, float("-inf"))
    ]
    if "anyOf" in old or "anyOf" in new:
        found += _alternatives(old.get("anyOf", [old]), new.get("anyOf", [new]), path)
    return found


def _alternatives(old: list[Json], new: list[Json], path: str) -> list[str]:
    return [f"{path} no longer takes one of its forms" for one in old if all(_incompatibilities(one, other, path) for other in new)]


def _resolved(found: Any, definitions: Json) -> Any:  # noqa: ANN401  # any part of a schema
    if isinstance(found, dict):
        if "$ref" in found:
            return _resolved(definitions[found["$ref"].rpartition("/")[2]], definitions)
        return {name: _resolved(value, definitions) for name, value in found.items() if name != "$defs"}
    return [_resolved(one, definitions) for one in found] if isinstance(found, list) else found


def topics_page() -> str:
    """The table of topics."""
    lines = ["# Topics", "", "Generated by `make schemas` from `shared/contracts/topics.py`, the closed list.", ""]
    lines += ["| topic | written by | read by | key | partitioned by | partitions | cleanup | what |", "|---|---|---|---|---|---|---|---|"]
    for topic in TOPICS:
        keep = f"{topic.cleanup}{f', {topic.retention.days} d' if topic.retention else ''}"
        readers = ", ".join(topic.readers) or "–"
        lines.append(
            f"| `{topic.name}` | {topic.owner} | {readers} | {topic.key} | {topic.partitioned_by} | {topic.partitions} | {keep} | {topic.meaning} |"
        )
    return "\n".join(lines) + "\n"


def events_page() -> str:
    """The table of event types."""
    lines = ["# Events", "", "Generated by `make schemas` from `shared/contracts/`.", "", "| type | topic | meaning | data |", "|---|---|---|---|"]
    for name, event_type in EVENT_TYPES.items():
        fields = ", ".join(f"`{field}`" for field in event_type.model.model_fields)
        lines.append(f"| `{name}` | `{event_type.topic}` | {event_type.meaning} | {fields} |")
    return "\n".join(lines) + "\n"


def everything() -> dict[Path, str]:
    """Every derived file with its text."""
    files = {HERE / "schemas" / f"{name}.json": _json(schema(event_type)) for name, event_type in EVENT_TYPES.items()}
    return files | {HERE / "asyncapi.json": _json(asyncapi()), DOCS / "topics.md": topics_page(), DOCS / "events.md": events_page()}


def breaks() -> list[str]:
    """What would break a reader of what was released, by event type; `released/` is written by `--release` and by nothing else."""
    found = []
    for path in sorted(RELEASED.glob("*.json")):
        known = EVENT_TYPES.get(path.stem)
        told = ["is not in the catalogue any more"] if known is None else incompatibilities(json.loads(path.read_text("utf-8")), schema(known))
        found += [f"{path.stem}: {one}" for one in told]
    return found


def _json(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write, with `--check` compare, with `--release` note what is there as released; never what breaks a reader."""
    broken = breaks()
    if broken:
        print("Nothing was written: a reader of what was released would break. Give the change a new major version of its type.")
        print("\n".join(broken))
        return 1
    stale = [path for path, text in everything().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.name} is out of date: run make schemas")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(everything()[path], "utf-8")
        print(f"wrote {path.name}")
    if "--release" in sys.argv[1:]:
        RELEASED.mkdir(exist_ok=True)
        for name, event_type in EVENT_TYPES.items():
            (RELEASED / f"{name}.json").write_text(_json(schema(event_type)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
