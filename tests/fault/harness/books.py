"""All ledgers of a system together, and what must have become of them."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from services.enrollment.persons.domain import Pseudonyms
from tests.fault.harness.ledger import Ledger
from tests.fault.harness.recount import Cell, Counts, Register, add, recount, territory
from tests.fault.harness.stories import Fact
from tests.support.processes import PSEUDONYM_KEY

PSEUDONYMS = Pseudonyms(bytes.fromhex(PSEUDONYM_KEY))
"""Only for ids: under which one a fact is stored."""


@dataclass
class Books:
    """What was offered since the system was made.

    Attributes:
        ledgers: one per run.
        facts: every good fact with its source, by the id under which it must be stored.
        mailed_before: by message, how often it may have been mailed by notifications before its database was lost, besides
            what the database says that it has now.
    """

    ledgers: list[Ledger] = field(default_factory=list)
    facts: dict[UUID, tuple[str, Fact]] = field(default_factory=dict)
    mailed_before: Counter[str] = field(default_factory=Counter)
    _provinces: dict[str, str] = field(default_factory=territory)
    _counted: dict[tuple[str, str], dict[Cell, Counts]] = field(default_factory=dict)

    def enter(self, ledger: Ledger) -> None:
        """Take a ledger in, unless it is empty. Its facts must stay as they are from now on."""
        if not ledger.facts:
            return
        self.ledgers.append(ledger)
        self.facts.update({PSEUDONYMS.fact(ledger.source, fact.id): (ledger.source, fact) for fact in ledger.facts})

    def figures(self, course_sets: dict[str, tuple[str, ...]]) -> dict[Cell, Counts]:
        """The recount of everything. No person belongs to two ledgers, so each is counted once and the counts are added."""
        register = Register(self._provinces, course_sets)
        parts = []
        for ledger in self.ledgers:
            # What was counted before stands until a course that it names changes.
            named = {fact.course: course_sets.get(fact.course) for fact in ledger.facts if fact.course is not None}
            known = ledger.source, repr(sorted(named.items()))
            if known not in self._counted:
                self._counted[known] = recount(ledger.facts, register, partial(_stored_id, ledger.source))
            parts.append(self._counted[known])
        return add(parts)


def _stored_id(source: str, fact: Fact) -> bytes:
    return PSEUDONYMS.fact(source, fact.id).bytes
