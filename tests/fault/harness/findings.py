"""What a checker says: an invariant, how often it is broken, and examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

EXAMPLES = 5
"""Examples that are kept of one finding."""

Harm = Literal["lost", "double", "drifted", "other"]
"""The column of the report in which a broken invariant counts."""


@dataclass(frozen=True)
class Finding:
    """One way in which an invariant is broken.

    Attributes:
        invariant: I1, I2 and so on.
        harm: what that means for whoever relies on it.
        what: one sentence.
        count: how often.
        examples: some of them.
    """

    invariant: str
    harm: Harm
    what: str
    count: int
    examples: Sequence[str]

    def __str__(self) -> str:
        told = "".join(f"\n      {example}" for example in self.examples)
        return f"{self.invariant} {self.harm}: {self.count} × {self.what}{told}"


def finding(invariant: str, harm: Harm, what: str, cases: Iterable[object]) -> list[Finding]:
    """A finding, unless there is no case of it."""
    found = sorted(str(case) for case in cases)
    return [Finding(invariant, harm, what, len(found), list(islice(found, EXAMPLES)))] if found else []
