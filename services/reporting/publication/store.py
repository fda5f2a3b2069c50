"""The tables of publication: which cells changed, what was last published of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from services.reporting.figures.domain import STOCKS
from services.reporting.periods.domain import FigureRow, Period
from services.reporting.periods.store import mark_for_publication
from services.reporting.publication.read_back import Seen
from shared.chassis.database import Tx

NEVER = datetime(1970, 1, 2, tzinfo=UTC)
"""Before anything was published."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A cell of nation or province that changed, and the earliest day that did."""

    indicator: str
    course_set: str
    node: str
    day: date


_TAKE = """
WITH taken AS (DELETE FROM figure_change RETURNING indicator, course_set, node, day)
SELECT indicator, course_set, node, min(day) AS day FROM taken GROUP BY indicator, course_set, node
"""


async def take_marks(tx: Tx) -> list[Marked]:
    """Take the marks; they come back if the transaction rolls back."""
    return [Marked(*row) for row in await tx.fetch(_TAKE)]


_NEWEST = "SELECT to_timestamp(max(version) / 1e6) FROM published_figure"


async def newest(tx: Tx) -> datetime:
    """When something was last published, as far as the table knows."""
    return await tx.fetchval(_NEWEST) or NEVER


# The digest of what the table did not know of equals none, so the cell is published with what is true.
_ADOPT = """
WITH told AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::date[]) AS told (cell, last_version, highest_version, day)
), adopted AS (
    INSERT INTO published_figure (cell, digest, version)
    SELECT cell, ''::bytea, highest_version FROM told ORDER BY cell
    ON CONFLICT (cell) DO UPDATE SET digest = excluded.digest, version = excluded.version
    WHERE excluded.version > published_figure.version
        OR excluded.version > (SELECT last_version FROM told WHERE told.cell = published_figure.cell)
    RETURNING cell
)
INSERT INTO figure_change (indicator, course_set, node, day)
SELECT split_part(cell, '/', 1), split_part(cell, '/', 2), substring(cell FROM '^[^/]+/[^/]+/(.+)/[^/]+$'), day
FROM adopted JOIN told USING (cell)
"""


async def adopt(tx: Tx, seen: Mapping[str, Seen]) -> None:
    """Take note of what subscribers hold, and have cells published whose last record is not what the table believes."""
    if seen:
        await tx.execute(
            _ADOPT,
            list(seen),
            [one.last_version for one in seen.values()],
            [one.highest_version for one in seen.values()],
            [one.period_from for one in seen.values()],
        )


_IS_PUBLISHED = "SELECT EXISTS (SELECT FROM published_figure WHERE cell LIKE '%/' || $1)"


async def open_quarter(tx: Tx, quarter: Period) -> None:
    """Mark every cell for a quarter of which nothing is published yet: stocks stand in it although nothing happened."""
    if not await tx.fetchval(_IS_PUBLISHED, quarter.code):
        await mark_for_publication(tx, quarter.first_day)


_FROZEN = "SELECT period FROM report WHERE scope = 'VN'"


async def frozen_periods(tx: Tx) -> frozenset[str]:
    """Periods on which a report of the nation is frozen."""
    return frozenset(row[0] for row in await tx.fetch(_FROZEN))


# Flows are summed per quarter; stocks need everything before as well, which stands in bucket 0 and is added up by the window.
_VALUES = """
WITH bucket AS (
    SELECT f.indicator, f.course_set, f.node, coalesce(q.number, 0) AS number,
        sum(n_all) AS n_all, sum(n_cit) AS n_cit, sum(n_stu) AS n_stu, sum(n_pub) AS n_pub, sum(n_ent) AS n_ent, sum(n_ungrouped) AS n_ungrouped
    FROM unnest($1::text[], $2::text[], $3::text[]) AS cell (indicator, course_set, node)
    JOIN figure f ON f.indicator = cell.indicator AND f.course_set = cell.course_set AND f.node = cell.node
    LEFT JOIN unnest($4::int[], $5::date[], $6::date[]) AS q (number, first_day, last_day) ON f.day BETWEEN q.first_day AND q.last_day
    WHERE f.day <= $7
    GROUP BY f.indicator, f.course_set, f.node, coalesce(q.number, 0)
), grid AS (
    SELECT cell.indicator, cell.course_set, cell.node, number
    FROM unnest($1::text[], $2::text[], $3::text[]) AS cell (indicator, course_set, node), unnest(ARRAY[0] || $4::int[]) AS number
), filled AS (
    SELECT grid.*, coalesce(n_all, 0) AS n_all, coalesce(n_cit, 0) AS n_cit, coalesce(n_stu, 0) AS n_stu,
        coalesce(n_pub, 0) AS n_pub, coalesce(n_ent, 0) AS n_ent, coalesce(n_ungrouped, 0) AS n_ungrouped
    FROM grid LEFT JOIN bucket USING (indicator, course_set, node, number)
), summed AS (
    SELECT indicator, course_set, node, number,
        CASE WHEN indicator = ANY($8::text[]) THEN sum(n_all) OVER w ELSE n_all END::bigint,
        CASE WHEN indicator = ANY($8::text[]) THEN sum(n_cit) OVER w ELSE n_cit END::bigint,
        CASE WHEN indicator = ANY($8::text[]) THEN sum(n_stu) OVER w ELSE n_stu END::bigint,
        CASE WHEN indicator = ANY($8::text[]) THEN sum(n_pub) OVER w ELSE n_pub END::bigint,
        CASE WHEN indicator = ANY($8::text[]) THEN sum(n_ent) OVER w ELSE n_ent END::bigint,
        CASE WHEN indicator = ANY($8::text[]) THEN sum(n_ungrouped) OVER w ELSE n_ungrouped END::bigint
    FROM filled WINDOW w AS (PARTITION BY indicator, course_set, node ORDER BY number)
)
SELECT * FROM summed WHERE number > 0
"""


async def values(tx: Tx, cells: Sequence[tuple[str, str, str]], over: Sequence[Period]) -> list[tuple[FigureRow, Period]]:
    """The values of cells over adjacent periods: stocks at the end of each, flows in it."""
    rows = await tx.fetch(
        _VALUES,
        [cell[0] for cell in cells],
        [cell[1] for cell in cells],
        [cell[2] for cell in cells],
        list(range(1, len(over) + 1)),
        [period.first_day for period in over],
        [period.last_day for period in over],
        over[-1].last_day,
        list(STOCKS),
    )
    found: list[tuple[FigureRow, Period]] = []
    for row in rows:
        indicator, course_set, node, number, *counts = row
        found.append(((indicator, course_set, node, *counts), over[number - 1]))
    return found


_KNOWN = "SELECT cell, digest, version FROM published_figure WHERE cell = ANY($1::text[])"

_REMEMBER = """
INSERT INTO published_figure (cell, digest, version)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS told (cell, digest, version) ORDER BY cell
ON CONFLICT (cell) DO UPDATE SET digest = excluded.digest, version = excluded.version
"""


async def known(tx: Tx, cells: Sequence[str]) -> dict[str, tuple[bytes, int]]:
    """What was last published: digest and version by cell."""
    return {row["cell"]: (row["digest"], row["version"]) for row in await tx.fetch(_KNOWN, list(cells))}


async def remember(tx: Tx, cells: Sequence[tuple[str, bytes, int]]) -> None:
    """Note what is published now."""
    if cells:
        await tx.execute(_REMEMBER, *(list(column) for column in zip(*cells, strict=True)))
