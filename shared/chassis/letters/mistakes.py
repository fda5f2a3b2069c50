"""What a clerk can get wrong: one clear sentence, in both languages, never a value of a field."""

from datetime import datetime

from shared.chassis.letters.reasons import Language
from shared.contracts.envelope import VIET_NAM

LONGEST_WORDS = 500
"""Longest reason or name of a clerk, characters."""


class Mistake(Exception):
    """It was not done; nothing was changed.

    Attributes:
        vi: why, in Vietnamese.
        en: the same in English.
    """

    def __init__(self, vi: str, en: str) -> None:
        super().__init__(en)
        self.vi = vi
        self.en = en

    def sentence(self, language: Language) -> str:
        """Why it was not done."""
        return self.vi if language == "vi" else self.en


class Unknown(Mistake):
    """No dead letter of the service has this id."""

    def __init__(self, letter: str) -> None:
        super().__init__(
            f"Không có bản ghi gác lại nào mang mã {letter}; xem mã bằng lệnh list.", f"No dead letter has the id {letter}; list shows them."
        )


class Settled(Mistake):
    """The letter is not open any more."""

    def __init__(self, letter: str, state: str, by: str, at: datetime) -> None:
        done_vi, done_en = ("đã được áp dụng lại", "was redriven") if state == "redriven" else ("đã bị bỏ", "was dropped")
        super().__init__(
            f"Bản ghi {letter} {done_vi} lúc {moment(at, 'vi')} bởi {by}; không làm gì thêm.",
            f"{letter} {done_en} at {moment(at, 'en')} by {by}; nothing was done.",
        )


class Invalid(Mistake):
    """What was asked makes no sense, whatever the letter's state."""


def moment(at: datetime, language: Language) -> str:
    """An instant for people, Viet Nam time."""
    return f"{at.astimezone(VIET_NAM):%d/%m/%Y %H:%M}" if language == "vi" else f"{at.astimezone(VIET_NAM):%Y-%m-%d %H:%M}"


def insist_on_words(by: str, why: str | None = None) -> None:
    """See that somebody says who, and why where that is asked for.

    Raises:
        Invalid: one of the two is empty, too long or not printable.
    """
    if not _are_words(by):
        raise Invalid(
            f"Hãy nói ai thực hiện, từ 1 đến {LONGEST_WORDS} ký tự in được.", f"Say who does it, in 1 to {LONGEST_WORDS} printable characters."
        )
    if why is not None and not _are_words(why):
        raise Invalid(
            f"Hãy nói lý do bằng lời, từ 1 đến {LONGEST_WORDS} ký tự in được.", f"Say why in words, in 1 to {LONGEST_WORDS} printable characters."
        )


def _are_words(text: str) -> bool:
    return 0 < len(text.strip()) <= LONGEST_WORDS and text.isprintable()
