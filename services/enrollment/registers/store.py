"""The tables of the registers."""

from collections.abc import Sequence

from services.enrollment.registers.domain import Course, TerritoryUnit
from shared.chassis.database import Tx

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('enrollment registers'))"


async def lock(tx: Tx) -> None:
    """One change of the registers at a time; they change rarely."""
    await tx.execute(_LOCK)


_TERRITORY = "SELECT code, level, name, type, province, valid_from, valid_to, version FROM territory_unit ORDER BY level DESC, code"


async def territory(tx: Tx) -> dict[str, tuple[TerritoryUnit, int]]:
    """Every unit with its version, by code; provinces first."""
    return {row[0]: (TerritoryUnit(*row[:7]), row[7]) for row in await tx.fetch(_TERRITORY)}


_PUT_TERRITORY = """
INSERT INTO territory_unit (code, level, name, type, province, valid_from, valid_to, version)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::date[], $7::date[], $8::bigint[])
    AS told (code, level, name, type, province, valid_from, valid_to, version)
ON CONFLICT (code) DO UPDATE
SET level = excluded.level, name = excluded.name, type = excluded.type, province = excluded.province,
    valid_from = excluded.valid_from, valid_to = excluded.valid_to, version = excluded.version
"""


async def put_territory(tx: Tx, units: Sequence[tuple[TerritoryUnit, int]]) -> None:
    """Store units with their versions."""
    columns = [[getattr(unit, name) for unit, _ in units] for name in ("code", "level", "name", "type", "province", "valid_from", "valid_to")]
    await tx.execute(_PUT_TERRITORY, *columns, [version for _, version in units])


_COURSES = "SELECT code, title, launched_by, course_sets, version FROM course ORDER BY code"


async def courses(tx: Tx) -> dict[str, tuple[Course, int]]:
    """Every course with its version, by code."""
    return {row[0]: (Course(row[0], row[1], row[2], tuple(row[3])), row[4]) for row in await tx.fetch(_COURSES)}


_PUT_COURSES = """
INSERT INTO course (code, title, launched_by, course_sets, version)
SELECT code, title, launched_by, CASE sets WHEN '' THEN '{}'::text[] ELSE string_to_array(sets, ';') END, version
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS told (code, title, launched_by, sets, version)
ON CONFLICT (code) DO UPDATE
SET title = excluded.title, launched_by = excluded.launched_by, course_sets = excluded.course_sets, version = excluded.version
"""


async def put_courses(tx: Tx, found: Sequence[tuple[Course, int]]) -> None:
    """Store courses with their versions."""
    rows = [(course.code, course.title, course.launched_by, ";".join(course.course_sets), version) for course, version in found]
    if rows:
        await tx.execute(_PUT_COURSES, *(list(column) for column in zip(*rows, strict=True)))


_KNOWN_COURSES = "SELECT code FROM course WHERE code = ANY($1::text[])"


async def known_courses(tx: Tx, codes: Sequence[str]) -> frozenset[str]:
    """Those of these codes that stand in the register."""
    return frozenset(row[0] for row in await tx.fetch(_KNOWN_COURSES, list(codes)))
