"""HTTP routes for the clerk, on the API of every service."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.chassis.auth import Principal, requires
from shared.chassis.letters import telling
from shared.chassis.letters.choosing import choose
from shared.chassis.letters.desk import Desk, Outcome
from shared.chassis.letters.mending import Mending, written
from shared.chassis.letters.mistakes import LONGEST_WORDS, Invalid, Mistake, Settled, Unknown
from shared.chassis.letters.store import Filter
from shared.chassis.problem import Problem
from shared.contracts.envelope import Word

READ, WRITE, DATA = "dead-letters:read", "dead-letters:write", "dead-letters:data"
"""Scopes: to see that something waits and why; to settle and mend it; to see what it holds."""

PATIENCE_S = 5.0
"""A caller waits no longer than this for an error to pass, seconds."""

MOST = 500
"""Letters in one request; the answer says where to go on."""

LetterId = Annotated[int, Path(ge=1, lt=2**63)]
Why = Annotated[str, Field(min_length=1, max_length=LONGEST_WORDS, description="In words; it is kept")]


class Changes(BaseModel):
    """What is mended."""

    model_config = ConfigDict(extra="forbid")

    why: Why
    data: dict[str, JsonValue] | None = Field(default=None, description="All of the data anew")
    set: dict[str, JsonValue] = Field(default={}, description="Single fields anew, by path: list.0.name")
    headers: dict[str, str] = Field(default={}, description="Headers anew; ce_id and ce_source cannot be edited")


class Chosen(BaseModel):
    """Which open letters are meant."""

    model_config = ConfigDict(extra="forbid")

    all: bool = Field(default=False, description="Every open letter; needed when nothing else is said")
    ids: list[Annotated[int, Field(ge=1, lt=2**63)]] | None = Field(default=None, max_length=MOST, description="These only")
    reason: Word | None = Field(default=None, description="Reason code")
    topic: Word | None = Field(default=None, description="Topic")
    type: Word | None = Field(default=None, description="CloudEvents type")
    since: Word | None = Field(default=None, description="Set aside at this moment or later; ISO, Viet Nam time without offset")
    until: Word | None = Field(default=None, description="Set aside before this moment; a date means all of that day")
    after: int = Field(default=0, ge=0, lt=2**63, description="Begin behind this id")
    limit: int = Field(default=MOST, ge=1, le=MOST, description="Most letters in this request")


class Dropped(Chosen):
    """Which letters are dropped, and why."""

    why: Why


class Reasoned(BaseModel):
    """Why one letter is dropped."""

    model_config = ConfigDict(extra="forbid")

    why: Why


Reader = Annotated[Principal, Depends(requires(READ))]
Writer = Annotated[Principal, Depends(requires(WRITE))]


def serve(app: FastAPI, desk: Desk) -> None:
    """Add the routes to a service's API."""
    app.add_exception_handler(Mistake, _on_mistake)
    app.include_router(create_router(desk))


def create_router(desk: Desk) -> APIRouter:
    """The routes, bound to a desk."""
    router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

    @router.get("", summary="Records that were set aside: where, when and why, never what they hold")
    async def get_letters(
        _: Reader,
        reason: Word | None = None,
        topic: Word | None = None,
        type: Word | None = None,
        since: Word | None = None,
        until: Word | None = None,
        state: Literal["open", "redriven", "dropped", "all"] = "open",
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    ) -> dict[str, object]:
        wanted = None if state == "all" else state
        chosen = choose(desk.reasons.all, reason=reason, topic=topic, event_type=type, since=since, until=until, state=wanted)
        entries = await desk.page(chosen, after=after, limit=limit)
        counted = await desk.count(chosen)
        return {
            "dead_letters": [telling.entry(desk, found) for found in entries],
            "count": sum(counted.values()),
            "by_reason": counted,
            "after": entries[-1].letter_id if len(entries) == limit else None,
        }

    @router.get("/reasons", summary="Every reason code with its explanation and what to do")
    async def get_reasons(_: Reader) -> dict[str, object]:
        return {"reasons": [telling.reason(found) for found in desk.reasons.all.values()]}

    @router.post("/redrive", summary="Apply open letters after all, at most 500 in one request")
    async def post_redrive(wanted: Chosen, principal: Writer) -> dict[str, object]:
        chosen = _choose(desk, wanted)
        done = await desk.redrive(chosen, principal.name, after=wanted.after, most=wanted.limit, patience_s=PATIENCE_S)
        return await _told(desk, chosen, done, "redriven")

    @router.post("/drop", summary="Drop open letters, at most 500 in one request")
    async def post_drop(wanted: Dropped, principal: Writer) -> dict[str, object]:
        chosen = _choose(desk, wanted)
        done = await desk.drop(chosen, principal.name, wanted.why, after=wanted.after, most=wanted.limit)
        return await _told(desk, chosen, done, "dropped")

    @router.get("/{letter_id}", summary="One letter, what to do about it and what was done; with_data needs a scope of its own")
    async def get_letter(letter_id: LetterId, principal: Reader, with_data: bool = False) -> dict[str, object]:
        if with_data and not principal.may(DATA):
            raise Problem(403, "Not allowed", f"This key does not hold the scope {DATA}; ask the operator for it.")
        found, acts = await desk.show(letter_id)
        return telling.letter(desk, found, acts, with_data=with_data)

    @router.patch("/{letter_id}", summary="Mend a letter; what came is kept, and nothing is applied yet")
    async def patch_letter(letter_id: LetterId, wanted: Changes, principal: Writer) -> dict[str, object]:
        data = None if wanted.data is None else written(wanted.data)
        still = await desk.edit(letter_id, Mending(data, wanted.set, wanted.headers), principal.name, wanted.why)
        return {"id": letter_id, "edited": True, "would_be_refused": None if still is None else {"reason": still.reason, "detail": still.detail}}

    @router.post("/{letter_id}/redrive", summary="Apply a letter after all; once it is redriven nothing more happens")
    async def post_redrive_one(letter_id: LetterId, principal: Writer) -> dict[str, object]:
        await desk.insist_on_open(letter_id)
        done = await desk.redrive(Filter(ids=(letter_id,)), principal.name, patience_s=PATIENCE_S)
        if done.settled_before:
            await desk.insist_on_open(letter_id)
        found, _ = await desk.show(letter_id)
        return telling.entry(desk, found.entry) | {"detail": found.entry.detail}

    @router.post("/{letter_id}/drop", summary="Settle a letter as never to be applied; it stays readable")
    async def post_drop_one(letter_id: LetterId, wanted: Reasoned, principal: Writer) -> dict[str, object]:
        await desk.insist_on_open(letter_id)
        done = await desk.drop(Filter(ids=(letter_id,)), principal.name, wanted.why)
        if done.settled_before:
            await desk.insist_on_open(letter_id)
        return telling.entry(desk, (await desk.show(letter_id))[0].entry)

    return router


def _choose(desk: Desk, wanted: Chosen) -> Filter:
    if not (wanted.all or wanted.ids or wanted.reason or wanted.topic or wanted.type or wanted.since or wanted.until):
        raise Invalid("Hãy nói bản ghi nào: ids, một bộ lọc, hoặc all.", "Say which letters are meant: ids, a filter, or all.")
    return choose(
        desk.reasons.all, reason=wanted.reason, topic=wanted.topic, event_type=wanted.type, since=wanted.since, until=wanted.until, ids=wanted.ids
    )


async def _told(desk: Desk, chosen: Filter, done: Outcome, state: str) -> dict[str, object]:
    more = bool(await desk.page(chosen, after=done.last, limit=1))
    return {**telling.outcome(done, state), "more": more}


async def _on_mistake(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Mistake)  # noqa: S101  (registered for this class)
    status, title = {Unknown: (404, "Not found"), Settled: (409, "Not open any more")}.get(type(error), (422, "Not valid"))
    return Problem(status, title, error.en).response()
