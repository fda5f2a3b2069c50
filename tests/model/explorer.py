"""Look at every state that can be reached, nearest first, and tell the shortest way to one that must not be."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")

Steps = Callable[[S], Iterable[tuple[str, S]]]
"""What can happen next in a state: in words, and the state after it."""


@dataclass(frozen=True)
class Result(Generic[S]):
    """What a search found.

    Attributes:
        states: how many were looked at.
        wrong: what is wrong in the last state of `way`; None: nothing, anywhere.
        way: the shortest way there, in words.
        last: the state it leads to; without a finding the first one.
    """

    states: int
    wrong: str | None
    way: tuple[str, ...]
    last: S


def explore(first: S, steps: Steps[S], trouble: Steps[S], wrong: Callable[[S, bool], str | None]) -> Result[S]:
    """Breadth first over all states.

    Args:
        first: where it begins.
        steps: what the system does by itself. A state without such a step is an end.
        trouble: what may happen to it besides.
        wrong: what is wrong in a state, told whether it is an end; None: nothing.
    """
    came_from: dict[S, S | None] = {first: None}
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        own = list(steps(state))
        found = wrong(state, not own)
        if found is not None:
            return Result(len(came_from), found, _way(state, came_from, steps, trouble), state)
        for _, after in (*own, *trouble(state)):
            if after not in came_from:
                came_from[after] = state
                waiting.append(after)
    return Result(len(came_from), None, (), first)


def _way(state: S, came_from: dict[S, S | None], steps: Steps[S], trouble: Steps[S]) -> tuple[str, ...]:
    words: list[str] = []
    while (before := came_from[state]) is not None:
        words.append(next(said for said, after in (*steps(before), *trouble(before)) if after == state))
        state = before
    return tuple(reversed(words))
