"""The commands as a clerk types them: `hocvu` itself for the way through, and every mistake against the same commands."""

import asyncio
import getpass
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.enrollment.handlers import on_platform_facts
from services.enrollment.persons.domain import Pseudonyms
from services.enrollment.reasons import REASONS
from shared.chassis.clock import now
from shared.chassis.consume import Subscription
from shared.chassis.database import Pool, create_pool
from shared.chassis.letters.commands import create_commands
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.reasons import ReasonBook
from shared.chassis.letters.sources import Source
from shared.chassis.letters.store import Filter
from shared.contracts import platform
from shared.contracts.topics import PLATFORM_EVENTS
from tests.integration.enrollment.test_letters import GROUP, told
from tests.support.infrastructure import Infrastructure
from tests.support.letters import acts, hocvu_async, set_aside
from tests.support.processes import PSEUDONYM_KEY, service_env

pytestmark = pytest.mark.service("enrollment")


class Terminal:
    """The commands as a clerk types them, against a database of this test."""

    def __init__(self, infra: Infrastructure, dsn: str) -> None:
        self.env = {**service_env(infra, "enrollment", dsn), "ENROLLMENT_HTTP_PORT": "1"}

    async def type(self, *words: str, given: bytes = b"", cwd: Path | None = None) -> tuple[int, str, str]:
        done = await hocvu_async("dead-letters", *words, env=self.env, given=given, cwd=str(cwd) if cwd else None)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
async def letters(pool: Pool) -> None:
    """Five letters: a time in the future, bytes that are no text, three of a type that was not known yet."""
    future, story = told("enrollment.started", 1, "2038-01-01T00:00:00Z"), told("enrollment.registered", 1)
    await set_aside(pool, PLATFORM_EVENTS, GROUP, [future], "time_in_future")
    await set_aside(pool, PLATFORM_EVENTS, GROUP, [(story[0], b"\xff{a-1")], "not_utf8")
    await set_aside(pool, PLATFORM_EVENTS, GROUP, [told("enrollment.registered", n) for n in range(2, 5)], "unknown_type")


@pytest.mark.usefixtures("letters")
async def test_a_clerk_at_a_terminal(infra: Infrastructure, dsn: str, pool: Pool, tmp_path: Path) -> None:
    terminal = Terminal(infra, dsn)
    status, out, _ = await terminal.type("list")
    assert status == 0
    for word in ("enrollment-1", "time_in_future", "Thời điểm xảy ra", "platform-events 0/0", "đang chờ", "enrollment-5"):
        assert word in out
    assert "a-1" not in out
    status, out, _ = await terminal.type("list", "--limit", "2", "--json")
    found = json.loads(out)
    assert ([one["id"] for one in found["dead_letters"]], found["after"]) == ([1, 2], "enrollment-2")
    status, out, _ = await terminal.type("list", "--after", "enrollment-2", "--reason", "unknown_type", "--lang", "en", "--since", "2020-01-01")
    assert "enrollment-3" in out
    assert "enrollment-1" not in out
    status, out, _ = await terminal.type("list", "--topic", "figures")
    assert (status, out) == (0, "Không có bản ghi nào khớp.\n")

    status, out, _ = await terminal.type("show", "enrollment-1")
    assert "Việc cần làm" in out
    assert "ce_source: /p" in out
    assert "a-1" not in out
    status, out, _ = await terminal.type("show", "1", "--with-data", "--lang", "en")
    assert '"account": "a-1"' in out

    status, out, _ = await terminal.type("edit", "1", "--set", "occurred_at=2026-06-02T00:00:00+07:00", "--why", "nguồn xác nhận", "--by", "lan")
    assert (status, out) == (0, "Đã sửa enrollment-1 (data.occurred_at). Chưa áp dụng: chạy dead-letters redrive enrollment-1\n")
    (tmp_path / "mended.json").write_bytes(told("enrollment.registered", 1)[1])
    status, out, _ = await terminal.type("edit", "2", "--data", "mended.json", "--why", "recoded", "--by", "lan", cwd=tmp_path)
    assert status == 0
    status, out, _ = await terminal.type("edit", "2", "--data", "-", "--why", "half", "--lang", "en", given=b'{"account": "a-1"}')
    assert "it would still be refused: schema_violation, enrollment: Field required" in out
    status, out, _ = await terminal.type("edit", "2", "--data", "-", "--why", "whole", given=told("enrollment.registered", 1)[1])
    assert status == 0

    status, out, _ = await terminal.type("redrive", "1", "enrollment-2", "--by", "lan")
    assert (status, out.splitlines()[-1]) == (0, "Đã áp dụng lại 2 bản ghi.")
    status, out, _ = await terminal.type("redrive", "--reason", "unknown_type", "--yes", "--json")
    assert json.loads(out) == {"enrollment": {"redriven": 3, "refused": {}, "settled_before": 0, "after": 5}}
    assert await pool.fetchval("SELECT count(*) FROM fact") == 5
    status, out, _ = await terminal.type("show", "1")
    assert "đã áp dụng lại, đã sửa" in out
    assert "lan  edit (data.occurred_at) → edited: nguồn xác nhận" in out
    status, out, _ = await terminal.type("list")
    assert out == "Không có bản ghi nào khớp.\n"
    by = {row[0] for row in await pool.fetch("SELECT DISTINCT done_by FROM dead_letter_act")}
    assert "lan" in by
    assert by - {"lan"} == {_login()}


def _login() -> str:
    return getpass.getuser()


def _opener(dsn: str) -> Callable[[], AbstractAsyncContextManager[Desk]]:
    @asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        pool = await create_pool(dsn, size=2)
        handler = on_platform_facts(Pseudonyms(bytes.fromhex(PSEUDONYM_KEY)), (), now)
        try:
            yield Desk(pool, GROUP, [Subscription(PLATFORM_EVENTS, dict.fromkeys(platform.FACTS, handler))], ReasonBook(REASONS))
        finally:
            await pool.close()

    return open_desk


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (1, ["show", "enrollment-99"], "No dead letter has the id enrollment-99; list shows them."),
        (1, ["redrive", "enrollment-99"], "No dead letter has the id"),
        (1, ["drop", "99", "--why", "x"], "No dead letter has the id"),
        (1, ["edit", "99", "--set", "a=1", "--why", "x"], "No dead letter has the id"),
        (1, ["drop", "4", "--why", "again"], "enrollment-4 was dropped at"),
        (1, ["redrive", "3", "4"], "enrollment-4 was dropped at"),
        (1, ["redrive", "1"], "Still refused 1: time_in_future 1"),
        (2, ["show", "twelve"], "An id is written like enrollment-12"),
        (2, ["show", "reporting-1"], "There is no such service here. There are: enrollment."),
        (2, ["list", "--service", "mill"], "There is no such service here"),
        (2, ["list", "--reason", "salty"], "There is no such reason code. The codes: bad_time"),
        (2, ["list", "--since", "soon"], "Write a time like 2026-11-24"),
        (2, ["list", "--state", "lost"], "Invalid value for '--state'"),
        (2, ["redrive"], "Say which: ids, a filter"),
        (2, ["redrive", "--all"], "Add --yes to go on without being asked."),
        (2, ["redrive", "--all", "--yes", "--by", ""], "Say who does it"),
        (2, ["drop", "--all", "--yes"], "Missing option '--why'"),
        (2, ["drop", "1", "--why", " "], "Say why in words"),
        (2, ["edit", "1", "--set", "a=1"], "Missing option '--why'"),
        (2, ["edit", "1", "--why", "x"], "This changes nothing."),
        (2, ["edit", "1", "--why", "x", "--set", "a"], "Write --set field=value"),
        (2, ["edit", "1", "--why", "x", "--set", "a:={"], "The new data is not JSON (line 1, column 2)."),
        (2, ["edit", "1", "--why", "x", "--header", "ce_id=2"], "ce_id is the identity of the event and cannot be edited"),
        (2, ["edit", "1", "--why", "x", "--header", "ce_id"], "Write --header name=value."),
        (2, ["edit", "1", "--why", "x", "--data", "no-such-file"], "The file no-such-file cannot be read (No such file or directory)."),
        (2, ["edit", "1", "--why", "x", "--data", "-"], "The new data is not JSON"),
        (2, ["edit", "2", "--why", "x", "--set", "account=a"], "The data as it stands is not JSON"),
    ],
)
@pytest.mark.usefixtures("letters")
async def test_a_mistake_gets_one_clear_sentence_and_changes_nothing(dsn: str, pool: Pool, status: int, words: Sequence[str], said: str) -> None:
    await Desk(pool, GROUP, [], ReasonBook()).drop(Filter(ids=(4,)), "lan", "test")
    app = create_commands([Source(GROUP, ReasonBook(REASONS), _opener(dsn))])
    done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--lang", "en"])
    assert (done.exit_code, said in done.output) == (status, True), done.output
    if said.startswith("Still refused"):
        assert (await acts(pool))[1:] == [(1, "redrive", _login(), "time_in_future")]
    else:
        assert len(await acts(pool)) == 1
        # Nothing of the result goes to standard output; a count that was asked about does.
        assert done.stdout == "" or "--yes" in said
    assert await pool.fetchval("SELECT count(*) FROM fact") == 0


async def test_without_a_stack_and_without_settings_it_says_what_to_do(infra: Infrastructure) -> None:
    done = await hocvu_async("dead-letters", "list", env={})
    assert (done.returncode, "'make up'" in done.stderr, done.stderr.count("\n")) == (2, True, 1)
    shown = await hocvu_async("--help", env={})
    assert (shown.returncode, "dead-letters" in shown.stdout) == (0, True)


async def test_a_database_that_is_away_is_said_in_one_sentence(infra: Infrastructure) -> None:
    env = {**service_env(infra, "enrollment", "postgresql://x:x@127.0.0.1:9/x"), "ENROLLMENT_HTTP_PORT": "1"}
    done = await hocvu_async("dead-letters", "redrive", "--all", "--yes", "--lang", "en", env=env)
    assert (done.returncode, "This cannot be done now" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
