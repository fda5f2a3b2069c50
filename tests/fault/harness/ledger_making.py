"""Make a ledger of facts: copies, ways, bad records among them, shuffled."""

import random
from collections.abc import Sequence

from tests.fault.harness.ledger import Ledger, Offer, Way, good_offer
from tests.fault.harness.poison import bad_offers, reused
from tests.fault.harness.stories import COURSES, Fact


def make(source: str, facts: Sequence[Fact], draw: random.Random, copies: Sequence[float] = (1.0,), http: float = 0.3, bad: float = 0.0) -> Ledger:
    """A ledger of these facts.

    Args:
        source: CloudEvents source.
        facts: what is true.
        draw: where chance comes from.
        copies: share of facts that are offered once, twice and so on.
        http: share of offers that go over HTTP, of facts that HTTP takes.
        bad: bad records for each fact; a tenth of them reuse the id of a good one.
    """
    offers: list[Offer] = []
    told: dict[str, Fact] = {}
    for fact in facts:
        told[fact.id] = fact
        for _ in range(draw.choices(range(1, len(copies) + 1), copies)[0]):
            way: Way = "kafka"
            if draw.random() < http and (fact.course is None or fact.course in COURSES):
                way = "batch" if draw.random() < 0.8 else "http"
            offers.append(good_offer(0, source, fact, way))
    offers.extend(bad_offers(source, list(facts), draw, round(len(facts) * bad * 0.9)))
    draw.shuffle(offers)
    offers = _with_reused_ids(offers, told, draw, round(len(facts) * bad * 0.1 + 0.5))
    return Ledger(source, list(facts), offers)


def _with_reused_ids(offers: list[Offer], told: dict[str, Fact], draw: random.Random, many: int) -> list[Offer]:
    """Number the offers, and put other facts under known ids at the end of them.

    What came first stays, so the first must be certain: only a fact all of whose copies go over Kafka, where its key keeps
    its partition, and only when the first copy has been acknowledged.
    """
    for number, offer in enumerate(offers):
        offer.number = number
    over_http = {offer.id for offer in offers if offer.way != "kafka"}
    certain = [offer for offer in offers if offer.refused_as is None and offer.id not in over_http]
    for original in draw.sample(certain, min(many, len(certain))):
        offer = reused(original, told[original.id])
        offer.number = len(offers)
        offers.append(offer)
    return offers
