"""The tables of reports, and figures as they stand over a period."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from services.reporting.figures.domain import STOCKS
from services.reporting.periods.domain import FigureRow, Period
from shared.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class FrozenReport:
    """A frozen report without its figures."""

    report_id: UUID
    definition: str
    scope: str
    period: str
    first_day: date
    last_day: date
    frozen_at: datetime
    data_as_of: dict[str, object]
    figures: int
    sha256: str
    version: int


# The nodes below one are those that begin with its path and a slash; in this column's order they end where '0', the
# character after the slash, begins. A pattern would take what stands in the scope as its own.
_FIGURES = """
SELECT indicator, course_set, node, sum(n_all)::bigint, sum(n_cit)::bigint, sum(n_stu)::bigint,
    sum(n_pub)::bigint, sum(n_ent)::bigint, sum(n_ungrouped)::bigint
FROM figure
WHERE (node = $1 OR (node > $1 || '/' AND node < $1 || '0')) AND day <= $3 AND (indicator = ANY($4::text[]) OR day >= $2)
GROUP BY indicator, course_set, node
ORDER BY indicator, course_set, node
"""

_HOLD = "LOCK TABLE figure IN ACCESS SHARE MODE"


async def hold(tx: Tx) -> None:
    """Keep a rebuild from exchanging the figures until the transaction ends.

    Call it before anything else in a transaction that reads from one snapshot: a lock takes no snapshot, and a snapshot
    taken before the exchange would see the new tables as they were then, half filled.
    """
    await tx.execute(_HOLD)


_ALONE = "LOCK TABLE report IN SHARE ROW EXCLUSIVE MODE"


async def freeze_alone(tx: Tx) -> None:
    """One freeze at a time, and figures that nobody exchanges meanwhile; call it before anything else, as `hold`."""
    await tx.execute(_ALONE)
    await hold(tx)


async def figures(tx: Tx, scope: str, over: Period) -> list[FigureRow]:
    """Every figure of a node and all below it that is not zero over a period: stocks at its end, flows in it."""
    rows = await tx.fetch(_FIGURES, scope, over.first_day, over.last_day, list(STOCKS))
    # Rows that were counted and taken back stand as zeros, or not at all after a rebuild: a report is the same either way.
    return [tuple(row) for row in rows if any(row[3:])]


_SELECTED = """
SELECT indicator, course_set, node, sum(n_all)::bigint, sum(n_cit)::bigint, sum(n_stu)::bigint,
    sum(n_pub)::bigint, sum(n_ent)::bigint, sum(n_ungrouped)::bigint
FROM figure
WHERE node = ANY($1::text[]) AND day <= $3 AND (indicator = ANY($4::text[]) OR day >= $2) AND course_set = $5 AND indicator = ANY($6::text[])
GROUP BY indicator, course_set, node
"""


async def selected(tx: Tx, nodes: Sequence[str], over: Period, course_set: str, indicators: Sequence[str]) -> list[FigureRow]:
    """Figures of these nodes over a period; what nobody contributed to is absent."""
    return [tuple(row) for row in await tx.fetch(_SELECTED, list(nodes), over.first_day, over.last_day, list(STOCKS), course_set, list(indicators))]


_AS_OF = """
SELECT json_object_agg(topic || '/' || partition, next_offset ORDER BY topic, partition)::text AS offsets, max(moved_at) AS moved_at
FROM consumed_offset WHERE consumer_group = 'reporting'
"""


async def data_as_of(tx: Tx) -> dict[str, object]:
    """Which records the figures contain: by topic and partition the next offset, and when the last one moved."""
    row = await tx.fetchrow(_AS_OF)
    if row is None or row["offsets"] is None:
        return {"offsets": {}, "moved_at": None}
    return {"offsets": json.loads(row["offsets"]), "moved_at": row["moved_at"].isoformat()}


_REPORT = """
SELECT report_id, definition, scope, period, first_day, last_day, frozen_at, data_as_of, figures, sha256, version FROM report WHERE report_id = $1
"""

_REPORTS = """
SELECT report_id, definition, scope, period, first_day, last_day, frozen_at, data_as_of, figures, sha256, version FROM report
ORDER BY last_day DESC, scope LIMIT $1
"""


async def report(tx: Tx, report_id: UUID) -> FrozenReport | None:
    """One report."""
    row = await tx.fetchrow(_REPORT, report_id)
    return FrozenReport(**{**row, "data_as_of": json.loads(row["data_as_of"])}) if row else None


async def reports(tx: Tx, limit: int) -> list[FrozenReport]:
    """The newest reports."""
    return [FrozenReport(**{**row, "data_as_of": json.loads(row["data_as_of"])}) for row in await tx.fetch(_REPORTS, limit)]


_ADD = """
INSERT INTO report (report_id, definition, scope, period, first_day, last_day, frozen_at, data_as_of, figures, sha256, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (report_id) DO NOTHING
RETURNING report_id
"""

_REPORT_FIGURE_COLUMNS = ("report_id", "indicator", "course_set", "node", "n_all", "n_cit", "n_stu", "n_pub", "n_ent", "n_ungrouped")


async def add(tx: Tx, new: FrozenReport, rows: Sequence[FigureRow], names: Mapping[str, str]) -> bool:
    """Store a report with its figures and the names of its nodes; False when it is there already, and then nothing is changed."""
    stored = await tx.fetchval(
        _ADD, new.report_id, new.definition, new.scope, new.period, new.first_day, new.last_day, new.frozen_at,
        json.dumps(new.data_as_of), new.figures, new.sha256, new.version,
    )  # fmt: skip
    if stored is None:
        return False
    await tx.copy_records_to_table("report_figure", columns=_REPORT_FIGURE_COLUMNS, records=[(new.report_id, *row) for row in rows])
    await tx.copy_records_to_table(
        "report_place", columns=("report_id", "node", "name"), records=[(new.report_id, node, name) for node, name in names.items()]
    )
    return True


_REPORT_FIGURES = """
SELECT indicator, course_set, node, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM report_figure
WHERE report_id = $1 ORDER BY indicator, course_set, node
"""


async def report_figures(tx: Tx, report_id: UUID) -> list[FigureRow]:
    """The figures of a frozen report."""
    return [tuple(row) for row in await tx.fetch(_REPORT_FIGURES, report_id)]


_REPORT_NAMES = "SELECT node, name FROM report_place WHERE report_id = $1"


async def report_names(tx: Tx, report_id: UUID) -> dict[str, str]:
    """The names of a frozen report's nodes, as they were when it was frozen."""
    return {row[0]: row[1] for row in await tx.fetch(_REPORT_NAMES, report_id)}


_MARK_ALL = """
INSERT INTO figure_change (indicator, course_set, node, day)
SELECT DISTINCT indicator, course_set, node, $1::date FROM figure WHERE length(node) < 7 OR node LIKE '%/?'
"""


async def mark_for_publication(tx: Tx, since: date) -> None:
    """Have all cells of nation and provinces published again from this day's period on: they are final now."""
    await tx.execute(_MARK_ALL, since)


_COURSE_SETS = "SELECT DISTINCT unnest(course_sets) FROM course ORDER BY 1"


async def course_sets(tx: Tx) -> list[str]:
    """The sets that the course register names, besides the one of every course."""
    return [row[0] for row in await tx.fetch(_COURSE_SETS)]


_PLACES = "SELECT code, level, name, type, province FROM territory_unit ORDER BY code"


async def places(tx: Tx) -> list[tuple[str, str, str, str, str]]:
    """The register of territory: code, level, name, type, province."""
    return [tuple(row) for row in await tx.fetch(_PLACES)]
