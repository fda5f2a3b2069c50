"""HTTP routes of reporting: live figures, and reports that were frozen."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from services.reporting.figures.domain import EVERY_COURSE, NATION
from services.reporting.periods import handlers, store
from services.reporting.periods.domain import MOVEMENT_BEGAN, FigureRow, Period, UnknownPeriod, period, report_id
from services.reporting.periods.handlers import DEFINITION, BeforeMovement, NotOver, UnknownNode
from services.reporting.periods.places import Places
from shared.chassis.auth import Principal, requires
from shared.chassis.database import connection, transaction
from shared.chassis.problem import Problem
from shared.chassis.service import Runtime
from shared.contracts.platform import CourseCode
from shared.contracts.reporting import Indicator, period_title_vi

INDICATORS = {
    "I-01": "Số người tham gia",
    "I-02": "Số lượt đăng ký",
    "I-04": "Số người hoàn thành khóa học",
    "I-05": "Số lượt hoàn thành (người, khóa học)",
}
"""Names of the indicators for officials."""

_COUNTS = ("all", "cit", "stu", "pub", "ent", "ungrouped")

Scope = Annotated[str, Field(pattern=r"^VN(/([?]|[0-9]{2}(/([?]|[0-9]{5}))?))?$", description="VN, VN/51, VN/51/23377; ? for the unattributed")]


class ReportRequest(BaseModel):
    """Which report to freeze."""

    model_config = ConfigDict(extra="forbid")

    definition: Literal["REP-QUARTER"] = Field(default="REP-QUARTER", description="Which report")
    scope: Scope = Field(default="VN", description="Root of the report")
    period: str = Field(description="Period of the Decree 09 calendar: 2026Q3, 2026M09, 2026H1, 2026N9, 2026")


def create_router(runtime: Runtime) -> APIRouter:
    """The routes, bound to a runtime."""
    router = APIRouter(prefix="/v1")

    @router.get("/figures", tags=["figures"], summary="Live figures of a node, or of the nodes directly below it", response_model=None)
    async def get_figures(
        _: Annotated[Principal, Depends(requires("figures:read"))],
        period: str,
        scope: Scope = "VN",
        indicator: Indicator | None = None,
        course_set: CourseCode = EVERY_COURSE,
        children: bool = False,
        format: Literal["json", "csv"] = "json",
    ) -> Response:
        over = _period(period)
        indicators = [indicator] if indicator else list(INDICATORS)
        async with connection(runtime.pool) as link, link.transaction(isolation="repeatable_read", readonly=True):
            await store.hold(link)
            places = Places(await store.places(link))
            nodes = [scope, *places.children(scope)] if children else [scope]
            if course_set not in (known := [EVERY_COURSE, *await store.course_sets(link)]):
                raise Problem(404, "Not found", f"The course register has no such set; there are {', '.join(known)}.")
            if not places.knows(scope):
                raise Problem(404, "Not found", "The territory has no such node; provinces are VN/<2 digits>, communes VN/<2 digits>/<5 digits>.")
            found = {row[:3]: row for row in await store.selected(link, nodes, over, course_set, indicators)}
            rows = [found.get((one, course_set, node), (one, course_set, node, 0, 0, 0, 0, 0, 0)) for node in nodes for one in indicators]
            as_of = await store.data_as_of(link)
            provisional = await store.report(link, report_id(DEFINITION, NATION, over.code)) is None
        if format == "csv":
            edition = _Edition(over, str(as_of["moved_at"] or ""), provisional)
            return _csv(rows, edition, places.name, f"figures-{over.code}.csv")
        figures = [_figure(row, places.name) for row in rows]
        return JSONResponse({"period": _told(over), "data_as_of": as_of, "provisional": provisional, "figures": figures})

    @router.post("/reports", tags=["reports"], summary="Freeze the figures of a scope over a period; the second time nothing happens")
    async def post_report(
        wanted: ReportRequest, _: Annotated[Principal, Depends(requires("reports:freeze"))], response: Response
    ) -> dict[str, object]:
        over = _period(wanted.period)
        async with transaction(runtime.pool, "repeatable_read") as tx:
            outcome = await handlers.freeze(tx, wanted.scope, over, runtime.clock())
        match outcome:
            case UnknownNode():
                raise Problem(404, "Not found", "The territory has no such node, or the register has not arrived yet.")
            case BeforeMovement():
                reason = f"was over before the movement began on {MOVEMENT_BEGAN.isoformat()}; there is nothing to report"
                raise Problem(422, "Not valid", f"The period {reason}.", [{"field": "period", "reason": reason}])
            case NotOver(ends_at):
                raise Problem(409, "The period is not over", f"It can be frozen from {ends_at.isoformat()} on.")
        response.status_code = 200 if outcome.already else 201
        return {"report": outcome.report, "already_frozen": outcome.already}

    @router.get("/reports", tags=["reports"], summary="The newest reports")
    async def get_reports(
        _: Annotated[Principal, Depends(requires("reports:read"))], limit: Annotated[int, Field(ge=1, le=500)] = 50
    ) -> dict[str, object]:
        async with connection(runtime.pool) as link:
            return {"reports": await store.reports(link, limit)}

    @router.get("/reports/{report_id}", tags=["reports"], summary="A frozen report", response_model=None)
    async def get_report(
        report_id: UUID,
        request: Request,
        _: Annotated[Principal, Depends(requires("reports:read"))],
        format: Literal["json", "csv"] = "json",
    ) -> Response:
        async with connection(runtime.pool) as link:
            found = await store.report(link, report_id)
            if found is None:
                raise Problem(404, "Not found", "No report has this id; GET /v1/reports lists them.")
            etag = f'"{found.sha256}-{found.version}-{format}"'
            if request.headers.get("if-none-match") == etag:
                return Response(status_code=304, headers={"etag": etag})
            rows = await store.report_figures(link, report_id)
            names = await store.report_names(link, report_id)
        if not handlers.is_intact(found, rows):
            raise Problem(500, "The report is not intact", "Its figures no longer have the digest they were frozen with; it cannot be shown.")
        over = Period(found.period, found.first_day, found.last_day)
        if format == "csv":
            edition = _Edition(
                over, str(found.data_as_of["moved_at"] or ""), False, str(report_id), found.frozen_at.isoformat(), found.sha256, str(found.version)
            )
            answer = _csv(rows, edition, names.__getitem__, f"report-{found.scope.replace('/', '-')}-{over.code}.csv")
        else:
            answer = JSONResponse(
                {
                    "report_id": str(report_id), "definition": found.definition, "scope": found.scope, "period": _told(over),
                    "frozen_at": found.frozen_at.isoformat(), "data_as_of": found.data_as_of, "provisional": False,
                    "sha256": found.sha256, "version": found.version, "figures": [_figure(row, names.__getitem__) for row in rows],
                }
            )  # fmt: skip
        answer.headers["etag"] = etag
        return answer

    return router


def _period(code: str) -> Period:
    try:
        return period(code)
    except UnknownPeriod as error:
        raise Problem(422, "Not valid", str(error), [{"field": "period", "reason": str(error)}]) from error


def _told(over: Period) -> dict[str, str]:
    return {"code": over.code, "title_vi": period_title_vi(over.code), "from": over.first_day.isoformat(), "to": over.last_day.isoformat()}


def _figure(row: FigureRow, name: Callable[[str], str]) -> dict[str, object]:
    """A figure with its names. No denominator is known yet, so no percentage can be made of it."""
    indicator, course_set, node, *counts = row
    return {
        "indicator": indicator,
        "name_vi": INDICATORS[indicator],
        "course_set": course_set,
        "scope": node,
        "scope_name_vi": name(node),
        "counts": dict(zip(_COUNTS, counts, strict=True)),
        "numerator": counts[0],
        "denominator": None,
        "status": "not_measurable",
    }


@dataclass(frozen=True, slots=True)
class _Edition:
    """What every line of a table says of the table: period, state of the data, and of a frozen report which one it is."""

    over: Period
    data_as_of: str
    provisional: bool
    report_id: str = ""
    frozen_at: str = ""
    sha256: str = ""
    version: str = ""


_COLUMNS = (
    "indicator", "name_vi", "course_set", "scope", "scope_name_vi", "period", "period_from", "period_to",
    "numerator", *_COUNTS[1:], "denominator", "status",
    "data_as_of", "provisional", "report_id", "frozen_at", "sha256", "version",
)  # fmt: skip


def _csv(rows: Sequence[FigureRow], edition: _Edition, name: Callable[[str], str], file: str) -> Response:
    """A table that spreadsheets open with Vietnamese letters (UTF-8 with byte order mark); one kind of line, so programs read it too."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    over = edition.over
    provisional = str(edition.provisional).lower()
    told = (edition.data_as_of, provisional, edition.report_id, edition.frozen_at, edition.sha256, edition.version)
    for indicator, course_set, node, *counts in rows:
        where = (indicator, INDICATORS[indicator], course_set, node, name(node), over.code, over.first_day, over.last_day)
        writer.writerow((*where, *counts, "", "not_measurable", *told))
    return Response(
        "\ufeff" + text.getvalue(), media_type="text/csv; charset=utf-8", headers={"content-disposition": f'attachment; filename="{file}"'}
    )
