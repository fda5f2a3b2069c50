"""Every state of a small system keeps what docs/protocol.md promises; with any one guard missing some state does not."""

import pytest

from tests.model.protocol import search
from tests.model.world import Broken, Setting

GROWING = Setting((0, 1, 2), begun=1, crashes=1, silences=1, relays=(), fine=True)
"""A log that grows, and takeovers in small steps."""

STORY = Setting((0, 1, 2), crashes=2, silences=1)

ASIDE = Setting((0, 1), other=True, fine=True, silences=1)
"""An API that announces beside a consumer: rows of the outbox become visible out of order."""

RESTORED = Setting((0, 1, 3), restore=True, relays=(1,), page=1)
"""A database that is put back to an earlier moment, and a fact that takes back what another changed."""

FROZEN = Setting((0, 1, 3), restore=True, silences=1, relays=(1,), page=3)


def frozen_at_the_restored_row(version: int) -> tuple[str, ...]:
    """A consumer announces, the database is copied, and the consumer freezes with the rest of its batch in hand."""
    row = f"row 0 (key 0, version {version})"
    return (
        "the group gives worker 0 the partition", "worker 0 fetches 0 to 2", "worker 0 commits 0 to 0",
        "relay 1 takes the lease and starts a producer", f"relay 1 reads {row}", f"relay 1 sends {row}, and hears that the broker has all",
        f"relay 1 forgets {row}", "the database is copied", "worker 0 falls silent, and the group takes its partition",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "after"),
    [
        (Setting((0, 1, 0, 2), crashes=2, silences=1), ()),
        (GROWING, ()),
        (Setting((0, 1), other=True, fine=True), ()),
        (RESTORED, ()),
        (FROZEN, frozen_at_the_restored_row(1)),
    ],
    ids=["2 replicas, 3 events and a copy, 2 crashes, 1 zombie", "growing", "aside", "restored", "frozen and restored"],
)
def test_no_state_breaks_a_promise(setting: Setting, after: tuple[str, ...]) -> None:
    found = search(setting, after)
    print(f"{found.states} states")
    assert found.wrong is None, "\n".join((found.wrong, *found.way))


@pytest.mark.parametrize(
    ("broken", "setting", "says"),
    [
        ("offset row guards nothing", STORY, "applied 2 times"),
        ("state before offset rows", STORY, "applied 0 times"),
        ("place looked up late", STORY, "applied 2 times"),
        ("acknowledged first", Setting((0, 1), crashes=1), "ends with the offset row at 0"),
        ("ends before rows", GROWING, "ends with the offset row at"),
        ("rows are not followed", RESTORED, "ends with the offset row at"),
        ("no epoch", STORY, "stands last on the topic"),
        ("forgets without lease", Setting((0, 1), silences=1), "stands last on the topic"),
        ("forgets before the broker has it", STORY, "was never announced"),
        ("forgets by number", ASIDE, "was never announced"),
        ("pages by number", Setting((0,), other=True, relays=(0,)), "rows that wait"),
        ("clock set back", RESTORED, "two contents"),
        ("nothing is said again", FROZEN, "stands last on the topic"),
        ("moment of takeover", FROZEN, "stands last on the topic"),
    ],
)
def test_a_missing_guard_is_found(broken: Broken, setting: Setting, says: str) -> None:
    after = frozen_at_the_restored_row(2 if broken == "moment of takeover" else 1) if setting is FROZEN else ()
    found = search(Setting(**{**vars(setting), "broken": broken}), after)
    print("\n".join((f"{found.states} states; {found.wrong}", *found.way)))
    assert found.wrong is not None
    assert says in found.wrong
