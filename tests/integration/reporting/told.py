"""What the owners of persons, enrollments, completions and registers announce, in few words; and ways to have reporting apply it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from services.reporting.figures.handlers import Folding
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.decode import Received
from shared.contracts import assessment, enrollment
from shared.contracts.envelope import EventType
from shared.contracts.topics import REGISTRY_EVENTS

NAMES = UUID("5b0f7f0e-5a4f-5d5c-9f0a-2f4a0c6f1d11")
"""Namespace of the ids that tests make of names."""

COUNTS = ("n_all", "n_cit", "n_stu", "n_pub", "n_ent", "n_ungrouped")


@dataclass(frozen=True)
class Told:
    """One announced event: type, record key, data."""

    type: EventType[object]
    key: str
    data: dict[str, object]

    @property
    def value(self) -> bytes:
        return json.dumps(self.data).encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        found = {"specversion": "1.0", "type": self.type.name, "source": "/services/test", "id": f"{self.key}:{self.data['version']}"}
        return [(f"ce_{name}", text.encode()) for name, text in found.items()] + [("content-type", b"application/json")]


def ref(name: str) -> str:
    return str(uuid5(NAMES, name))


def person(name: str, *residences: tuple[str, str] | tuple[str, str, str], groups: Sequence[str] = ("CIT",), version: int = 1) -> Told:
    """A person; residences as (code, from) or (code, from, to)."""
    # What is not known may be absent or null; readers take both.
    lived = [dict(zip(("code", "valid_from", "valid_to"), one, strict=False)) for one in residences]
    belonged = [{"group": group, "valid_from": "2020-01-01", "valid_to": None} for group in groups]
    data: dict[str, object] = {"person_ref": ref(name), "assurance": 1, "residences": lived, "groups": belonged, "version": version}
    return Told(enrollment.PERSON_REGISTERED, ref(name), data)


def enrolled(
    name: str, course: str, registered: str, started: str | None = None, *, withdrawn: str | None = None, status: str = "ACTIVE", version: int = 1
) -> Told:
    """The enrollment of a person in a course."""
    key = ref(f"{name} in {course}")
    data: dict[str, object] = {
        "enrollment_id": key, "person_ref": ref(name), "course": course, "status": status, "registered_at": registered,
        "started_at": started, "withdrawn_at": withdrawn, "version": version,
    }  # fmt: skip
    return Told(enrollment.ENROLLMENT_STARTED if started else enrollment.ENROLLMENT_REGISTERED, key, data)


def completed(name: str, course: str, at: str | None, version: int = 1) -> Told:
    """The completion of that enrollment; None for one that was revoked."""
    key = ref(f"{name} in {course}")
    data: dict[str, object] = {"enrollment_id": key, "person_ref": ref(name), "course": course, "completed_at": at, "version": version}
    return Told(assessment.COMPLETION_RECORDED if at else assessment.COMPLETION_REVOKED, key, data)


def course(code: str, *sets: str, version: int = 1) -> Told:
    data: dict[str, object] = {"code": code, "title": f"Khóa {code}", "launched_by": "BXD", "course_sets": list(sets), "version": version}
    return Told(enrollment.COURSE_PUBLISHED, f"course:{code}", data)


def unit(code: str, province: str, name: str = "Bờ Y", version: int = 1) -> Told:
    level = "province" if code == province else "commune"
    kind = "Tỉnh" if code == province else "Xã"
    data: dict[str, object] = {
        "code": code, "level": level, "name": name, "type": kind, "province": province,
        "valid_from": "2025-07-01", "valid_to": None, "version": version,
    }  # fmt: skip
    return Told(enrollment.TERRITORY_REGISTERED, f"territory:{code}", data)


TERRITORY = (
    unit("51", "51", "Quảng Ngãi"),
    unit("23377", "51"),
    unit("23400", "51", "Sa Loong"),
    unit("01", "01", "Hà Nội"),
    unit("00004", "01", "Ba Đình"),
)
"""Two provinces with their communes."""


def received(events: Sequence[Told]) -> list[Received[object]]:
    """The events as a consumer would hand them on."""
    return [
        Received(told.type.name, f"{told.key}:{told.data['version']}", "/services/test", told.type.decode(told.value), told.type.topic, 0, at)
        for at, told in enumerate(events)
    ]


async def fold(folding: Folding, tx: Tx, events: Sequence[Told]) -> None:
    """Apply events in a transaction, registers first, as two consumers would."""
    registers = [told for told in events if told.type.topic == REGISTRY_EVENTS.name]
    entities = [told for told in events if told.type.topic != REGISTRY_EVENTS.name]
    if registers:
        await folding.on_register(received(registers), tx)  # type: ignore[arg-type]  # types of the catalogue
    if entities:
        await folding.on_entities(received(entities), tx)  # type: ignore[arg-type]  # types of the catalogue


async def tell(pool: Pool, *events: Told, folding: Folding | None = None) -> None:
    """Apply events in one committed transaction."""
    async with transaction(pool) as tx:
        await fold(folding or Folding(), tx, events)


async def value(pool: Pool, indicator: str, node: str, course_set: str = "ALL", until: str = "2026-12-31") -> int:
    """The running sum of a cell for everybody."""
    return int(
        await pool.fetchval(
            "SELECT coalesce(sum(n_all), 0) FROM figure WHERE indicator = $1 AND node = $2 AND course_set = $3 AND day <= $4::text::date",
            indicator, node, course_set, until,
        )
    )  # fmt: skip


async def figures(pool: Pool) -> list[tuple[object, ...]]:
    """Every row that is not zero."""
    rows = await pool.fetch(f"SELECT * FROM figure WHERE ({', '.join(COUNTS)}) <> (0, 0, 0, 0, 0, 0) ORDER BY node, indicator, course_set, day")  # noqa: S608
    return [tuple(row) for row in rows]
