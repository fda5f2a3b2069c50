"""Seeded bugs: the running services with one guard removed each, and the harm at which it shows.

| asked for | control | where |
|---|---|---|
| FastStream's default acknowledgement | `default-acknowledgement` | `seeded_consuming` |
| acknowledging before the database commit | `acknowledged-first` | `seeded_consuming` |
| the offset row removed | `no-offset-row`; at every crash point `offset-rows` | `seeded_consuming`, `test_crash_points.py` |
| offsets read after state | `offsets-after-state` | `seeded_consuming` |
| `latest` instead of `earliest` | `latest` | `seeded_consuming` |
| the relay without its per-key order | `relay-newest-first` | `seeded_relaying` |
| the relay paging by "id greater than the last" | `relay-pages-by-id` | `seeded_relaying` |
| `synchronous_commit=off` with a crash | `commit-not-synchronous` | `seeded_relaying` |
| counters `+1` instead of contributions | `plus-one` | here |
| dead-letter redrive with a new id | `redriven-under-new-id` | `seeded_letters` |
| further | `skips-bad-batches`, `letter-after-commit`, `id-reused` | `seeded_letters` |
| | `relay-without-epoch`, `relay-deletes-first` | `seeded_relaying` |
| | `copies-are-new`, `late-is-nothing`, `order-of-arrival`, `time-of-arrival`, `moved-and-stayed`, `days-of-greenwich` | here |
| | `versions-counted`, `message-without-key`, `mail-noted-first` | `seeded_restoring` |
| | `retention-skipped` | `stopping` |

Each has a twin: the same run with nothing removed must be clean (`test_the_guard_is_what_helps`), or it would prove nothing; that
of `retention-skipped` is the fault BR8. In this module are those whose only harm is what every run does: copies, two ways in, no order.
"""

from collections.abc import Sequence
from functools import partial

from tests.fault.harness.faults import control
from tests.fault.harness.findings import Finding
from tests.fault.harness.replacing import QUICK_S, begin
from tests.fault.harness.run import Run

_ONCE, _OFTEN = (1.0,), (0.5, 0.3, 0.2)

_RULES: tuple[tuple[str, str, Sequence[str], str, str, Sequence[float]], ...] = (
    ("plus-one", "a counter is raised by each event instead of summed over what persons contribute", ("I3 drifted",),
     "reporting", "reporting:plus_one_for_each_event", _OFTEN),
    ("moved-and-stayed", "who moves is counted at the new place and stays counted at the old one", ("I3 drifted",),
     "reporting", "reporting:counted_where_they_were_too", _ONCE),
    ("days-of-greenwich", "days end at midnight UTC", ("I3 drifted",),
     "reporting", "reporting:days_of_greenwich", _ONCE),
    ("copies-are-new", "a fact that comes again is another fact", ("I1 other",),
     "enrollment", "enrollment:copies_are_new", _OFTEN),
    ("late-is-nothing", "a fact older than the newest about the same thing does not count", ("I1 lost",),
     "enrollment", "enrollment:late_facts_do_not_count", _ONCE),
    ("order-of-arrival", "of several facts about one thing the last to come is true", ("I3 drifted",),
     "enrollment", "enrollment:the_order_of_arrival", _ONCE),
    ("time-of-arrival", "what is told is true from when it was read", ("I3 drifted",),
     "enrollment", "enrollment:the_time_of_arrival", _ONCE),
)  # fmt: skip
"""Name, bug, what must be found, service, what removes the guard, copies."""


async def _offered_under(run: Run, service: str, bug: str) -> Sequence[Finding]:
    await begin(run, service, bug)
    await run.offer(run.ledger.offers)
    return await run.verdict(QUICK_S)


for _name, _what, _catches, _service, _bug, _copies in _RULES:
    control(_name, _what, catches=_catches, persons=40, copies=_copies, guarded=True)(partial(_offered_under, service=_service, bug=_bug))
