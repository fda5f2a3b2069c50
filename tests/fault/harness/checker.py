"""The checker: verdicts on everything that was offered since the system was made, not on the last run alone.

| invariant | how it is checked |
|---|---|
| I1 nothing lost | `check_facts`: offered = facts ∪ dead letters with the right reason, disjoint; outcomes, messages, publications arrived |
| I2 nothing twice | `check_facts`: each once as fact, outcome, dead letter, message; `witness`: no record applied twice; else it drifts (I3) |
| I3 figures equal a recount by other code | `check_figures` against `recount` |
| I4 books balance | `check_figures`, in SQL |
| I5 order and copies cannot matter | no check of its own: every run is shuffled and the recount knows no order of arrival, so I3 implies it |
| I6 a rebuild equals what stands | the command `rebuild`, once per session (`test_matrix.py`) |
| I7 what was signed stays | `check_figures` |
| I8 the last record of a key is its newest | `check_events` |
| I9 no event that was rolled back | `check_events` |
| I10 a mail is repeated only after a lost answer, once | `check_mails` |
| I11 heals alone | `until_through` |
"""

from contextlib import suppress

from tests.fault.harness import witness
from tests.fault.harness.books import Books
from tests.fault.harness.check_events import check_events
from tests.fault.harness.check_facts import check_facts, check_messages
from tests.fault.harness.check_figures import check_figures
from tests.fault.harness.check_mails import check_mails
from tests.fault.harness.findings import Finding
from tests.fault.harness.system import System
from tests.fault.harness.through import NotThrough, until_through
from tests.fault.harness.topic_reader import TopicReader

LOOKS = 5
"""How often the checker looks again because something moved while it looked."""


async def check(system: System, reader: TopicReader, books: Books) -> list[Finding]:
    """Everything that is wrong; an empty list is the verdict that nothing is. Call it when everything is through.

    Databases and topics cannot be read at one instant, and a publisher that takes over says everything again. So what is
    found counts only if nothing moved while it was looked for.
    """
    for _ in range(LOOKS):
        await reader.catch_up()
        seen = reader.records
        found = [
            *await check_facts(system, reader, books),
            *await check_messages(system, reader),
            *await check_figures(system, reader, books),
            *await check_events(system, reader, books),
            *await check_mails(system, books),
            *await witness.check(system),
        ]
        if found:
            with suppress(NotThrough):
                await until_through(system, reader, within=10)
            await reader.catch_up()
        if not found or reader.records == seen:
            return found
    return found
