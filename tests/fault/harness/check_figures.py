"""I3, figures equal the recount; I4, books balance; I7, what was signed stays; and what was published is what was counted."""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

from shared.contracts.topics import FIGURES
from tests.fault.harness.books import Books
from tests.fault.harness.findings import Finding, finding
from tests.fault.harness.recount import Cell, Counts
from tests.fault.harness.stories import VIET_NAM
from tests.fault.harness.system import System
from tests.fault.harness.topic_reader import TopicReader

_FIGURES = """
SELECT indicator, course_set, node, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM figure
WHERE (n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped) <> (0, 0, 0, 0, 0, 0)
"""

# Every node is the sum of the nodes below it: the nation of the provinces and VN/?, a province of its communes and its ?.
_OUT_OF_BALANCE = """
WITH upper AS (
    SELECT indicator, course_set, day, CASE WHEN node ~ '^VN/[^/]*$' THEN 'VN' ELSE left(node, 5) END AS node,
        sum(n_all) AS n_all, sum(n_cit) AS n_cit, sum(n_stu) AS n_stu, sum(n_pub) AS n_pub, sum(n_ent) AS n_ent, sum(n_ungrouped) AS n_ungrouped
    FROM figure WHERE node <> 'VN' GROUP BY 1, 2, 3, 4
), own AS (
    SELECT indicator, course_set, day, node, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM figure
    WHERE node = 'VN' OR (length(node) = 5 AND node LIKE 'VN/%')
)
SELECT indicator, course_set, node, day, own.n_all, upper.n_all
FROM own FULL JOIN upper USING (indicator, course_set, node, day)
WHERE (coalesce(own.n_all, 0), coalesce(own.n_cit, 0), coalesce(own.n_stu, 0),
       coalesce(own.n_pub, 0), coalesce(own.n_ent, 0), coalesce(own.n_ungrouped, 0))
   <> (coalesce(upper.n_all, 0), coalesce(upper.n_cit, 0), coalesce(upper.n_stu, 0),
       coalesce(upper.n_pub, 0), coalesce(upper.n_ent, 0), coalesce(upper.n_ungrouped, 0))
"""

_REPORTS = "SELECT report_id, sha256 FROM report"

_REPORT_FIGURES = """
SELECT report_id, indicator, course_set, node, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM report_figure
"""

_STOCKS = ("I-01", "I-04")


async def check_figures(system: System, reader: TopicReader, books: Books) -> list[Finding]:
    """The table of figures, what was published of it, and what was frozen of it."""
    async with system.database("reporting") as connection:
        stand = {(row[0], row[1], row[2], row[3]): tuple(row)[4:] for row in await connection.fetch(_FIGURES)}
        unbalanced = [tuple(row) for row in await connection.fetch(_OUT_OF_BALANCE)]
        digests = {row[0]: row[1] for row in await connection.fetch(_REPORTS)}
        copied = [tuple(row) for row in await connection.fetch(_REPORT_FIGURES)]
    wanted = books.figures(system.courses)
    drifted = [cell for cell in wanted.keys() | stand.keys() if wanted.get(cell) != stand.get(cell)]
    return [
        *finding("I3", "drifted", "cell differs from the recount", (_difference(cell, wanted, stand) for cell in drifted)),
        *finding("I4", "drifted", "node is not the sum of the nodes below it", unbalanced),
        *finding("I7", "drifted", "frozen report no longer has its digest", _moved(digests, copied)),
        *_published(reader, wanted),
    ]


def _difference(cell: Cell, wanted: "dict[Cell, Counts]", stand: "dict[Cell, Counts]") -> str:
    indicator, course_set, node, day = cell
    return f"{indicator} {course_set} {node} {day}: stands {stand.get(cell, 'nothing')}, recounted {wanted.get(cell, 'nothing')}"


def _moved(digests: "dict[object, str]", copied: "list[tuple[object, ...]]") -> list[str]:
    lines: defaultdict[object, list[str]] = defaultdict(list)
    for report_id, *row in copied:
        lines[report_id].append("|".join(str(part) for part in row))
    return [str(found) for found, digest in digests.items() if hashlib.sha256("\n".join(sorted(lines[found])).encode()).hexdigest() != digest]


def _published(reader: TopicReader, wanted: "dict[Cell, Counts]") -> list[Finding]:
    """The last record of every published cell holds the recount's value over its period; no cell is missing."""
    days: defaultdict[tuple[str, str, str], list[tuple[date, Counts]]] = defaultdict(list)
    for (indicator, course_set, node, day), counts in wanted.items():
        if len(node) < 7 or node.endswith("/?"):  # nation, provinces and what cannot be placed deeper
            days[indicator, course_set, node].append((day, counts))
    for line in days.values():
        line.sort()
    known = reader.keys[FIGURES.name]
    wrong = []
    for cell, seen in known.items():
        data = seen.last
        line = days[data["indicator"], data["course_set"], data["scope"]]
        value = _value(line, data["indicator"] in _STOCKS, date.fromisoformat(data["period_from"]), date.fromisoformat(data["period_to"]))
        told = tuple(data["counts"][name] for name in ("all", "cit", "stu", "pub", "ent", "ungrouped"))
        if value != told:
            wrong.append(f"{cell}: published {told}, recounted {value}")
    today = datetime.now(UTC).astimezone(VIET_NAM).date()
    missing = {
        f"{'/'.join(name)}/{quarter}"
        for name, line in days.items()
        for day, _ in line
        if (quarter := _quarter(day)) <= _quarter(today) and f"{'/'.join(name)}/{quarter}" not in known
    }
    return [
        *finding("I3", "drifted", "published figure differs from the recount", wrong),
        *finding("I1", "lost", "cell changed and was never published", missing),
    ]


def _value(line: "list[tuple[date, Counts]]", stock: bool, first: date, last: date) -> tuple[int, ...]:
    until = bisect_right(line, last, key=lambda one: one[0])
    within = [counts for day, counts in line[:until] if stock or day >= first]
    return tuple(sum(column) for column in zip(*within, strict=True)) if within else (0,) * 6


def _quarter(day: date) -> str:
    """The quarter of the calendar of Decree 09: months run from the 15th to the 14th."""
    month = day if day.day < 15 else day.replace(day=1) + timedelta(days=31)
    return f"{month.year}Q{(month.month + 2) // 3}"
