"""Mend a record: other data, other fields of it, other headers; never who said it (`ce_id`, `ce_source`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from shared.chassis.letters.mistakes import Invalid
from shared.chassis.letters.store import Record
from shared.contracts.topics import RECORD_BYTES

IDENTITY = frozenset({"ce_id", "ce_source"})
"""Headers that say who said it and which time it is said; readers tell copies by them."""

HEADER_LENGTH = 1000
"""Longest header value that may be entered, characters."""

MOST_ELEMENTS = 1000
"""A path may name elements of a list up to this one."""


@dataclass(frozen=True, slots=True)
class Mending:
    """What a clerk changes.

    Attributes:
        data: all of the data anew, as bytes of JSON; None leaves it.
        fields: single fields anew, by path (`slices.0.grams`), on top of `data`.
        headers: headers anew, by name.
    """

    data: bytes | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mended:
    """The record as it is to be applied now, and the names of what was changed."""

    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    changed: tuple[str, ...]


def mend(record: Record, wanted: Mending) -> Mended:
    """Apply the changes to a copy of the record.

    Raises:
        Invalid: nothing is changed, the identity would be, the data is no JSON or too large, a path leads nowhere.
    """
    changed: list[str] = []
    value, headers = record.value, tuple(record.headers)
    if wanted.data is not None:
        parse(wanted.data)
        value = wanted.data
        changed.append("data")
    if wanted.fields:
        value = _with_fields(value, wanted.fields)
        changed.extend(f"data.{path}" for path in wanted.fields)
    if wanted.headers:
        headers = _with_headers(headers, wanted.headers)
        changed.extend(name.lower() for name in wanted.headers)
    if value is not None and len(value) > RECORD_BYTES:
        raise Invalid(
            f"Nội dung mới có {len(value)} byte, tối đa {RECORD_BYTES}.", f"The new data has {len(value)} bytes; at most {RECORD_BYTES} are taken."
        )
    if (value, headers) == (record.value, tuple(record.headers)):
        raise Invalid("Không có gì được thay đổi.", "This changes nothing.")
    return Mended(value, headers, tuple(changed))


def parse(data: bytes) -> object:
    """The JSON in these bytes.

    Raises:
        Invalid: it is none, and where it stops being JSON.
    """
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Invalid("Nội dung mới không phải là chữ UTF-8.", "The new data is not UTF-8 text.") from None
    except RecursionError:
        raise Invalid("Nội dung mới lồng nhau quá sâu.", "The new data is nested too deeply.") from None
    except json.JSONDecodeError as error:
        where_vi, where_en = f"dòng {error.lineno}, cột {error.colno}", f"line {error.lineno}, column {error.colno}"
        raise Invalid(f"Nội dung mới không phải là JSON ({where_vi}).", f"The new data is not JSON ({where_en}).") from None
    except ValueError:
        raise Invalid("Nội dung mới có một số quá dài.", "The new data has a number that is too long.") from None


def _no_constant(_: str) -> NoReturn:
    raise Invalid("JSON không có NaN và Infinity.", "JSON knows no NaN and no Infinity.")


def _with_fields(value: bytes | None, fields: Mapping[str, object]) -> bytes:
    try:
        data = parse(value or b"")
    except Invalid:
        raise Invalid(
            "Nội dung hiện có không phải là JSON nên không sửa từng trường được; thay toàn bộ bằng --data.",
            "The data as it stands is not JSON, so single fields cannot be set; replace all of it (--data).",
        ) from None
    for path, new in fields.items():
        _set(data, path, new)
    return written(data)


def written(data: object) -> bytes:
    """The bytes of a JSON value.

    Raises:
        Invalid: it holds half a character, a number beyond all numbers, or a nest too deep.
    """
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise Invalid("Nội dung mới không viết được thành JSON.", "The new data cannot be written as JSON.") from None


def _set(data: object, path: str, new: object) -> None:
    """Put a value at a path of names and positions; only the last step may be new."""
    *way, last = path.split(".")
    here = data
    for step in way:
        match here:
            case dict() if step in here:
                here = here[step]
            case list() if step.isdecimal() and int(step) < len(here):
                here = here[int(step)]
            case _:
                raise _nowhere(path)
    match here:
        case dict() if last:
            here[last] = new
        case list() if last.isdecimal() and int(last) < min(len(here), MOST_ELEMENTS):
            here[int(last)] = new
        case list() if last.isdecimal() and int(last) == len(here):
            here.append(new)
        case _:
            raise _nowhere(path)


def _nowhere(path: str) -> Invalid:
    return Invalid(f"Đường dẫn {path} không dẫn tới trường nào của nội dung.", f"The path {path} leads to no field of the data.")


def _with_headers(headers: Sequence[tuple[str, bytes]], wanted: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    """Readers take header names in any case and of several the last; so all of a name go, and the new one comes."""
    # In lower case before anything is compared: CE_ID would replace ce_id.
    new = {name.strip().lower(): text for name, text in wanted.items()}
    untouchable = sorted(IDENTITY & set(new))
    if untouchable:
        raise Invalid(
            f"{untouchable[0]} là danh tính của sự kiện và không được sửa: mọi nơi đọc nhận ra bản sao nhờ nó. "
            "Bỏ bản ghi này và đề nghị nguồn gửi lại.",
            f"{untouchable[0]} is the identity of the event and cannot be edited: readers tell copies by it. "
            "Drop this letter and have the source send again.",
        )
    for name, text in new.items():
        if not name or not name.isprintable() or not name.isascii() or len(name) > HEADER_LENGTH:
            raise Invalid("Tên tiêu đề không hợp lệ.", "This is no name of a header.")
        if not text or not text.isprintable() or len(text) > HEADER_LENGTH:
            raise Invalid(
                f"Giá trị của {name} phải có từ 1 đến {HEADER_LENGTH} ký tự in được.",
                f"The value of {name} must have 1 to {HEADER_LENGTH} printable characters.",
            )
    kept = [(name, text) for name, text in headers if name.lower() not in new]
    return (*kept, *((name, text.encode()) for name, text in new.items()))
