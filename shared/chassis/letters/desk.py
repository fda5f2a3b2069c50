"""The desk at which a clerk works on the dead letters of one service.

A letter is applied in place: the handlers of its subscription run on the record where it stood, with the identity it
had, in one transaction that also settles the letter (decision 0010). So redriving it again does nothing, two clerks at
once apply it once, and a process that dies leaves a batch as it was.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.chassis.applying import Subscription
from shared.chassis.database import Pool, Tx, connection, transaction
from shared.chassis.dead_letters import event_type
from shared.chassis.errors import Rejected
from shared.chassis.letters import store
from shared.chassis.letters.mending import Mending, mend
from shared.chassis.letters.mistakes import Settled, Unknown, insist_on_words
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.letters.redrive import Redriving
from shared.chassis.letters.store import Done, Entry, Filter, Letter

BATCH = 500
"""Most letters in one transaction."""

BATCH_BYTES = 16 * 1_048_576
"""A batch ends when its records pass this many bytes; a single letter may be larger."""

PATIENCE_S = 60.0
"""How long a batch is tried again while the error passes by itself, seconds."""

Tell = Callable[[int], None]
"""Called after each batch with the number of its letters."""


@dataclass(slots=True)
class Outcome:
    """What came of many letters.

    Attributes:
        done: how many were redriven or dropped.
        refused: how many were refused again, by reason; they stay open.
        settled_before: how many somebody else had settled meanwhile.
        last: id of the last letter looked at.
    """

    done: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    settled_before: int = 0
    last: int = 0

    def add(self, asked: int, verdicts: Mapping[int, str], state: str) -> None:
        """Count one batch: how many were asked for, and what came of those that were open."""
        self.settled_before += asked - len(verdicts)
        for verdict in verdicts.values():
            if verdict == state:
                self.done += 1
            else:
                self.refused[verdict] = self.refused.get(verdict, 0) + 1


def _nothing() -> None:
    return


def _nobody(_: int) -> None:
    return


class Desk:
    """The dead letters of one service.

    Args:
        pool: the service's database.
        service: name of the service, which is its consumer group.
        subscriptions: what the service reads, with its handlers.
        reasons: why it sets records aside.
        committed: called after each commit (wakes the relay).
    """

    def __init__(
        self, pool: Pool, service: str, subscriptions: Iterable[Subscription], reasons: ReasonBook, committed: Callable[[], None] = _nothing
    ) -> None:
        self.service = service
        self.reasons = reasons
        self._pool = pool
        self._redriving = Redriving(pool, service, subscriptions)
        self._committed = committed

    def name(self, letter_id: int) -> str:
        """A letter's name among those of all services."""
        return f"{self.service}-{letter_id}"

    async def page(self, chosen: Filter, *, after: int = 0, limit: int = 50) -> list[Entry]:
        """Letters in the order in which they were set aside, beginning behind the id `after`; no values."""
        async with connection(self._pool) as link:
            return await store.entries(link, self.service, chosen, after, limit)

    async def count(self, chosen: Filter) -> dict[str, int]:
        """How many letters are meant, by reason, most first."""
        async with connection(self._pool) as link:
            return await store.count(link, self.service, chosen)

    async def show(self, letter_id: int) -> tuple[Letter, Sequence[Done]]:
        """One letter, whole, and what was done to it.

        Raises:
            Unknown: there is none with this id.
        """
        async with connection(self._pool) as link, link.transaction(isolation="repeatable_read", readonly=True):
            return await self._find(link, letter_id), await store.journal(link, letter_id)

    async def insist_on_open(self, letter_id: int) -> None:
        """Say why a letter cannot be worked on.

        Raises:
            Unknown: there is none with this id.
            Settled: it is not open any more.
        """
        async with connection(self._pool) as link:
            await self._insist_on_open(link, letter_id)

    async def edit(self, letter_id: int, wanted: Mending, by: str, why: str) -> Rejected | None:
        """Mend a letter. What came is kept; what is mended is what will be applied.

        Returns:
            Why it would still be refused as far as its contract can tell; None when it can be read now.

        Raises:
            Mistake: there is no such letter, it is not open, the edit makes no sense, or nobody says who and why.
        """
        insist_on_words(by, why)
        async with transaction(self._pool) as tx:
            letters = await store.lock_open(tx, self.service, [letter_id])
            if not letters:
                await self._insist_on_open(tx, letter_id)
            (letter,) = letters
            mended = mend(letter.record, wanted)
            record = replace(letter.record, value=mended.value, headers=mended.headers)
            await store.mend(tx, letter_id, by, mended.value, mended.headers, event_type(record))
            await store.note(tx, "edit", by, {letter_id: "edited"}, why=why, changed=mended.changed)
        return self._redriving.would_refuse(record)

    async def redrive(
        self, chosen: Filter, by: str, *, after: int = 0, most: int | None = None, patience_s: float = PATIENCE_S, tell: Tell = _nobody
    ) -> Outcome:
        """Apply open letters, in batches that each commit or vanish as a whole. Safe to repeat.

        Args:
            chosen: which; only open ones are taken, whatever its state says.
            by: who asks for it.
            after: begin behind this id.
            most: stop after this many; None takes all.
            patience_s: how long a batch is tried again while the error passes by itself, seconds.
            tell: called after each batch.

        Raises:
            Invalid: nobody says who.
            Exception: a passing error that did not pass; the batches before stay done.
        """
        insist_on_words(by)
        outcome = Outcome(last=after)
        async for topic, ids in self._batches(chosen, outcome, most):
            verdicts = await self._redriving.apply(topic, ids, by, patience_s, self._committed)
            outcome.add(len(ids), verdicts, "redriven")
            tell(len(ids))
        return outcome

    async def drop(self, chosen: Filter, by: str, why: str, *, after: int = 0, most: int | None = None, tell: Tell = _nobody) -> Outcome:
        """Settle open letters as never to be applied; they stay readable. Safe to repeat.

        Args:
            chosen: which; only open ones are taken, whatever its state says.
            by: who decides it.
            why: in words; it is kept.
            after: begin behind this id.
            most: stop after this many; None takes all.
            tell: called after each batch.

        Raises:
            Invalid: nobody says who and why.
        """
        insist_on_words(by, why)
        outcome = Outcome(last=after)
        async for _, ids in self._batches(chosen, outcome, most):
            async with transaction(self._pool) as tx:
                verdicts = {letter.entry.letter_id: "dropped" for letter in await store.lock_open(tx, self.service, ids)}
                await store.settle(tx, list(verdicts), "dropped", by)
                await store.note(tx, "drop", by, verdicts, why=why)
            outcome.add(len(ids), verdicts, "dropped")
            tell(len(ids))
        return outcome

    async def _batches(self, chosen: Filter, outcome: Outcome, most: int | None) -> AsyncIterator[tuple[str, list[int]]]:
        """Open letters in the order of ids, some at a time, each time of one topic; what stays open is not met again."""
        chosen, left = replace(chosen, state="open"), most
        while left is None or left > 0:
            async with connection(self._pool) as link:
                rows = await store.sizes(link, self.service, chosen, outcome.last, BATCH if left is None else min(BATCH, left))
            if not rows:
                return
            for batch in cut(rows):
                yield batch
            outcome.last = rows[-1][0]
            left = None if left is None else left - len(rows)

    async def _find(self, tx: Tx, letter_id: int) -> Letter:
        found = await store.find(tx, self.service, letter_id)
        if found is None:
            raise Unknown(self.name(letter_id))
        return found

    async def _insist_on_open(self, tx: Tx, letter_id: int) -> None:
        entry = (await self._find(tx, letter_id)).entry
        if entry.settled_at is not None and entry.settled_by is not None:
            raise Settled(self.name(letter_id), entry.state, entry.settled_by, entry.settled_at)


def cut(rows: Sequence[tuple[int, str, int]]) -> list[tuple[str, list[int]]]:
    """Cut letters (id, topic, bytes) into batches of one topic each that fit into memory, in order within a topic."""
    batches: list[tuple[str, list[int]]] = []
    open_batches: dict[str, tuple[list[int], int]] = {}
    for letter_id, topic, size in rows:
        ids, total = open_batches.get(topic, ([], 0))
        if not ids or total + size > BATCH_BYTES:
            ids, total = [], 0
            batches.append((topic, ids))
        ids.append(letter_id)
        open_batches[topic] = ids, total + size
    return batches
