"""What was offered to the house, and what became of it: the only truth the checker trusts.

An offer is *acknowledged* when its receiver confirmed it: the broker (all in-sync replicas), or the API (202, or a refusal
with its reason). A send without an answer is *unknown* and is offered again until it is acknowledged, as a platform would.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.fault.harness.stories import Fact

Way = Literal["kafka", "http", "batch"]
"""A record on the topic, one structured event over HTTP, or one of several in a batch over HTTP."""

LEDGER_HEADER = "ce_ledgernumber"
"""CloudEvents extension that names the offer, so that a dead letter without a readable id is found again."""


@dataclass(slots=True)
class Offer:
    """One event on its way to the house.

    Attributes:
        number: unique in its ledger.
        way: how it is sent.
        source: CloudEvents source.
        id: CloudEvents id.
        key: record key, for Kafka.
        headers: record headers, for Kafka; without the ledger's own.
        body: record value, or the structured event.
        refused_as: the reason with which it must be refused; None for a good one.
        after: number of an offer that must have been acknowledged before.
        acknowledged: whether the receiver has confirmed it.
        attempts: how often it was sent.
        answer: what the API said, if it refused.
    """

    number: int
    way: Way
    source: str
    id: str
    key: bytes
    headers: list[tuple[str, bytes]]
    body: bytes
    refused_as: str | None = None
    after: int | None = None
    acknowledged: bool = False
    attempts: int = 0
    answer: str | None = None

    @property
    def mark(self) -> bytes:
        """Names this offer among those of all ledgers."""
        return f"{self.source}#{self.number}".encode()


@dataclass
class Ledger:
    """Everything that one source offered.

    Attributes:
        source: CloudEvents source, of this run alone.
        facts: every good fact once.
        offers: every offer in the order of sending.
    """

    source: str
    facts: list[Fact]
    offers: list[Offer] = field(default_factory=list)


def good_offer(number: int, source: str, fact: Fact, way: Way) -> Offer:
    """A fact as it is sent."""
    key = f"{source}|{fact.account}".encode()
    if way != "kafka":
        return Offer(number, way, source, fact.id, key, [], json.dumps(structured(source, fact), ensure_ascii=False).encode())
    headers = {
        "ce_specversion": "1.0", "ce_id": fact.id, "ce_source": source, "ce_type": fact.type,
        "ce_time": fact.occurred_at.isoformat(), "content-type": "application/json",
    }  # fmt: skip
    return Offer(number, way, source, fact.id, key, [(name, value.encode()) for name, value in headers.items()], as_json(fact.data))


def structured(source: str, fact: Fact) -> dict[str, object]:
    """A fact as one JSON object with its CloudEvents attributes."""
    return {
        "specversion": "1.0", "id": fact.id, "source": source, "type": fact.type,
        "time": fact.occurred_at.isoformat(), "datacontenttype": "application/json", "data": fact.data,
    }  # fmt: skip


def as_json(value: Mapping[str, object]) -> bytes:
    """JSON as a platform writes it."""
    return json.dumps(value, ensure_ascii=False).encode()
