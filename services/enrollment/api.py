"""HTTP routes of enrollment: facts in, registers, and what is known of an entity under its pseudonym."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from services.enrollment.enrollments import store as enrollments
from services.enrollment.facts import store as facts
from services.enrollment.intake import cloudevents
from services.enrollment.intake.cloudevents import Accepted, NotAccepted
from services.enrollment.intake.facts import check_time
from services.enrollment.persons import store as persons
from services.enrollment.registers import handlers as registers
from services.enrollment.registers import store as register_store
from services.enrollment.registers.domain import Course
from services.enrollment.registers.handlers import Superseded
from shared.chassis.auth import Principal, requires
from shared.chassis.database import transaction
from shared.chassis.outbox import announce
from shared.chassis.problem import Problem
from shared.chassis.service import Runtime
from shared.contracts.envelope import Word
from shared.contracts.platform import CourseCode

_TAG = r'^"[0-9]{1,18}"$'
"""An ETag as the register gives it out: a version."""


class CourseEntry(BaseModel):
    """What the register holds of a course."""

    model_config = ConfigDict(extra="forbid")

    title: Word = Field(description="Title, Vietnamese")
    launched_by: Word = Field(description="Code of the unit that launched it, for example BXD")
    course_sets: list[CourseCode] = Field(default=[], max_length=20, description="Sets it counts for besides ALL")


def create_router(runtime: Runtime, history_sources: tuple[str, ...]) -> APIRouter:
    """The routes, bound to a runtime.

    Args:
        runtime: database, clock, relay.
        history_sources: sources that may report facts from before the movement began.
    """
    router = APIRouter(prefix="/v1")

    @router.post("/events", status_code=202, tags=["facts"], summary="Hand over facts as CloudEvents (binary, structured or batch)")
    async def post_events(request: Request, principal: Annotated[Principal, Depends(requires("facts:write"))]) -> JSONResponse:
        body = await request.body()
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if media_type == cloudevents.BATCHED:
            found = cloudevents.batch(body, runtime.clock)
            if isinstance(found, NotAccepted):
                raise _problem(found)
            verdicts = await _take(found, principal)
            return JSONResponse({"accepted": sum(v["status"] == "accepted" for v in verdicts), "items": verdicts}, 202)
        if media_type == cloudevents.STRUCTURED:
            one = cloudevents.structured(body, runtime.clock)
        elif media_type == "application/json":
            one = cloudevents.binary(headers, body, runtime.clock)
        else:
            raise Problem(415, "Unknown media type", f"Send application/json with ce- headers, {cloudevents.STRUCTURED} or {cloudevents.BATCHED}.")
        verdict = (await _take([one], principal))[0]
        if verdict["status"] == "refused":
            raise _problem(NotAccepted(None, str(verdict["reason"]), tuple(verdict["errors"])))  # type: ignore[arg-type]
        return JSONResponse(verdict, 202)

    async def _take(found: "list[Accepted | NotAccepted]", principal: Principal) -> list[dict[str, object]]:
        """Judge what the contract cannot see, store the good in the outbox in one transaction, answer per item."""
        async with transaction(runtime.pool) as tx:
            codes = [item.data.course for item in found if isinstance(item, Accepted) and hasattr(item.data, "course")]
            known = await register_store.known_courses(tx, codes)
            judged = [_judge(item, principal, known) if isinstance(item, Accepted) else item for item in found]
            await announce(tx, [item.announcement for item in judged if isinstance(item, Accepted)])
        runtime.wake_relay()
        return [_verdict(item) for item in judged]

    def _judge(item: Accepted, principal: Principal, known: frozenset[str]) -> Accepted | NotAccepted:
        source, data = item.envelope.source, item.data
        if principal.source is not None and principal.source != source:
            return NotAccepted(item.envelope.id, "foreign_source", ({"field": "source", "reason": "this key may not speak for it"},))
        wrong = check_time(data.occurred_at, source, runtime.clock(), history_sources)
        if wrong is not None:
            return NotAccepted(item.envelope.id, wrong.reason, ({"field": "data.occurred_at", "reason": wrong.detail},))
        if hasattr(data, "course") and data.course not in known:
            return NotAccepted(item.envelope.id, "unknown_course", ({"field": "data.course", "reason": "does not stand in the course register"},))
        return item

    @router.put("/registers/courses/{code}", tags=["registers"], summary="Enter or change a course of the register")
    async def put_course(
        code: CourseCode,
        entry: CourseEntry,
        response: Response,
        _: Annotated[Principal, Depends(requires("registers:write"))],
        if_match: Annotated[str | None, Header(pattern=_TAG, description="ETag of what was read: nothing else is replaced")] = None,
        if_none_match: Annotated[Literal["*"] | None, Header(description="*: enter it, and replace nothing")] = None,
    ) -> dict[str, object]:
        """A request that a client gave up may still arrive, behind a later one; with a condition it does not undo that one (RFC 9110, 13.1)."""
        seen = 0 if if_none_match else None if if_match is None else int(if_match.strip('"'))
        async with transaction(runtime.pool) as tx:
            course = Course(code, entry.title, entry.launched_by, tuple(entry.course_sets))
            done = await registers.put_course(tx, course, runtime.clock(), seen)
        if isinstance(done, Superseded):
            raise Problem(412, "Precondition failed", "The register holds something else than you saw; read the course again, then decide.")
        runtime.wake_relay()
        response.headers["etag"] = _tag(done.version)
        return {"code": code, "changed": done.changed, "version": done.version}

    @router.get("/registers/courses/{code}", tags=["registers"], summary="A course of the register; its ETag is what a change may depend on")
    async def get_course(code: CourseCode, response: Response, _: Annotated[Principal, Depends(requires("registers:read"))]) -> Course:
        async with transaction(runtime.pool) as tx:
            found = (await register_store.courses(tx)).get(code)
        if found is None:
            raise Problem(404, "Not found", "No course has this code; GET /v1/registers/courses shows all of them.")
        response.headers["etag"] = _tag(found[1])
        return found[0]

    @router.get("/registers/courses", tags=["registers"], summary="The course register")
    async def get_courses(_: Annotated[Principal, Depends(requires("registers:read"))]) -> dict[str, object]:
        async with transaction(runtime.pool) as tx:
            return {"courses": [course for course, _ in (await register_store.courses(tx)).values()]}

    @router.get("/registers/territory", tags=["registers"], summary="The register of territory, whole or of one province")
    async def get_territory(_: Annotated[Principal, Depends(requires("registers:read"))], province: str | None = None) -> dict[str, object]:
        async with transaction(runtime.pool) as tx:
            units = [unit for unit, _ in (await register_store.territory(tx)).values()]
        chosen = [unit for unit in units if province is None or unit.province == province]
        if not chosen:
            raise Problem(404, "Not found", "No province has this code; codes are two digits with a leading zero, for example 01.")
        return {"units": chosen}

    @router.get("/enrollments/{enrollment_id}", tags=["entities"], summary="An enrollment and the facts it was folded from")
    async def get_enrollment(enrollment_id: UUID, _: Annotated[Principal, Depends(requires("facts:read"))]) -> dict[str, object]:
        async with transaction(runtime.pool) as tx:
            found = await enrollments.find(tx, enrollment_id)
            if found is None:
                raise Problem(404, "Not found", "No enrollment has this id.")
            return {"enrollment": found, "facts": await facts.positions(tx, enrollment_id)}

    @router.get("/persons/{person_ref}", tags=["entities"], summary="A person and the facts it was folded from")
    async def get_person(person_ref: UUID, _: Annotated[Principal, Depends(requires("facts:read"))]) -> dict[str, object]:
        async with transaction(runtime.pool) as tx:
            found = await persons.find(tx, person_ref)
            if found is None:
                raise Problem(404, "Not found", "No person has this pseudonym.")
            return {"person": found, "facts": await facts.positions(tx, person_ref)}

    return router


def _tag(version: int) -> str:
    return f'"{version}"'


def _verdict(item: Accepted | NotAccepted) -> dict[str, object]:
    if isinstance(item, Accepted):
        return {"id": item.envelope.id, "status": "accepted"}
    return {"id": item.event_id, "status": "refused", "reason": item.reason, "errors": list(item.errors)}


def _problem(item: NotAccepted) -> Problem:
    status = 400 if item.reason in ("not_json", "not_utf8") else 413 if item.reason in ("too_large", "too_many") else 422
    return Problem(status, f"Not accepted: {item.reason}", "Nothing was stored; mend what is named below and send again.", item.errors)
