"""Apply letters in place, in batches that each commit or vanish as a whole; a batch that fails is cut down to the one letter that is bad."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from shared.chassis.applying import Applying, Subscription, blame, halves, pause
from shared.chassis.database import Pool, Tx, opened_at, transaction
from shared.chassis.dead_letters import DETAIL_LENGTH
from shared.chassis.errors import Rejected, is_transient
from shared.chassis.letters import store
from shared.chassis.letters.store import Letter

log = logging.getLogger(__name__)

_NOT_READ = Rejected("topic_not_read", "no subscription of the service is on this topic")


class Redriving:
    """Runs the handlers of a service's subscriptions on letters.

    Args:
        pool: the service's database.
        group: the service's consumer group.
        subscriptions: what the service reads, with its handlers.
    """

    def __init__(self, pool: Pool, group: str, subscriptions: Iterable[Subscription]) -> None:
        self._pool = pool
        self._group = group
        self._applying = {wanted.topic.name: Applying(wanted) for wanted in subscriptions}

    def would_refuse(self, record: store.Record) -> Rejected | None:
        """Why a record cannot be read, as far as its contract can tell; a handler may still refuse what can be read."""
        applying = self._applying.get(record.topic)
        if applying is None:
            return _NOT_READ
        letter = applying.read(record).letter
        return Rejected(letter.reason, letter.detail) if letter is not None else None

    async def apply(self, topic: str, letter_ids: Sequence[int], by: str, patience_s: float, committed: Callable[[], None]) -> dict[int, str]:
        """Apply those of these letters of one topic that are open.

        Args:
            topic: their topic.
            letter_ids: in the order of ids.
            by: who asks for it.
            patience_s: how long to try again while an error passes by itself, seconds.
            committed: called after each commit.

        Returns:
            What came of each: `redriven`, or the reason code with which it was refused and stays open. A letter that was
            not open any more is missing.

        Raises:
            Exception: a passing error that did not pass. What was committed stays; a batch is never half done.
        """
        verdicts: dict[int, str] = {}
        waiting = [list(letter_ids)]
        while waiting:
            waiting.extend(await self._apply_or_split(topic, waiting.pop(), by, patience_s, committed, verdicts))
        return verdicts

    async def _apply_or_split(
        self, topic: str, ids: list[int], by: str, patience_s: float, committed: Callable[[], None], verdicts: dict[int, str]
    ) -> list[list[int]]:
        """Apply these letters, or say what is left to try, last first."""
        attempts = 0
        deadline = time.monotonic() + patience_s
        blamed: Rejected | None = None
        while True:
            try:
                done = await self._transact(topic, ids, by, blamed)
            except Exception as error:
                attempts += 1
                if is_transient(error):
                    if time.monotonic() > deadline:
                        raise
                    log.warning("passing error, trying again", extra={"error": type(error).__name__, "attempt": attempts})
                    await pause(attempts)
                elif len(ids) > 1:
                    return halves(ids)
                elif blamed is not None:
                    raise  # nothing but the note that it was refused is left to fail
                else:
                    blamed = blame(error, attempts)
            else:
                verdicts.update(done)
                committed()
                return []

    async def _transact(self, topic: str, ids: Sequence[int], by: str, blamed: Rejected | None) -> dict[int, str]:
        """One transaction: the letters' rows, effects, what became of the letters, the journal."""
        async with transaction(self._pool) as tx:
            letters = await store.lock_open(tx, self._group, ids)
            refused = await self._refused(tx, topic, letters, blamed)
            applied = [letter.entry.letter_id for letter in letters if letter.entry.letter_id not in refused]
            await store.refused(tx, refused)
            await store.settle(tx, applied, "redriven", by)
            verdicts = {letter.entry.letter_id: "redriven" for letter in letters} | {number: reason for number, (reason, _) in refused.items()}
            await store.note(tx, "redrive", by, verdicts)
        return verdicts

    async def _refused(self, tx: Tx, topic: str, letters: Sequence[Letter], blamed: Rejected | None) -> dict[int, tuple[str, str]]:
        """Apply the letters; reason and detail of those that are refused, by id."""
        applying = self._applying.get(topic)
        if blamed is not None or applying is None:
            wrong = blamed or _NOT_READ
            return {letter.entry.letter_id: (wrong.reason, wrong.detail) for letter in letters}
        # As a consumer does: a connection that is younger may lead to a database that was put back, and then it is said again.
        items = [applying.read(letter.record, opened_at(tx)) for letter in letters]
        ids = {(letter.record.partition, letter.record.offset): letter.entry.letter_id for letter in letters}
        verdicts = await applying.apply(items, tx)
        return {ids[one.record.partition, one.record.offset]: (one.reason, one.detail[:DETAIL_LENGTH]) for one in verdicts}
