"""The table of enrollments."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.enrollment.enrollments.domain import EnrollmentState
from shared.chassis.database import Tx
from shared.chassis.errors import Transient


@dataclass(frozen=True, slots=True)
class StoredEnrollment:
    """An enrollment as stored, with the version that was announced."""

    enrollment_id: UUID
    state: EnrollmentState
    version: int


_LOCK = """
SELECT enrollment_id, person_ref, course, status, registered_at, started_at, withdrawn_at, version FROM enrollment
WHERE enrollment_id = ANY($1::uuid[]) ORDER BY enrollment_id FOR UPDATE
"""

_FIND = """
SELECT enrollment_id, person_ref, course, status, registered_at, started_at, withdrawn_at, version FROM enrollment
WHERE enrollment_id = $1
"""


async def lock(tx: Tx, enrollments: Iterable[UUID]) -> dict[UUID, StoredEnrollment]:
    """Those of these enrollments that are known; their rows are locked in key order until the transaction ends."""
    return {row[0]: StoredEnrollment(row[0], EnrollmentState(*row[1:7]), row[7]) for row in await tx.fetch(_LOCK, list(enrollments))}


async def find(tx: Tx, enrollment_id: UUID) -> StoredEnrollment | None:
    """One enrollment."""
    row = await tx.fetchrow(_FIND, enrollment_id)
    return StoredEnrollment(row[0], EnrollmentState(*row[1:7]), row[7]) if row else None


_ADD = """
INSERT INTO enrollment (enrollment_id, person_ref, course, status, registered_at, started_at, withdrawn_at, version)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::bigint[]
) AS told (enrollment_id, person_ref, course, status, registered_at, started_at, withdrawn_at, version)
ORDER BY enrollment_id
ON CONFLICT (enrollment_id) DO NOTHING
"""

_UPDATE = """
UPDATE enrollment
SET person_ref = told.person_ref, course = told.course, status = told.status, registered_at = told.registered_at,
    started_at = told.started_at, withdrawn_at = told.withdrawn_at, version = told.version
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::bigint[]
) AS told (enrollment_id, person_ref, course, status, registered_at, started_at, withdrawn_at, version)
WHERE enrollment.enrollment_id = told.enrollment_id
"""


async def add(tx: Tx, enrollments: Sequence[StoredEnrollment]) -> None:
    """Store new enrollments.

    Raises:
        Transient: another process added one of them meanwhile; try the batch again.
    """
    if enrollments and int((await tx.execute(_ADD, *_columns(enrollments))).rpartition(" ")[2]) != len(enrollments):
        raise Transient("another process added some of these enrollments meanwhile")


async def update(tx: Tx, enrollments: Sequence[StoredEnrollment]) -> None:
    """Store what is different of enrollments that were locked before."""
    if enrollments:
        await tx.execute(_UPDATE, *_columns(enrollments))


def _columns(enrollments: Sequence[StoredEnrollment]) -> tuple[list[object], ...]:
    states = [enrollment.state for enrollment in enrollments]
    return (
        [enrollment.enrollment_id for enrollment in enrollments],
        [state.person_ref for state in states],
        [state.course for state in states],
        [state.status for state in states],
        [state.registered_at for state in states],
        [state.started_at for state in states],
        [state.withdrawn_at for state in states],
        [enrollment.version for enrollment in enrollments],
    )
