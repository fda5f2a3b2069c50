"""What is done to a system so that its processes reach crash points: small, complete, with persons of its own each time."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

import httpx

from deploy.local import postgres
from deploy.local.layout import SERVICES
from services.enrollment.registers import handlers as registers
from services.reporting.periods.domain import VIET_NAM_OFFSET, quarter_of
from shared.chassis.clock import now
from shared.chassis.database import create_pool, transaction
from shared.contracts.topics import PROVINCE_CODES
from tests.fault.harness.books import PSEUDONYMS, Books
from tests.fault.harness.crash_system import CrashSystem
from tests.fault.harness.ledger import Ledger, Offer, good_offer
from tests.fault.harness.offer import offer
from tests.fault.harness.poison import bad_offers
from tests.fault.harness.stories import COURSES, PLACES, Fact, stories
from tests.support.waiting import eventually

ACTS = ("idle", "facts", "course", "territory", "freeze", "start", "quarter", "set-back", "nameless", "newcomer", "fresh")
"""Names of what can be done, the cheapest first. While a system is idle, processes reach points as well. What only a fresh
system reaches can never be reached again; a test sees to it that there is no such point."""

ANSWERED_S = 60.0
"""Longest time until an act was answered, however often somebody dies over it, seconds."""

_APPLIED_S = 1.0
"""How long the second part of a story waits for the first to be applied, seconds; a service that is down just now may take longer."""

_FORGET_A_QUARTER = "DELETE FROM published_figure WHERE right(cell, 6) = $1"

_FORGET_IDS = "UPDATE consumed_offset SET topic_id = NULL"

_FORGET_TOPICS = ("DELETE FROM consumed_offset", "DELETE FROM witness")
"""In this order: a transaction that still holds an offset row commits before the first statement goes on, so the second sees it."""

_HOLD_ROWS = "SELECT FROM consumed_offset ORDER BY topic, partition FOR UPDATE"

_SET_BACK = """
WITH last AS (
    DELETE FROM witness USING (SELECT topic, partition, max(record_offset) AS record_offset FROM witness GROUP BY topic, partition) AS seen
    WHERE (witness.topic, witness.partition, witness.record_offset) = (seen.topic, seen.partition, seen.record_offset)
    RETURNING witness.topic, witness.partition, witness.record_offset
)
UPDATE consumed_offset SET next_offset = last.record_offset FROM last
WHERE (consumed_offset.topic, consumed_offset.partition) = (last.topic, last.partition)
"""

_NONE: Mapping[str, str] = MappingProxyType({})

_SHORT = 10_000
"""Bad records that are large on purpose are left to other tests, bytes."""

_PERIODS = [f"{year}Q{quarter}" for year, quarter in (("2025", 2), ("2025", 3), ("2025", 4), ("2026", 1), ("2026", 2))]
_PERIODS += [f"2025M{month:02d}" for month in range(4, 13)] + [f"2026M{month:02d}" for month in range(1, 9)]


class Acts:
    """Does things to one system and keeps the books."""

    def __init__(self, system: CrashSystem, books: Books, draw: random.Random) -> None:
        self._system = system
        self._books = books
        self._draw = draw
        self._number = itertools.count(1)
        self._reports = itertools.cycle((period, f"VN/{code}") for period in _PERIODS for code in PROVINCE_CODES)

    async def do(self, act: str) -> None:
        """Do it, and return when whoever must answer has answered."""
        doing: dict[str, Callable[[], Awaitable[None]]] = {
            "idle": self._nothing,
            "facts": self._facts,
            "course": self._course,
            "territory": self._territory,
            "freeze": self._freeze,
            "start": self._start,
            "quarter": self._quarter,
            "set-back": self._set_back,
            "nameless": self._nameless,
            "newcomer": self._newcomer,
        }
        await doing[act]()

    async def _nothing(self) -> None:
        return

    async def _facts(self) -> None:
        """New persons; then they move, withdraw and are revoked, copies come, one record is bad; Kafka and HTTP."""
        number = next(self._number)
        source = f"/platforms/crash-{number}"
        course = self._draw.choice(tuple(COURSES))
        first = [*_first(self._draw, course), *stories(self._draw.randrange(2**32), 1)]
        second = _second(self._draw, course)
        offers = [good_offer(0, source, fact, "kafka") for fact in first]
        copies = [good_offer(0, source, fact, "batch") for fact in first if fact.course is None or fact.course in COURSES]
        later = [good_offer(0, source, fact, self._draw.choice(("kafka", "batch", "http"))) for fact in second]
        # Every other time, or so much would be bad that the fuse blows.
        bad = [one for one in bad_offers(source, second, self._draw, 20) if one.way == "kafka" and len(one.body) < _SHORT][: number % 2]
        ledger = self._enter(source, [*first, *second], [*offers, *copies, *later, *bad])
        await offer(self._system, ledger, ledger.offers[: len(offers)], within=ANSWERED_S)
        await self._until_applied(source, first[0])
        await offer(self._system, ledger, ledger.offers[len(offers) :], within=ANSWERED_S)

    async def _course(self) -> None:
        """Somebody is registered in a course that no register knows; the course is entered, then changed."""
        number = next(self._number)
        source, code = f"/platforms/crash-{number}", f"KHOA-{number}"
        facts = _first(self._draw, code)
        ledger = self._enter(source, facts, [good_offer(0, source, fact, "kafka") for fact in facts])
        await offer(self._system, ledger, ledger.offers, within=ANSWERED_S)
        condition = {"if-none-match": "*"}
        for sets in ((), ("KH-440",)):
            entry = {"title": f"Khóa học {code}", "launched_by": "BKHCN", "course_sets": list(sets)}
            # A frozen process may carry out the first request behind the second one.
            answer = await self._ask("enrollment", "PUT", f"/v1/registers/courses/{code}", entry, condition)
            condition = {"if-match": answer.headers["etag"]}
            self._system.courses[code] = sets

    async def _territory(self) -> None:
        """A commune is given another name, as the command that loads the register does it."""
        unit = next(unit for unit in registers.read_territory(registers.TERRITORY_CSV) if unit.code == PLACES[-1])
        pool = await create_pool(postgres.dsn(self._system.layout, "enrollment", "enrollment"), size=2)
        try:
            async with transaction(pool) as tx:
                await registers.put_territory(tx, [replace(unit, name=f"{unit.name} {next(self._number)}")], now())
        finally:
            await pool.close()

    async def _freeze(self) -> None:
        """A report is frozen; three offices are told."""
        period, scope = next(self._reports)
        await self._ask("reporting", "POST", "/v1/reports", {"period": period, "scope": scope})

    async def _start(self, *services: str) -> None:
        """Every worker is killed and started again, one after the other: that is when processes take work over."""
        for service, number in [place for place in self._system.processes if place[1] > 0 and place[0] in (services or SERVICES)]:
            self._system.process(service, number).kill()
            await self._system.ensure(service, number)

    async def _quarter(self) -> None:
        """A quarter has begun of which no figure was published yet, and publishers start."""
        await self.forget_a_quarter()
        await self._start("reporting")

    async def _set_back(self) -> None:
        """A person sets offset rows back by one record, for a replay; its witnesses forget the record."""
        for service in SERVICES:
            async with self._system.database(service) as connection, connection.transaction():
                await connection.execute(_HOLD_ROWS)
                await connection.execute(_SET_BACK)

    async def _nameless(self) -> None:
        """The offset rows are from before topics' ids were noted, and workers start."""
        for service in SERVICES:
            await self.forget_ids(service)
            await self._start(service)

    async def _newcomer(self) -> None:
        """Services come to topics that they have never read."""
        for service in SERVICES:
            await self.forget_topics(service)
            await self._start(service)

    async def forget_ids(self, service: str) -> None:
        """The service does not know which topics its offsets are of."""
        self._end_workers(service)
        async with self._system.database(service) as connection:
            await connection.execute(_FORGET_IDS)

    async def forget_topics(self, service: str) -> None:
        """The service has never read anything; what it is told again it knows, and its witnesses begin anew as well."""
        self._end_workers(service)
        async with self._system.database(service) as connection, connection.transaction():
            for statement in _FORGET_TOPICS:
                await connection.execute(statement)

    def _end_workers(self, service: str) -> None:
        for (owner, number), process in self._system.processes.items():
            if owner == service and number > 0:
                process.kill()

    async def forget_a_quarter(self) -> None:
        """Nothing is published of the present quarter any more, as on its first day; whoever thinks that it is open is gone."""
        self._end_workers("reporting")
        async with self._system.database("reporting") as connection:
            # Not the newest of those that are there: whoever died before publishing it again has left the one before as the newest.
            await connection.execute(_FORGET_A_QUARTER, quarter_of((now() + VIET_NAM_OFFSET).date()).code)

    async def _ask(self, service: str, method: str, path: str, body: object, headers: Mapping[str, str] = _NONE) -> httpx.Response:
        """Ask one replica after the other until one says that it is done; its answer."""
        deadline = time.monotonic() + ANSWERED_S
        async with self._system.http() as http:
            while True:
                answer = None
                with suppress(httpx.TransportError):
                    answer = await http.request(method, f"{self._system.api_url(service)}{path}", json=body, headers=headers)
                if answer is not None and answer.status_code < 500:
                    return answer.raise_for_status()
                if time.monotonic() > deadline:
                    raise AssertionError(f"{method} {path} was not answered in {ANSWERED_S:.0f} s")
                await asyncio.sleep(0.1)

    def _enter(self, source: str, facts: list[Fact], offers: list[Offer]) -> Ledger:
        for number, one in enumerate(offers):
            one.number = number
        ledger = Ledger(source, facts, offers)
        self._books.enter(ledger)
        return ledger

    async def _until_applied(self, source: str, fact: Fact) -> None:
        known = PSEUDONYMS.fact(source, fact.id)
        with suppress(AssertionError):
            await eventually(lambda: _is_stored(self._system, known), within=_APPLIED_S)


async def _is_stored(system: CrashSystem, fact: UUID) -> bool:
    async with system.database("enrollment") as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM fact WHERE fact_id = $1)", fact))


def _fact(kind: str, number: int, at: datetime, **data: object) -> Fact:
    enrollment = "" if kind.startswith("learner") else "q0"
    more = {"enrollment": enrollment} if enrollment else {}
    told: dict[str, object] = {"account": "q", "occurred_at": at.isoformat(), **more, **data}
    return Fact(kind, f"q-{number}", "q", enrollment, at, told)


def _moment(draw: random.Random, month: int) -> datetime:
    return datetime(2026, month, 1, tzinfo=UTC) + timedelta(seconds=draw.randrange(28 * 86_400))


def _lives(draw: random.Random, since: date) -> dict[str, object]:
    """Where a person lives and what they are, from a day on."""
    day = since.isoformat()
    return {
        "assurance": draw.randrange(4),
        "residences": [{"code": draw.choice(PLACES), "valid_from": day}],
        "groups": [{"group": draw.choice(("CIT", "STU", "PUB", "ENT")), "valid_from": day}],
    }


def _first(draw: random.Random, course: str) -> list[Fact]:
    """One person who registers, takes part and completes."""
    return [
        _fact("learner.registered", 0, _moment(draw, 1), **_lives(draw, date(2025, 7, 1))),
        _fact("enrollment.registered", 1, _moment(draw, 2), course=course),
        _fact("enrollment.started", 2, _moment(draw, 3)),
        _fact("completion.recorded", 3, _moment(draw, 4), course=course),
    ]


def _second(draw: random.Random, course: str) -> list[Fact]:
    """What changes everything that `_first` told."""
    return [
        _fact("learner.registered", 10, _moment(draw, 5), **_lives(draw, date(2026, 3, 15))),
        _fact("enrollment.withdrawn", 11, _moment(draw, 5)),
        _fact("completion.revoked", 13, _moment(draw, 7), course=course),
    ]
