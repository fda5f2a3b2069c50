"""The tables of figures: a document per person, a row per (indicator, course set, node, day), and the registers they rest on."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from services.reporting.figures.domain import (
    EMPTY,
    CompletionRow,
    Document,
    EnrollmentRow,
    PersonRow,
    Register,
    Row,
    calendar_day,
)
from shared.chassis.database import Tx

Packed = tuple[PersonRow | None, dict[bytes, EnrollmentRow], dict[bytes, CompletionRow]]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Packed).decode


def pack(document: Document) -> bytes:
    """A document as bytes; equal documents give equal bytes."""
    return _pack((document.person, dict(sorted(document.enrollments.items())), dict(sorted(document.completions.items()))))


def unpack(packed: bytes) -> Document:
    """The document in these bytes; no bytes, nothing known."""
    return Document(*_unpack(packed)) if packed else EMPTY


# The tables of a rebuild (another schema, in front of the live one) are its own, so their lock is another one too.
_SHARE = "SELECT pg_advisory_xact_lock_shared(hashtext(CASE current_schema() WHEN 'public' THEN 'figures' ELSE current_schema() || ' figures' END))"
_ALONE = "SELECT pg_advisory_xact_lock(hashtext(CASE current_schema() WHEN 'public' THEN 'figures' ELSE current_schema() || ' figures' END))"


async def share(tx: Tx) -> None:
    """Fold beside others: registers and tables stay as they are until the transaction ends."""
    await tx.execute(_SHARE)


async def alone(tx: Tx) -> None:
    """Change what every fold rests on: wait for the folds that run, keep new ones waiting until the transaction ends."""
    await tx.execute(_ALONE)


_KNOWN = "SELECT person_ref FROM person_document WHERE person_ref = ANY($1::uuid[])"

_PLACEHOLDERS = """
INSERT INTO person_document (person_ref, document)
SELECT person_ref, ''::bytea FROM unnest($1::uuid[]) AS person_ref ORDER BY person_ref
ON CONFLICT (person_ref) DO NOTHING
"""

_LOCK = "SELECT person_ref, document FROM person_document WHERE person_ref = ANY($1::uuid[]) ORDER BY person_ref FOR UPDATE"


async def lock(tx: Tx, persons: Iterable[UUID]) -> dict[UUID, Document]:
    """The documents of these persons, locked until the transaction ends; of new persons empty ones, locked as well."""
    wanted = sorted(persons, key=_as_number)
    known = {row[0] for row in await tx.fetch(_KNOWN, wanted)}
    missing = [person for person in wanted if person not in known]
    if missing:
        # Another worker may be adding the same person for another topic: whoever comes second waits here. New rows come
        # before any lock on known ones and both go in key order, so two workers cannot wait for each other.
        await tx.execute(_PLACEHOLDERS, missing)
    return {row[0]: unpack(row[1]) for row in await tx.fetch(_LOCK, wanted)}


def _as_number(person_ref: UUID) -> int:
    return person_ref.int


_SAVE = """
UPDATE person_document SET document = told.document
FROM unnest($1::uuid[], $2::bytea[]) AS told (person_ref, document)
WHERE person_document.person_ref = told.person_ref
"""


async def save(tx: Tx, documents: Mapping[UUID, Document]) -> None:
    """Store documents that were locked before."""
    if documents:
        await tx.execute(_SAVE, list(documents), [pack(document) for document in documents.values()])


_STAGE = """
CREATE TEMP TABLE IF NOT EXISTS figure_difference (
    indicator text COLLATE "C", course_set text COLLATE "C", node text COLLATE "C", day date,
    n_all int, n_cit int, n_stu int, n_pub int, n_ent int, n_ungrouped int
) ON COMMIT DELETE ROWS
"""

# One statement: an UPDATE followed by an INSERT of what is missing loses counts when two workers meet on a new row.
# The order is the same for everybody, and rows that everybody touches (nation, provinces) come last.
_ADD = """
INSERT INTO figure AS figure (indicator, course_set, node, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped)
SELECT indicator, course_set, node, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM figure_difference
ORDER BY length(node) DESC, node, indicator, course_set, day
ON CONFLICT (indicator, course_set, node, day) DO UPDATE
SET n_all = figure.n_all + excluded.n_all, n_cit = figure.n_cit + excluded.n_cit, n_stu = figure.n_stu + excluded.n_stu,
    n_pub = figure.n_pub + excluded.n_pub, n_ent = figure.n_ent + excluded.n_ent, n_ungrouped = figure.n_ungrouped + excluded.n_ungrouped
"""

_MARK = """
INSERT INTO figure_change (indicator, course_set, node, day)
SELECT indicator, course_set, node, min(day) FROM figure_difference WHERE length(node) < 7 OR node LIKE '%/?'
GROUP BY indicator, course_set, node
"""


async def add(tx: Tx, rows: Mapping[Row, Sequence[int]]) -> None:
    """Add differences to the figures and mark the cells of nation and provinces for publication."""
    if not rows:
        return
    await tx.execute(_STAGE)
    await tx.copy_records_to_table(
        "figure_difference",
        records=[(indicator, course_set, node, calendar_day(day), *counts) for (indicator, course_set, node, day), counts in rows.items()],
    )
    await tx.execute(_ADD)
    await tx.execute(_MARK)
    # A transaction may add more than once; what is added now must not be added again.
    await tx.execute("DELETE FROM figure_difference")


_AWAIT = """
INSERT INTO awaiting (code, person_ref) SELECT * FROM unnest($1::text[], $2::uuid[]) AS told (code, person_ref)
ORDER BY code, person_ref
ON CONFLICT DO NOTHING
"""

_AWAITING = "SELECT DISTINCT person_ref FROM awaiting WHERE code = ANY($1::text[])"

_ARRIVED = "DELETE FROM awaiting WHERE code = ANY($1::text[])"


async def await_codes(tx: Tx, awaited: Iterable[tuple[str, UUID]]) -> None:
    """Remember persons who met a code that no register knows."""
    pairs = sorted(awaited)
    if pairs:
        await tx.execute(_AWAIT, [code for code, _ in pairs], [person for _, person in pairs])


async def arrived(tx: Tx, codes: Sequence[str]) -> list[UUID]:
    """The persons who waited for these codes; they wait no longer."""
    found = [row[0] for row in await tx.fetch(_AWAITING, list(codes))]
    await tx.execute(_ARRIVED, list(codes))
    return found


_ALL_DOCUMENTS = "SELECT person_ref, document FROM person_document WHERE person_ref > $1 ORDER BY person_ref LIMIT $2"


async def documents_after(tx: Tx, person_ref: UUID, limit: int) -> list[tuple[UUID, Document]]:
    """The next documents in key order, for a walk over all of them."""
    return [(row[0], unpack(row[1])) for row in await tx.fetch(_ALL_DOCUMENTS, person_ref, limit)]


_REGISTER_VERSION = "SELECT version FROM register_version"
_PROVINCE_OF = "SELECT code, province FROM territory_unit"
_COURSE_SETS = "SELECT code, course_sets FROM course"


async def register_version(tx: Tx) -> int:
    """Which state of the registers is in force; it rises when something changed that figures rest on."""
    return int(await tx.fetchval(_REGISTER_VERSION))


async def register(tx: Tx) -> Register:
    """The registers as they are in force."""
    provinces = {row[0]: row[1] for row in await tx.fetch(_PROVINCE_OF)}
    return Register(provinces, {row[0]: tuple(row[1]) for row in await tx.fetch(_COURSE_SETS)})


_PUT_TERRITORY = """
INSERT INTO territory_unit (code, level, name, type, province, version)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) AS told (code, level, name, type, province, version)
ON CONFLICT (code) DO UPDATE
SET level = excluded.level, name = excluded.name, type = excluded.type, province = excluded.province, version = excluded.version
WHERE excluded.version > territory_unit.version
"""

_PUT_COURSES = """
INSERT INTO course (code, title, launched_by, course_sets, version)
SELECT code, title, launched_by, string_to_array(course_sets, ';'), version
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS told (code, title, launched_by, course_sets, version)
ON CONFLICT (code) DO UPDATE
SET title = excluded.title, launched_by = excluded.launched_by, course_sets = excluded.course_sets, version = excluded.version
WHERE excluded.version > course.version
"""

# Never below the wall clock: a database that was restored to an earlier moment must not reach a number that a process
# which lived through it still holds for the newer registers.
_RAISE_VERSION = "UPDATE register_version SET version = greatest(version + 1, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint)"


async def put_territory(tx: Tx, units: Sequence[tuple[str, str, str, str, str, int]]) -> None:
    """Store units (code, level, name, type, province, version) that are newer than what is known."""
    if units:
        await tx.execute(_PUT_TERRITORY, *(list(column) for column in zip(*units, strict=True)))


async def put_courses(tx: Tx, courses: Sequence[tuple[str, str, str, str, int]]) -> None:
    """Store courses (code, title, launched by, sets joined by semicolons, version) that are newer than what is known."""
    if courses:
        await tx.execute(_PUT_COURSES, *(list(column) for column in zip(*courses, strict=True)))


async def raise_register_version(tx: Tx) -> None:
    """Tell every process that its copy of the registers is out of date."""
    await tx.execute(_RAISE_VERSION)
