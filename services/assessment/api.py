"""HTTP routes of assessment."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from services.assessment import store
from services.assessment.domain import true_order
from shared.chassis.auth import Principal, requires
from shared.chassis.database import transaction
from shared.chassis.problem import Problem
from shared.chassis.service import Runtime


def create_router(runtime: Runtime) -> APIRouter:
    """The routes, bound to a runtime."""
    router = APIRouter(prefix="/v1")

    @router.get("/completions/{enrollment_id}", tags=["entities"], summary="The completion of an enrollment and the facts it was folded from")
    async def get_completion(enrollment_id: UUID, _: Annotated[Principal, Depends(requires("completions:read"))]) -> dict[str, object]:
        async with transaction(runtime.pool) as tx:
            found = await store.find(tx, enrollment_id)
            if found is None:
                raise Problem(404, "Not found", "No outcome is known of an enrollment with this id.")
            facts = await store.facts_of(tx, [enrollment_id])
        told = [
            {"fact_id": fact.fact_id, "said": fact.kind.name, "source": fact.source, "occurred_at": fact.occurred_at}
            for fact in sorted(facts[enrollment_id], key=true_order)
        ]
        return {
            "enrollment_id": found.enrollment_id,
            "person_ref": found.state.person_ref,
            "course": found.state.course,
            "completed_at": found.state.completed_at,
            "version": found.version,
            "facts": told,
        }

    return router
