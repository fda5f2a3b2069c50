"""The recount and the services' own definitions agree on every story, and a mistake in either is seen."""

import dataclasses
from collections.abc import Iterable
from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from services.assessment import domain as assessment
from services.enrollment.enrollments import domain as enrollments
from services.enrollment.facts.domain import ABOUT_ENROLLMENTS, ABOUT_PERSONS, Kind
from services.enrollment.facts.domain import Fact as Kept
from services.enrollment.intake.facts import to_fact
from services.enrollment.persons import domain as persons
from services.reporting.figures import domain as figures
from shared.contracts import platform
from shared.contracts.envelope import by_name
from tests.fault.harness import recount as recounted
from tests.fault.harness.books import PSEUDONYMS
from tests.fault.harness.ledger import as_json
from tests.fault.harness.recount import Cell, Counts, Register, recount, territory
from tests.fault.harness.stories import COURSES, GHOST_COURSE, VIET_NAM, Fact, stories

TYPES = by_name(platform.FACTS)

SOURCE = "/platforms/recount"

REGISTER = Register(territory(), COURSES)

PERSONS = 150


def _tie(fact: Fact) -> bytes:
    return PSEUDONYMS.fact(SOURCE, fact.id).bytes


def _as_services_do(facts: Iterable[Fact]) -> dict[Cell, Counts]:
    """What the services' pure parts make of the facts, without servers between them."""
    kept: dict[UUID, dict[UUID, list[Kept]]] = {}
    for fact in facts:
        told = to_fact(fact.type, fact.id, SOURCE, TYPES[fact.type].decode(as_json(fact.data)), PSEUDONYMS)  # type: ignore[arg-type]
        kept.setdefault(told.person_ref, {}).setdefault(told.entity_id, []).append(told)
    register = figures.Register(REGISTER.provinces, REGISTER.course_sets)
    rows: dict[figures.Row, list[int]] = {}
    for entities in kept.values():
        figures.add_difference(figures.EMPTY, _document(entities), (register, register), rows)
    made = figures.roll_up(rows)
    return {(row[0], row[1], row[2], figures.calendar_day(row[3])): tuple(counts) for row, counts in made.items()}  # type: ignore[misc]


def _document(entities: dict[UUID, list[Kept]]) -> figures.Document:
    person, registered, completed = None, {}, {}
    for entity, facts in entities.items():
        if of_person := [fact for fact in facts if fact.kind in ABOUT_PERSONS]:
            state = persons.merge(of_person)
            residences = tuple(_affiliation(one.code, one.valid_from, one.valid_to) for one in state.residences)
            person = figures.PersonRow(1, residences, tuple(_affiliation(one.group, one.valid_from, one.valid_to) for one in state.groups))
        if of_enrollment := [fact for fact in facts if fact.kind in ABOUT_ENROLLMENTS]:
            now = enrollments.merge(of_enrollment)
            registered[entity.bytes] = figures.EnrollmentRow(
                1, now.course, now.status, _us(now.registered_at), _us(now.started_at), _us(now.withdrawn_at)
            )  # fmt: skip
        if outcomes := [_outcome(fact) for fact in facts if fact.kind in (Kind.COMPLETION_RECORDED, Kind.COMPLETION_REVOKED)]:
            completed[entity.bytes] = figures.CompletionRow(1, _us(assessment.merge(outcomes).completed_at))
    return figures.Document(person, registered, completed)


def _outcome(fact: Kept) -> assessment.OutcomeFact:
    kind = assessment.Kind.COMPLETED if fact.kind is Kind.COMPLETION_RECORDED else assessment.Kind.REVOKED
    return assessment.OutcomeFact(fact.fact_id, kind, fact.entity_id, fact.person_ref, "", SOURCE, fact.occurred_at)


def _affiliation(code: str, valid_from: str, valid_to: str | None) -> figures.Affiliation:
    return figures.Affiliation(code, _day(valid_from), None if valid_to is None else _day(valid_to))


def _day(text: str) -> int:
    return figures.day_number(date.fromisoformat(text))


def _us(instant: datetime | None) -> int | None:
    return None if instant is None else figures.microseconds(instant)


@pytest.mark.parametrize("seed", range(4))
def test_recount_and_services_agree_cell_by_cell(seed: int) -> None:
    facts = stories(seed, PERSONS)
    wanted = recount(facts, REGISTER, _tie)
    assert len(wanted) > 1000
    assert _as_services_do(facts) == wanted


def _day_in_utc(instant_us: int) -> int:
    return instant_us // 86_400_000_000


def _completion_in_spite_of_withdrawal(_: object, completion: figures.CompletionRow | None) -> int | None:
    return completion.completed_at if completion else None


def _completion_at_the_withdrawal(enrollment: figures.EnrollmentRow, completion: figures.CompletionRow | None) -> int | None:
    if completion is None or completion.completed_at is None:
        return None
    return completion.completed_at if enrollment.withdrawn_at is None or completion.completed_at <= enrollment.withdrawn_at else None


def _latest(found: dict[str, int], keys: Iterable[str], day: int) -> None:
    for key in keys:
        found[key] = max(day, found.get(key, day))


def _endless(affiliations: tuple[figures.Affiliation, ...]) -> list[tuple[int, str | None]]:
    return [(-(10**9), None), *((one.valid_from, one.code) for one in affiliations)]


def _by_id(fact: Kept) -> object:
    return fact.fact_id


def _registered_by_arrival(fact: Kept) -> object:
    return fact.occurred_at, fact.fact_id


def _never_voided(registered_at: object, withdrawn_at: object, voided: object) -> str:
    return "ACTIVE"


MISTAKES: dict[str, tuple[object, str, object]] = {
    "days cut in UTC": (figures, "day_of", _day_in_utc),
    "completed in spite of a withdrawal": (figures, "_valid_completion", _completion_in_spite_of_withdrawal),
    "completed at the very withdrawal": (figures, "_valid_completion", _completion_at_the_withdrawal),
    "last start and completion count": (figures, "_earliest", _latest),
    "residences and groups never end": (figures, "_timeline", _endless),
    "stocks do not move with the person": (figures, "STOCKS", ()),
    "persons folded in the order of ids": (persons, "true_order", _by_id),
    "enrollments folded in the order of ids": (enrollments, "true_order", _by_id),
    "no rank of kinds at one instant": (enrollments, "true_order", _registered_by_arrival),
    "outcomes folded in the order of ids": (assessment, "true_order", _by_id),
    "voided enrollments count": (enrollments, "_status", _never_voided),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_services_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(module, name, wrong)
    facts = stories(1, PERSONS)
    assert _as_services_do(facts) != recount(facts, REGISTER, _tie)


def test_a_mistake_in_the_recount_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = stories(1, PERSONS)
    monkeypatch.setattr(recounted, "VIET_NAM", UTC)
    assert _as_services_do(facts) != recount(facts, REGISTER, _tie)


def test_the_same_seed_tells_the_same_stories_and_the_next_one_others() -> None:
    assert stories(7, 20) == stories(7, 20)
    assert stories(7, 20) != stories(8, 20)
    assert stories(7, 30)[: len(stories(7, 20))] == stories(7, 20), "a story depends on the seed and the person alone"


def test_stories_hold_what_is_hard() -> None:
    facts = stories(1, 300)
    assert {fact.type for fact in facts} == set(TYPES)
    assert any(fact.course == GHOST_COURSE for fact in facts)
    edges = {fact.occurred_at.astimezone(VIET_NAM).strftime("%H:%M:%S.%f") for fact in facts}
    assert {"23:59:59.999999", "00:00:00.000000"} <= edges
    assert len({fact.id for fact in facts}) == len(facts)
    assert any(len({group["group"] for group in fact.data.get("groups", ())}) > 1 for fact in facts)  # type: ignore[attr-defined]


def test_whoever_gives_no_fact_gives_no_figure() -> None:
    assert recount([], REGISTER, _tie) == {}


def test_a_moved_person_counts_in_one_place_at_a_time() -> None:
    home = [{"code": "23377", "valid_from": "2025-01-01"}, {"code": "00004", "valid_from": "2026-01-01"}]
    at = datetime(2025, 6, 14, 16, 59, 59, tzinfo=UTC)
    told = Fact("learner.registered", "l", "a", "", at, {"residences": home, "groups": []})
    registered = Fact("enrollment.registered", "r", "a", "e", at, {"course": "AN-TOAN"})
    started = dataclasses.replace(registered, kind="enrollment.started", id="s", data={})
    found = recount([started, registered, told], REGISTER, _tie)
    one, none_left = (1, 0, 0, 0, 0, 1), (-1, 0, 0, 0, 0, -1)
    first, moved = date(2025, 6, 14), date(2026, 1, 1)
    stock = {cell[2:]: counts for cell, counts in found.items() if cell[0] == "I-01"}
    assert stock == {
        ("VN", first): one, ("VN/51", first): one, ("VN/51/23377", first): one,
        ("VN/51", moved): none_left, ("VN/51/23377", moved): none_left, ("VN/01", moved): one, ("VN/01/00004", moved): one,
    }  # fmt: skip
    assert {cell[2:] for cell in found if cell[0] == "I-02"} == {("VN", first), ("VN/51", first), ("VN/51/23377", first)}
