"""The real objects of every service, walked: no subscriber that could skip, no producer that could lose."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from faststream import AckPolicy

from services.assessment.main import SERVICE as ASSESSMENT
from services.enrollment.main import SERVICE as ENROLLMENT
from services.notifications.main import SERVICE as NOTIFICATIONS
from services.reporting.main import SERVICE as REPORTING
from shared.chassis.broker import ANSWER_S
from shared.chassis.consume import BatchConsumer
from shared.chassis.relay import Relay
from shared.chassis.service import Runtime, Service
from shared.chassis.subscribe import FETCH_BYTES, create_broker, subscribe
from shared.chassis.topics import touched
from shared.contracts.topics import OUTCOME_FACTS

ROOT = Path(__file__).resolve().parents[3]
SERVERS = ["127.0.0.1:1"]


def _settings(service: Service) -> Any:
    told = {"kafka_bootstrap_servers": SERVERS, "database_url": "postgresql://nowhere", "http_port": 1, "pseudonym_key": "00" * 32}
    return service.settings.model_validate(told)


def _cannot_lose(producer: AIOKafkaProducer) -> bool:
    return producer._sender._acks == -1 and producer._txn_manager is not None


@pytest.mark.parametrize("service", [ENROLLMENT, ASSESSMENT, REPORTING, NOTIFICATIONS], ids=lambda service: service.name)
async def test_what_a_service_reads_and_writes_with_cannot_lose_a_record(service: Service) -> None:
    settings = _settings(service)
    pool: Any = None
    broker = create_broker(SERVERS, takeover_s=settings.takeover_s, with_metrics=False)
    builder: Any = broker.config.broker_config.builder
    assert builder.keywords["request_timeout_ms"] == 1000 * (settings.takeover_s + ANSWER_S)
    names = set()
    for wanted in service.subscriptions(Runtime(pool, settings)):
        subscriber = subscribe(broker, BatchConsumer(wanted, service.name, pool, lambda: None), settings.max_batch, settings.takeover_s, "one")
        assert subscriber.ack_policy is AckPolicy.MANUAL
        assert subscriber.group_id == service.name
        told = subscriber._connection_args
        assert (told["auto_offset_reset"], told["enable_auto_commit"]) == ("earliest", False)
        assert told["fetch_max_bytes"] == FETCH_BYTES, "a fetch must come over a thin line before the broker seems to be silent"
        names.add(told["group_instance_id"])
    assert len(names) == len(broker.subscribers), "members of one process need names of their own"
    producer = Relay(pool, SERVERS, service.name).create_producer()
    assert _cannot_lose(producer)
    assert producer._txn_manager.transactional_id == f"{service.name}-relay"


async def test_a_producer_as_it_comes_would_not_pass() -> None:
    assert not _cannot_lose(AIOKafkaProducer(bootstrap_servers=SERVERS))


def test_nothing_but_the_relay_has_a_producer() -> None:
    def makers(word: str) -> list[str]:
        files = [path for folder in ("services", "shared") for path in sorted((ROOT / folder).rglob("*.py"))]
        return [path.name for path in files if word in path.read_text("utf-8")]

    assert makers("AIOKafkaProducer(") == ["relay.py"]
    assert makers(".publisher(") == makers("broker.publish(") == []


def test_a_service_depends_on_the_topics_it_reads_writes_and_sets_aside_on() -> None:
    found = touched("assessment", [OUTCOME_FACTS])
    assert {topic.name for topic in found} == {"outcome-facts", "assessment-events", "outcome-facts-assessment-dlq"}
    assert len(found) == 3
