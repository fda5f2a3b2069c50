"""The services whose dead letters can be worked on from one command line, and the letters that a person names there."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from shared.chassis.letters.desk import Desk
from shared.chassis.letters.mistakes import Invalid
from shared.chassis.letters.reasons import Reason, ReasonBook
from shared.chassis.letters.store import Filter

_ID = re.compile(r"(?:([a-z][a-z0-9_-]*)-)?([1-9][0-9]{0,17})")


@dataclass(frozen=True)
class Source:
    """A service whose dead letters can be worked on from here.

    Attributes:
        name: of the service.
        reasons: why it sets records aside.
        open: opens its desk.
    """

    name: str
    reasons: ReasonBook
    open: Callable[[], AbstractAsyncContextManager[Desk]]


def reasons_of(sources: Sequence[Source]) -> Mapping[str, Reason]:
    """Every reason that one of them may give."""
    return {code: reason for source in sources for code, reason in source.reasons.all.items()}


def select(sources: Sequence[Source], service: str | None) -> Sequence[Source]:
    """The one with this name, or all.

    Raises:
        Invalid: none has this name.
    """
    found = [source for source in sources if service in (None, source.name)]
    if not found:
        names = ", ".join(source.name for source in sources)
        raise Invalid(f"Không có dịch vụ này ở đây. Có: {names}.", f"There is no such service here. There are: {names}.")
    return found


def named(sources: Sequence[Source], service: str | None, letter: str) -> tuple[Source, int]:
    """The service and the number of a letter: `bakery-12`, or `12` where only one service can be meant.

    Raises:
        Invalid: this is no id, or it does not say of which service.
    """
    found = _ID.fullmatch(letter.strip())
    if found is None:
        raise Invalid(
            f"Mã bản ghi viết như {sources[0].name}-12, đúng như lệnh list in ra.", f"An id is written like {sources[0].name}-12, as list prints it."
        )
    prefix, number = found.groups()
    if prefix and service and prefix != service:
        raise Invalid(f"Mã này thuộc dịch vụ {prefix}, không phải {service}.", f"This id is one of {prefix}, not of {service}.")
    chosen = select(sources, prefix or service)
    if len(chosen) > 1:
        raise Invalid(
            f"Của dịch vụ nào? Viết mã đầy đủ như {chosen[0].name}-{number}, hoặc thêm --service.",
            f"Of which service? Write it like {chosen[0].name}-{number}, or add --service.",
        )
    return chosen[0], int(number)


def meant(sources: Sequence[Source], service: str | None, letters: Sequence[str], chosen: Filter, *, every: bool) -> dict[str, tuple[Source, Filter]]:
    """By service, which letters are meant by ids, a filter or `--all`.

    Raises:
        Invalid: nothing says which.
    """
    if letters:
        ids: dict[str, tuple[Source, list[int]]] = {}
        for letter in letters:
            source, number = named(sources, service, letter)
            ids.setdefault(source.name, (source, []))[1].append(number)
        return {name: (source, replace(chosen, ids=tuple(numbers))) for name, (source, numbers) in ids.items()}
    if chosen == Filter() and not every:
        raise Invalid(
            "Hãy nói bản ghi nào: mã, một bộ lọc (--reason, --topic, …), hoặc --all.", "Say which: ids, a filter (--reason, --topic, …), or --all."
        )
    return {source.name: (source, chosen) for source in select(sources, service)}


@asynccontextmanager
async def desks(sources: Sequence[Source]) -> AsyncIterator[list[Desk]]:
    """Their desks, open until the block ends."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(source.open()) for source in sources]
