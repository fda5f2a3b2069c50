"""Guards of facts taken away: what is a copy, what is true when, which version follows."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

from services.enrollment import handlers
from services.enrollment.enrollments import domain as enrollment_rules
from services.enrollment.facts.domain import Fact, Verdicts, judge
from services.enrollment.intake.facts import to_fact
from services.enrollment.persons import domain as person_rules
from shared.chassis import clock
from shared.chassis.clock import now


def copies_are_new() -> None:
    """A fact that comes again is another fact."""
    seen: set[UUID] = set()

    def another(*told: Any) -> Fact:
        fact = to_fact(*told)
        known = fact.fact_id in seen
        seen.add(fact.fact_id)
        return replace(fact, fact_id=uuid4()) if known else fact

    mock.patch.object(handlers, "to_fact", another).start()


def reused_ids_are_copies() -> None:
    """A known id is a copy, whatever it says."""

    def lenient(facts: list[Fact], stored: dict[UUID, bytes]) -> Verdicts:
        found = judge(facts, stored)
        return replace(found, copies=found.copies + found.reused, reused=())

    mock.patch.object(handlers, "judge", lenient).start()


def late_facts_do_not_count() -> None:
    """A fact that is older than the newest about the same thing comes too late to matter."""
    newest: dict[UUID, datetime] = {}

    def impatient(facts: list[Fact], stored: dict[UUID, bytes]) -> Verdicts:
        found = judge(facts, stored)
        return replace(found, new=tuple(index for index in found.new if _in_time(facts[index])))

    def _in_time(fact: Fact) -> bool:
        known = newest.setdefault(fact.entity_id, fact.occurred_at)
        newest[fact.entity_id] = max(known, fact.occurred_at)
        return fact.occurred_at >= known

    mock.patch.object(handlers, "judge", impatient).start()


def the_time_of_arrival() -> None:
    """What is told is true from the moment on in which it was read."""

    def dated(*told: Any) -> Fact:
        return replace(to_fact(*told), occurred_at=now())

    mock.patch.object(handlers, "to_fact", dated).start()


def the_order_of_arrival() -> None:
    """Of several facts about one thing, what came last is what is true."""
    arrived: dict[UUID, int] = {}

    def noted(*told: Any) -> Fact:
        fact = to_fact(*told)
        arrived.setdefault(fact.fact_id, len(arrived))
        return fact

    def order(fact: Fact) -> int:
        return arrived.get(fact.fact_id, -1)

    mock.patch.object(handlers, "to_fact", noted).start()
    for rules in (enrollment_rules, person_rules):
        mock.patch.object(rules, "true_order", order).start()


def versions_are_counted() -> None:
    """The version of an entity is how often it was announced, as far as the database knows."""

    def following(previous: int | None, _: datetime) -> int:
        return (previous or 0) + 1

    mock.patch.object(clock, "next_version", following).start()
