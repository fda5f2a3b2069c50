"""The fuse of the dead letters: when too much of a partition is bad, something else is wrong, and the partition stops."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

WINDOW = 1000
"""Records looked back on."""

MOST_IN_WINDOW = 50
"""More bad records than this among the last WINDOW stop the partition (5 %)."""

MOST_IN_A_ROW = 50
"""This many bad records one after the other stop the partition."""


@dataclass(slots=True)
class Fuse:
    """Counts the bad among the last records of one partition."""

    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    bad: int = 0
    run: int = 0

    @classmethod
    def recall(cls, first: int, after: int, bad: Collection[int]) -> "Fuse":
        """The fuse of a partition that another process has read before, or this one before it was started again.

        Without this, every restart would let as many bad records pass as the fuse allows. Holes in the offsets count as good.

        Args:
            first: the first offset looked back on.
            after: the one after the last that was applied.
            bad: offsets of the records among them that were set aside.
        """
        fuse = cls()
        fuse.add(offset in bad for offset in range(max(first, after - WINDOW), after))
        return fuse

    def blows_at(self, verdicts: Iterable[bool]) -> int | None:
        """Which of these further records, True for bad, is one too many, counted from 0; None: none is. Changes nothing."""
        trial = Fuse(deque(self.recent, maxlen=WINDOW), self.bad, self.run)
        return next((number for number, verdict in enumerate(verdicts) if trial._count(verdict)), None)

    def add(self, verdicts: Iterable[bool]) -> None:
        """Remember records whose transaction has committed."""
        for verdict in verdicts:
            self._count(verdict)

    def _count(self, bad: bool) -> bool:
        if len(self.recent) == WINDOW:
            self.bad -= self.recent[0]
        self.recent.append(bad)
        self.bad += bad
        self.run = self.run + 1 if bad else 0
        return self.bad > MOST_IN_WINDOW or self.run >= MOST_IN_A_ROW
