"""A reader of figures that never rests and never trusts: over HTTP, and by SQL, from a thread of its own."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

from tests.support.reporting_town import KEY

QUESTIONS = ({"period": "2026", "scope": "VN", "children": "true"}, {"period": "2026", "scope": "VN"})
"""What is asked in turn: the nation beside its provinces, and the nation alone."""

# One statement, one snapshot: everybody who is enrolled is a person that is known.
_TABLES = """
SELECT (SELECT coalesce(sum(n_all), 0)::bigint FROM figure WHERE node = 'VN' AND indicator = 'I-02' AND course_set = 'ALL') AS enrolled,
    (SELECT count(*) FROM person_document WHERE document <> '') AS persons, (SELECT count(*) FROM territory_unit) AS units
"""


@dataclass
class Reader:
    """Reads until it is told to stop.

    Attributes:
        url: of the API.
        dsn: of the database.
        reads: how many answers it has had.
        wrong: what no answer may say: a total that fell, a whole that is not its parts, an error.
        longest_s: the longest wait for an answer, seconds.
    """

    url: str
    dsn: str
    reads: int = 0
    wrong: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _highest: dict[str, int] = field(default_factory=dict)

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60, base_url=self.url) as http:
            connection = await asyncpg.connect(self.dsn)
            while not self._stop.is_set():
                await self._timed(self._ask(http, QUESTIONS[self.reads % 2]))
                await self._timed(self._look(connection))
            await connection.close()

    async def _timed(self, read: Any) -> None:
        began = time.monotonic()
        await read
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.reads += 1

    async def _ask(self, http: httpx.AsyncClient, question: dict[str, str]) -> None:
        try:
            answer = await http.get("/v1/figures", params=question)
        except httpx.HTTPError as error:
            self.wrong.append(f"no answer: {error!r}")
            return
        if answer.status_code != 200:
            self.wrong.append(f"status {answer.status_code}: {answer.text[:200]}")
            return
        self.judge(answer.json()["figures"], parts="children" in question)

    def judge(self, figures: list[dict[str, Any]], *, parts: bool) -> None:
        """Look at one answer."""
        found: dict[tuple[str, str], dict[str, int]] = {(one["indicator"], one["scope"]): one["counts"] for one in figures}
        for indicator in ("I-01", "I-02", "I-04", "I-05"):
            whole = found[indicator, "VN"]
            self._insist(f"{indicator} of the nation", whole["all"])
            for group in whole if parts else ():
                total = sum(counts[group] for (one, scope), counts in found.items() if one == indicator and scope != "VN")
                if total != whole[group]:
                    self.wrong.append(f"{indicator} {group}: the provinces add up to {total}, the nation says {whole[group]}")
        for less, more in (("I-04", "I-01"), ("I-05", "I-02")):
            if found[less, "VN"]["all"] > found[more, "VN"]["all"]:
                self.wrong.append(f"{less} is above {more}")

    async def _look(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        try:
            row = await connection.fetchrow(_TABLES)
        except asyncpg.PostgresError as error:
            self.wrong.append(f"no rows: {error!r}")
            return
        assert row is not None
        for name, value in row.items():
            self._insist(name, value)
        if row["enrolled"] > row["persons"]:
            self.wrong.append(f"{row['enrolled']} are enrolled of {row['persons']} persons")

    def _insist(self, what: str, value: int) -> None:
        """A total never falls."""
        if value < self._highest.get(what, 0):
            self.wrong.append(f"{what} fell from {self._highest[what]} to {value}")
        self._highest[what] = max(value, self._highest.get(what, 0))
