"""What a subscription does with records, whoever brings them: decode, call the handlers, and find whose fault a failure is.

The consumer brings records from the broker, a redrive brings those that were set aside. Both apply them here, so what is
redriven takes the very way it would have taken.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.chassis.database import Tx
from shared.chassis.dead_letters import DeadLetter, RawRecord
from shared.chassis.decode import Received, Refused, decode
from shared.chassis.errors import Rejected
from shared.contracts.envelope import EventType
from shared.contracts.topics import Topic

Handler = Callable[[Sequence[Received[Any]], Tx], Awaitable[Sequence[Refused]]]
"""Applies events in the transaction it is given and returns those it refuses. It may be called again with the same
events after a rollback, so it keeps nothing in memory that a rollback would make untrue."""

LONGEST_PAUSE_S = 5.0
"""Longest pause between two attempts, seconds."""

BUG_ATTEMPTS = 3
"""How often a record that fails alone, for no known reason, is tried before it is set aside."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subscription:
    """What a service reads of one topic, and with which function.

    Attributes:
        topic: of the closed list; the service must be among its readers.
        handlers: by event type. Several types may share a handler; it gets their events together, in offset order.
        ignored: event types of the topic that this service knows and has no use for.
    """

    topic: Topic
    handlers: Mapping[EventType[Any], Handler]
    ignored: tuple[EventType[Any], ...] = ()


@dataclass(slots=True)
class Item:
    """A record with its event, its refusal, or neither (a tombstone, an ignored type)."""

    record: RawRecord
    event: Received[Any] | None = None
    letter: DeadLetter | None = None


class Applying:
    """Applies records of one subscription."""

    def __init__(self, subscription: Subscription) -> None:
        self._types = {known.name: known for known in (*subscription.handlers, *subscription.ignored)}
        self._handlers = {known.name: handler for known, handler in subscription.handlers.items()}

    def read(self, record: RawRecord, taken_over_at: int = 0) -> Item:
        """Decode a record; what cannot be decoded has its dead letter."""
        try:
            event = decode(record, self._types, taken_over_at)
        except Rejected as rejected:
            return Item(record, letter=DeadLetter(record, rejected.reason, rejected.detail))
        except Exception as error:
            # Whatever a stranger thought of: one record never keeps the others waiting.
            log.exception("record cannot be read for a reason that was not foreseen")
            return Item(record, letter=DeadLetter(record, "unreadable", f"reading it failed: {type(error).__name__}"))
        handled = event is not None and event.type in self._handlers
        return Item(record, event=event if handled else None)

    async def apply(self, items: Sequence[Item], tx: Tx) -> list[DeadLetter]:
        """Call each handler once with its events, in the order given; returns what is to be set aside, read or refused so."""
        letters = [item.letter for item in items if item.letter is not None]
        calls: dict[Handler, list[Received[Any]]] = {}
        for item in items:
            if item.event is not None:
                calls.setdefault(self._handlers[item.event.type], []).append(item.event)
        if not calls:
            return letters
        by_position = {(item.record.partition, item.record.offset): item.record for item in items}
        for handler, events in calls.items():
            for refused in await handler(events, tx):
                record = by_position[refused.record.partition, refused.record.offset]
                letters.append(DeadLetter(record, refused.reason, refused.detail))
        return letters


def halves(several: list[T]) -> list[list[T]]:
    """What is left to try after several failed together for no passing reason, last first."""
    middle = len(several) // 2
    return [several[middle:], several[:middle]]


def blame(error: Exception, attempts: int) -> Rejected | None:
    """Why a record that failed alone, for no passing reason, is set aside; None while it deserves another attempt.

    Args:
        error: what it failed with.
        attempts: how often it has failed.
    """
    if isinstance(error, Rejected):
        return error
    if attempts < BUG_ATTEMPTS:
        return None
    return Rejected("handler_failed", f"the handler failed {BUG_ATTEMPTS} times on this record alone: {type(error).__name__}")


async def pause(attempts: int) -> None:
    """Wait before the next attempt after a passing error; longer each time, never twice the same."""
    await asyncio.sleep(min(LONGEST_PAUSE_S, 0.05 * 2**attempts) * random.uniform(0.5, 1))  # noqa: S311
