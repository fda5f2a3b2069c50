"""Fixtures of the tests of reporting."""

import secrets
from dataclasses import replace

import pytest

from services.reporting import audit
from services.reporting.figures.handlers import Folding
from services.reporting.rebuild import reading, rebuilding
from shared.chassis.database import Pool
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import ASSESSMENT_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS
from tests.integration.reporting.world import World
from tests.support.infrastructure import Infrastructure


@pytest.fixture
async def world(infra: Infrastructure, dsn: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> World:
    run = secrets.token_hex(3)
    topics = {
        topic.name: replace(topic, name=f"{topic.name}-{run}", partitions=2) for topic in (REGISTRY_EVENTS, ENROLLMENT_EVENTS, ASSESSMENT_EVENTS)
    }
    await ensure_topics(infra.bootstrap_servers, list(topics.values()), 1)
    monkeypatch.setattr(audit, "TOPICS", tuple(topic.name for topic in topics.values()))
    monkeypatch.setattr(reading, "TOPICS", tuple(topic.name for topic in topics.values()))
    monkeypatch.setattr(reading, "REGISTERS_TOPIC", topics[REGISTRY_EVENTS.name].name)
    monkeypatch.setattr(rebuilding, "CLOSE", 20)
    return World(infra, dsn, pool, topics, Folding())
