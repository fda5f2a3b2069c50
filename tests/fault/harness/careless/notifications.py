"""Guards of messages and mails taken away."""

from datetime import timedelta
from unittest import mock
from uuid import UUID, uuid4

from services.notifications import handlers, main, store
from services.notifications.deliver import Deliverer
from services.notifications.store import Claimed, Settled
from shared.chassis.database import transaction


def messages_without_a_key() -> None:
    """Each event makes messages of its own. The unique key of the table must be gone as well."""

    def drawn(_rule: str, _subject: str, _recipient: str) -> UUID:
        return uuid4()

    mock.patch.object(handlers, "message_id", drawn).start()


class NotesFirst(Deliverer):
    """Notes a mail as sent and sends it then."""

    async def _next(self, settled: Settled | None, *, more: bool) -> tuple[Claimed, str] | None:
        found = await super()._next(settled, more=more)
        if found is not None:
            async with transaction(self._pool) as tx:
                await store.settle(tx, Settled(found[0], "sent", "", timedelta(), found[0].lost_answers))
        return found


def noting_before_sending() -> None:
    """A mail is noted as sent before the mail server has it."""
    mock.patch.object(main, "Deliverer", NotesFirst).start()
