"""I8, the last record of a key is its newest and is what the database holds; I9, no event of a transaction that was rolled back."""

import json
from datetime import datetime
from typing import Any

import asyncpg

from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, FIGURES
from tests.fault.harness.books import Books
from tests.fault.harness.findings import Finding, finding
from tests.fault.harness.system import System
from tests.fault.harness.topic_reader import TopicReader

_PERSONS = "SELECT person_ref, assurance, residences, groups, version FROM person"

_ENROLLMENTS = "SELECT enrollment_id, person_ref, course, status, registered_at, started_at, withdrawn_at, version FROM enrollment"

_COMPLETIONS = "SELECT enrollment_id, person_ref, course, completed_at, version FROM completion"

_PUBLISHED = "SELECT cell, version FROM published_figure"

_TIMES = ("registered_at", "started_at", "withdrawn_at", "completed_at")

Entities = dict[str, dict[str, Any]]


async def check_events(system: System, reader: TopicReader, books: Books) -> list[Finding]:
    """Compacted topics and outcome facts against the databases of their owners."""
    async with system.database("enrollment") as connection:
        enrollment: Entities = {str(row["person_ref"]): _person(row) for row in await connection.fetch(_PERSONS)}
        enrollment |= {str(row["enrollment_id"]): _plain(row) for row in await connection.fetch(_ENROLLMENTS)}
    async with system.database("assessment") as connection:
        assessment: Entities = {str(row["enrollment_id"]): _plain(row) for row in await connection.fetch(_COMPLETIONS)}
    async with system.database("reporting") as connection:
        figures: Entities = {row["cell"]: {"version": row["version"]} for row in await connection.fetch(_PUBLISHED)}
    stored = {str(known) for known, (_, fact) in books.facts.items() if fact.kind.startswith("completion.")}
    return [
        *_compare(reader, ENROLLMENT_EVENTS.name, enrollment),
        *_compare(reader, ASSESSMENT_EVENTS.name, assessment),
        *_compare(reader, FIGURES.name, figures),
        *finding("I9", "other", "outcome fact on the topic is no fact that was offered", reader.outcome_facts - stored),
        *finding("I1", "lost", "outcome fact is not on the topic", stored - reader.outcome_facts),
    ]


def _compare(reader: TopicReader, topic: str, entities: Entities) -> list[Finding]:
    keys = reader.keys[topic]
    old, different, ahead = [], [], []
    for key, seen in keys.items():
        entity = entities.get(key, {"version": 0})
        if seen.highest_version > entity["version"]:
            ahead.append(f"{key}: version {seen.highest_version} on the topic, {entity['version']} in the database")
        elif seen.last_version < seen.highest_version:
            old.append(f"{key}: the last record has version {seen.last_version}, {seen.highest_version} came before it")
        elif seen.last_version < entity["version"] or any(_read(name, seen.last.get(name)) != value for name, value in entity.items()):
            different.append(f"{key}: the topic says {seen.last}, the database {entity}")
    return [
        *finding("I8", "other", f"last record of a key of {topic} is not its newest", old),
        *finding("I8", "other", f"last record of a key of {topic} is not what its owner holds", different),
        *finding("I9", "other", f"record of {topic} is newer than anything its owner ever committed", ahead),
        *finding("I1", "lost", f"entity is not on {topic}", entities.keys() - keys.keys()),
    ]


def _person(row: asyncpg.Record) -> dict[str, Any]:
    return {**_plain(row), "residences": json.loads(row["residences"]), "groups": json.loads(row["groups"])}


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    ids = ("person_ref", "enrollment_id")
    return {name: str(value) if name in ids else value for name, value in row.items()}


def _read(name: str, value: object) -> object:
    return datetime.fromisoformat(str(value)) if name in _TIMES and value is not None else value
