"""What the commands print for people, in Vietnamese and English."""

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from shared.chassis.letters import telling
from shared.chassis.letters.desk import Desk, Outcome
from shared.chassis.letters.mistakes import moment
from shared.chassis.letters.reasons import Language, Reason
from shared.chassis.letters.store import Done, Entry, Letter, Record

SHOWN = 10_000
"""Characters of data that are shown on a screen; `--json` gives all."""

_STATES = {"open": ("đang chờ", "open"), "redriven": ("đã áp dụng lại", "redriven"), "dropped": ("đã bỏ", "dropped")}

_PHRASES = {
    "nothing": ("Không có bản ghi nào khớp.", "No letter matches."),
    "more": ("Còn nữa: thêm --after {after}", "There are more: add --after {after}"),
    "counted": ("{letters} bản ghi đang chờ: {reasons}", "{letters} open letters: {reasons}"),
    "redrive?": ("Áp dụng lại tất cả?", "Redrive all of them?"),
    "drop?": ("Bỏ tất cả?", "Drop all of them?"),
    "redriving": ("đang áp dụng lại", "redriving"),
    "dropping": ("đang bỏ", "dropping"),
    "redriven": ("Đã áp dụng lại {done} bản ghi.", "{done} redriven."),
    "dropped": ("Đã bỏ {done} bản ghi.", "{done} dropped."),
    "refused": ("Vẫn bị từ chối {letters}: {reasons}", "Still refused {letters}: {reasons}"),
    "settled": ("{letters} bản ghi đã được người khác xử lý trước đó.", "{letters} had been settled by somebody else meanwhile."),
    "edited": (
        "Đã sửa {letter} ({changed}). Chưa áp dụng: chạy dead-letters redrive {letter}",
        "{letter} is edited ({changed}). Not applied yet: run dead-letters redrive {letter}",
    ),
    "still": ("Nhưng như vậy vẫn sẽ bị từ chối: {reason}, {detail}", "As it is now it would still be refused: {reason}, {detail}"),
    "not now": (
        "Lúc này không thực hiện được: {error}. Những gì đã xong vẫn giữ nguyên; có thể chạy lại.",
        "This cannot be done now: {error}. What was done stays done; run it again.",
    ),
    "cut": ("… (tất cả {characters} ký tự; --json cho toàn bộ)", "… ({characters} characters in all; --json gives everything)"),
}

_LABELS = {
    "state": ("Trạng thái", "State"), "at": ("Gác lại lúc", "Set aside at"), "place": ("Vị trí", "Position"), "type": ("Loại", "Type"),
    "reason": ("Lý do", "Reason"), "detail": ("Chi tiết", "Detail"), "remedy": ("Việc cần làm", "What to do"),
    "headers": ("Tiêu đề", "Headers"), "original_headers": ("Tiêu đề gốc", "Original headers"), "acts": ("Nhật ký", "Journal"),
    "data": ("Nội dung", "Data"), "original_data": ("Nội dung gốc", "Original data"), "id": ("Mã", "Id"),
    "edited": ("đã sửa", "edited"),
}  # fmt: skip


def say(phrase: str, language: Language, **facts: object) -> str:
    """A sentence."""
    return _of(_PHRASES[phrase], language).format(**facts)


def by_reason(counted: Mapping[str, int]) -> str:
    """Reason codes with how many there are of each."""
    return ", ".join(f"{reason} {letters}" for reason, letters in counted.items())


def summary(outcomes: Iterable[Outcome], state: str, language: Language) -> str:
    """What came of many letters, over all services."""
    done, before, refused = 0, 0, dict[str, int]()
    for outcome in outcomes:
        done, before = done + outcome.done, before + outcome.settled_before
        for reason, letters in outcome.refused.items():
            refused[reason] = refused.get(reason, 0) + letters
    lines = [say(state, language, done=done)]
    if refused:
        lines.append(say("refused", language, letters=sum(refused.values()), reasons=by_reason(refused)))
    if before:
        lines.append(say("settled", language, letters=before))
    return "\n".join(lines)


def table(found: Sequence[tuple[Desk, Entry]], language: Language) -> Table:
    """Letters in a table: where, when, why; no values."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for label in ("id", "at", "place", "type", "reason", "state"):
        drawn.add_column(_of(_LABELS[label], language), overflow="fold", no_wrap=label in ("id", "at"))
    for desk, entry in found:
        drawn.add_row(
            desk.name(entry.letter_id),
            moment(entry.set_aside_at, language),
            _place(entry),
            # Text, because a stranger wrote it and rich would read brackets as marks.
            Text(entry.event_type or "-"),
            Text(f"{entry.reason}\n{desk.reasons.of(entry.reason).explanation(language)}"),
            _state(entry, language),
        )
    return drawn


def reasons(found: Iterable[Reason], language: Language) -> Table:
    """The list of reason codes."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for label in ("id", "reason", "remedy"):
        drawn.add_column(_of(_LABELS[label], language), overflow="fold", no_wrap=label == "id")
    for reason in found:
        drawn.add_row(reason.code, Text(reason.explanation(language)), Text(reason.remedy(language)))
    return drawn


def letter(desk: Desk, found: Letter, acts: Sequence[Done], language: Language, *, with_data: bool) -> str:
    """Everything about one letter, one label per line; data only when it is asked for."""
    entry, why = found.entry, desk.reasons.of(found.entry.reason)
    lines = [
        ("id", desk.name(entry.letter_id)),
        ("state", _state(entry, language)),
        ("at", moment(entry.set_aside_at, language)),
        ("place", _place(entry)),
        ("type", entry.event_type or "-"),
        ("reason", f"{entry.reason}: {why.explanation(language)}"),
        ("detail", entry.detail),
        ("remedy", why.remedy(language)),
        ("headers", _headers(found.record, with_data=with_data)),
    ]
    if found.original.headers != found.record.headers:
        lines.append(("original_headers", _headers(found.original, with_data=with_data)))
    if acts:
        lines.append(("acts", "\n".join(_act(one, language) for one in acts)))
    if with_data:
        lines.append(("data", _data(found.record, language)))
        if found.original.value != found.record.value:
            lines.append(("original_data", _data(found.original, language)))
    width = max(len(_of(_LABELS[label], language)) for label, _ in lines)
    return "\n".join(f"{_of(_LABELS[label], language):<{width}}  {text}".replace("\n", f"\n{'':<{width}}  ") for label, text in lines)


def _of(both: tuple[str, str], language: Language) -> str:
    return both[0] if language == "vi" else both[1]


def _place(entry: Entry) -> str:
    return f"{entry.topic} {entry.partition}/{entry.offset}"


def _state(entry: Entry, language: Language) -> str:
    state = _of(_STATES[entry.state], language)
    return f"{state}, {_of(_LABELS['edited'], language)}" if entry.edited else state


def _headers(record: Record, *, with_data: bool) -> str:
    return "\n".join(f"{name}: {value}" for name, value in telling.headers(record, with_data=with_data)) or "-"


def _act(done: Done, language: Language) -> str:
    changed = f" ({', '.join(done.changed)})" if done.changed else ""
    why = f": {done.why}" if done.why else ""
    return f"{moment(done.at, language)}  {done.by}  {done.act}{changed} → {done.outcome}{why}"


def _data(record: Record, language: Language) -> str:
    text = telling.readable(record.value or b"")
    return text if len(text) <= SHOWN else text[:SHOWN] + say("cut", language, characters=len(text))
