"""Who a person is to the rest of the house: a pseudonym, dated residences and groups, and how sure we are."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from services.enrollment.facts.domain import Fact, true_order

_VERSION_BITS = 0x8 << 76
_VARIANT_BITS = 0x2 << 62
_KEEP = ~((0xF << 76) | (0x3 << 62))


class Pseudonyms:
    """Makes the ids under which everything travels: keyed, so that nobody without the key can find out or try out an account.

    They are derived and not drawn, so that a database restored to an earlier moment makes the same ones again (decision 0003).
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def person(self, source: str, account: str) -> UUID:
        """The person behind an account that is not linked to another."""
        return self._derive("person", source, account)

    def enrollment(self, source: str, account: str, enrollment: str) -> UUID:
        """An enrollment of an account. The account is part of it: one id used for two accounts is two enrollments."""
        return self._derive("enrollment", source, account, enrollment)

    def fact(self, source: str, event_id: str) -> UUID:
        """A fact; the same for every copy, because a CloudEvents id is unique per source."""
        return self._derive("fact", source, event_id)

    def _derive(self, *parts: str) -> UUID:
        digest = hmac.digest(self._key, "\0".join(parts).encode(), hashlib.sha256)
        # UUID version 8: the bits are ours (RFC 9562, 5.8).
        return UUID(int=int.from_bytes(digest[:16]) & _KEEP | _VERSION_BITS | _VARIANT_BITS)


@dataclass(frozen=True, slots=True)
class Residence:
    """Where the person lives from a day on (ISO dates)."""

    code: str
    valid_from: str
    valid_to: str | None


@dataclass(frozen=True, slots=True)
class Membership:
    """To which audience group the person belongs from a day on (ISO dates)."""

    group: str
    valid_from: str
    valid_to: str | None


@dataclass(frozen=True, slots=True)
class PersonState:
    """What is true of a person."""

    assurance: int
    residences: tuple[Residence, ...]
    groups: tuple[Membership, ...]


def merge(facts: Iterable[Fact]) -> PersonState:
    """Fold the set of an account's facts. Of two affiliations that begin on the same day the later fact counts."""
    assurance = 0
    residences: dict[str, Residence] = {}
    groups: dict[tuple[str, str], Membership] = {}
    for fact in sorted(facts, key=true_order):
        told = json.loads(fact.content)
        assurance = max(assurance, told["assurance"])
        for code, valid_from, valid_to in told["residences"]:
            residences[valid_from] = Residence(code, valid_from, valid_to)
        for group, valid_from, valid_to in told["groups"]:
            groups[group, valid_from] = Membership(group, valid_from, valid_to)
    return PersonState(assurance, tuple(residences[day] for day in sorted(residences)), tuple(groups[key] for key in sorted(groups)))
