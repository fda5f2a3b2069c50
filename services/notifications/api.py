"""HTTP routes of notifications: the in-app ledger."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field

from services.notifications import store
from shared.chassis.auth import Principal, requires
from shared.chassis.database import transaction
from shared.chassis.problem import Problem
from shared.chassis.service import Runtime
from shared.contracts.envelope import Word


def create_router(runtime: Runtime) -> APIRouter:
    """The routes, bound to a runtime."""
    router = APIRouter(prefix="/v1")

    @router.get("/messages", tags=["messages"], summary="The newest messages, of one office or about one subject")
    async def get_messages(
        _: Annotated[Principal, Depends(requires("messages:read"))],
        recipient: Word | None = None,
        subject: Word | None = None,
        limit: Annotated[int, Field(ge=1, le=500)] = 100,
    ) -> dict[str, object]:
        async with transaction(runtime.pool) as tx:
            return {"messages": await store.ledger(tx, recipient, subject, limit), "deliveries": await store.counts(tx)}

    @router.post("/messages/{message_id}/read", tags=["messages"], summary="Note that the office has read it")
    async def post_read(message_id: UUID, _: Annotated[Principal, Depends(requires("messages:write"))]) -> dict[str, object]:
        async with transaction(runtime.pool) as tx:
            if not await store.mark_read(tx, message_id, runtime.clock()):
                raise Problem(404, "Not found", "No message has this id.")
        return {"message_id": message_id, "read": True}

    return router
