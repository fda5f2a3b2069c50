"""From what a person writes to the letters that are meant."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from shared.chassis.letters.mistakes import Invalid
from shared.chassis.letters.store import Filter, State
from shared.contracts.envelope import VIET_NAM

LONGEST_WORD = 200
"""Longest topic or type that is looked for, characters."""

_YEARS = range(2000, 2200)
"""Years in which a record may have been set aside."""


def choose(
    known: Collection[str], *, reason: str | None = None, topic: str | None = None, event_type: str | None = None,
    since: str | None = None, until: str | None = None, state: State | None = "open", ids: Sequence[int] | None = None,
) -> Filter:  # fmt: skip
    """Read a filter.

    Args:
        known: the reason codes there are.
        reason: one of them.
        topic: topic name.
        event_type: CloudEvents `type`.
        since: ISO date or moment; a date begins at 00:00, and without offset it is Viet Nam time.
        until: the same, but a date means all of that day.
        state: what has become of them; None for all.
        ids: these only.

    Raises:
        Invalid: a code that is not in the list, a time that is none, a word that cannot be one.
    """
    if reason is not None and reason not in known:
        codes = ", ".join(sorted(known))
        raise Invalid(f"Không có mã lý do này. Các mã: {codes}.", f"There is no such reason code. The codes: {codes}.")
    for word in (topic, event_type):
        if word is not None and not (0 < len(word) <= LONGEST_WORD and word.isprintable()):
            raise Invalid(
                f"Chủ đề và loại phải có từ 1 đến {LONGEST_WORD} ký tự in được.", f"A topic or type has 1 to {LONGEST_WORD} printable characters."
            )
    begins = None if since is None else _instant(since, timedelta(0))
    ends = None if until is None else _instant(until, timedelta(days=1))
    return Filter(reason, topic, event_type, begins, ends, state, None if ids is None else tuple(ids))


def _instant(text: str, day: timedelta) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        known = found.year in _YEARS
    except ValueError:
        known = False
    if not known:
        raise Invalid(
            "Thời gian viết như 2026-11-24 hoặc 2026-11-24T15:00 (giờ Việt Nam).", "Write a time like 2026-11-24 or 2026-11-24T15:00 (Viet Nam time)."
        )
    # A date alone has ten characters; what has more names a moment.
    found = found + day if len(text.strip()) <= len("2026-11-24") else found
    return found if found.tzinfo is not None else found.replace(tzinfo=VIET_NAM)
