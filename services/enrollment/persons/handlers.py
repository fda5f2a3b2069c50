"""Bring persons up to date with their facts and announce those that are different now or may have been told otherwise (decision 0011)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from services.enrollment.facts import store as fact_store
from services.enrollment.facts.domain import ABOUT_PERSONS, Fact
from services.enrollment.persons import store
from services.enrollment.persons.domain import merge
from services.enrollment.persons.store import StoredPerson
from shared.chassis.clock import version_due
from shared.chassis.database import Tx
from shared.chassis.outbox import Announcement
from shared.contracts import enrollment as contracts
from shared.contracts.topics import ENROLLMENT_EVENTS

_encode = msgspec.json.Encoder().encode


async def settle(tx: Tx, fresh: Sequence[Fact], at: datetime, since: int = 0) -> list[Announcement]:
    """Fold the persons that new facts tell of; store and return what is different.

    Args:
        tx: the transaction that stored the facts.
        fresh: facts that are new, all about persons.
        at: now.
        since: what was announced before this version is announced again when a new fact touches it, even unchanged: a
            database that is lost may have announced something else meanwhile (decision 0011).
    """
    by_person: dict[UUID, list[Fact]] = {}
    for fact in fresh:
        by_person.setdefault(fact.entity_id, []).append(fact)
    known = await store.lock(tx, by_person)
    by_person.update(await fact_store.of_entities(tx, known, ABOUT_PERSONS))
    added: list[StoredPerson] = []
    updated: list[StoredPerson] = []
    events: list[Announcement] = []
    for person_ref, facts in by_person.items():
        before, state = known.get(person_ref), merge(facts)
        changed = before is None or before.state != state
        version = version_due(before.version if before else None, changed=changed, since=since, at=at)
        if version is None:
            continue
        person = StoredPerson(person_ref, state, version)
        (added if before is None else updated).append(person)
        events.append(_event(person, contracts.PERSON_REGISTERED.name if before is None else contracts.PERSON_AFFILIATED.name, at))
    await store.add(tx, added)
    await store.update(tx, updated)
    return events


def _event(person: StoredPerson, event_type: str, at: datetime) -> Announcement:
    ref, state = str(person.person_ref), person.state
    data = {"person_ref": ref, "assurance": state.assurance, "residences": state.residences, "groups": state.groups, "version": person.version}
    return Announcement(ENROLLMENT_EVENTS, event_type, f"{ref}:{person.version}", "/services/enrollment", ref, ref, _encode(data), at, ref)
