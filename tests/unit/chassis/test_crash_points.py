"""Crash points: off they touch nothing, on they are named the same in every run, and nobody turns them on by accident."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.chassis.crash_points import ALLOWED, VARIABLE, Orders, Trace, title

ROOT = Path(__file__).resolve().parents[3]

_WRAPPED = """
import asyncpg, aiokafka
from shared.chassis import crash_points
methods = [getattr(kind, name) for kind, name in (
    (asyncpg.Connection, "execute"), (asyncpg.Connection, "fetch"), (aiokafka.AIOKafkaProducer, "send"), (aiokafka.AIOKafkaConsumer, "commit"),
    (crash_points.BatchConsumer, "on_records"), (crash_points.FastAPI, "__call__"),
)]
crash_points.arm("bakery")
after = [asyncpg.Connection.execute, asyncpg.Connection.fetch, aiokafka.AIOKafkaProducer.send, aiokafka.AIOKafkaConsumer.commit,
    crash_points.BatchConsumer.on_records, crash_points.FastAPI.__call__]
print(sum(one is not other for one, other in zip(methods, after)))
"""

_AT_A_POINT = """
import sys
from pathlib import Path
from shared.chassis import crash_points
deed = crash_points._deed(sys.argv[1])
for point in sys.argv[2:]:
    deed(point, "")
    print(point, flush=True)
"""


def _python(code: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_without_the_variable_no_class_is_touched() -> None:
    assert _python(_WRAPPED).stdout == "0\n"
    assert _python(_WRAPPED, **{VARIABLE: "", ALLOWED: "yes"}).stdout == "0\n"


def test_with_both_variables_every_class_is_wrapped(tmp_path: Path) -> None:
    done = _python(_WRAPPED, **{VARIABLE: f"trace:{tmp_path / 'trace'}", ALLOWED: "yes"})
    assert done.stdout == "6\n", done.stderr


@pytest.mark.parametrize("allowed", ["", "no", "1"])
def test_without_the_second_variable_a_service_refuses_with_one_sentence(allowed: str) -> None:
    env = {
        "ASSESSMENT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "ASSESSMENT_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "ASSESSMENT_HTTP_PORT": "1",
        VARIABLE: "kill:assessment/relay/before send",
        ALLOWED: allowed,
    }
    for role in ("worker", "api"):
        done = subprocess.run(
            [sys.executable, "-m", "services.assessment.main", role], cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert f"{VARIABLE} is set" in done.stderr


@pytest.mark.parametrize("wish", ["kill", "kill:", "kill:a#0", "kill:a#b", "trace:", "orders", "burn:a"])
def test_a_wish_that_cannot_be_read_is_refused(wish: str) -> None:
    done = _python(_WRAPPED, **{VARIABLE: wish, ALLOWED: "yes"})
    assert done.returncode == 1
    assert "UnsafeSettings" in done.stderr


@pytest.mark.parametrize(("wish", "passed"), [("kill:b", ["a"]), ("kill:b#2", ["a", "b", "a"]), ("kill:c", ["a", "b", "a", "b"])])
def test_the_process_dies_at_the_point_and_hit_that_were_named(wish: str, passed: list[str]) -> None:
    done = _python(_AT_A_POINT, wish, "a", "b", "a", "b")
    assert done.stdout.split() == passed
    assert done.returncode == (0 if wish == "kill:c" else -9)


def test_an_order_is_obeyed_by_one_process_only_and_at_its_hit(tmp_path: Path) -> None:
    (tmp_path / "order").write_text("1\nkill\n2\nb")
    first = _python(_AT_A_POINT, f"orders:{tmp_path}", "a", "b", "a", "b", "a")
    assert (first.stdout.split(), first.returncode) == (["a", "b", "a"], -9)
    assert len(list(tmp_path.glob("obeyed-*"))) == 1
    second = _python(_AT_A_POINT, f"orders:{tmp_path}", "b", "b")
    assert (second.stdout.split(), second.returncode) == (["b", "b"], 0)


def test_hits_of_an_earlier_order_do_not_count_for_the_next(tmp_path: Path) -> None:
    obey = Orders(tmp_path)
    (tmp_path / "order").write_text("1\nkill\n2\nb")
    obey("b", "")
    (tmp_path / "order").write_text("2\nkill\n2\nb")
    obey("b", "")
    assert (tmp_path / "order").exists()


def test_the_trace_holds_points_and_statements_in_order(tmp_path: Path) -> None:
    for point in ("a", "b"):
        Trace(tmp_path / "trace")(point, f"SELECT {point}")
    assert (tmp_path / "trace").read_text() == "a\tSELECT a\nb\tSELECT b\n"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("BEGIN;", "BEGIN"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ;", "BEGIN"),
        ("COMMIT;", "COMMIT"),
        ("INSERT INTO loaf (a) SELECT * FROM unnest($1::text[]) ON CONFLICT DO UPDATE SET a = 1", "INSERT loaf"),
        ("UPDATE loaf AS l SET a = 1 FROM (SELECT 1) AS m", "UPDATE loaf"),
        ("DELETE FROM loaf", "DELETE loaf"),
        ("CREATE TEMP TABLE IF NOT EXISTS loaf (a int)", "CREATE loaf"),
        ("LOCK TABLE loaf IN SHARE MODE", "LOCK loaf"),
        ("COPY loaf", "COPY loaf"),
        ("SELECT a FROM loaf WHERE b = $1", "SELECT loaf"),
        ("SELECT a FROM loaf WHERE b = $1 ORDER BY a FOR UPDATE", "SELECT loaf FOR UPDATE"),
        ("SELECT extract(epoch FROM clock_timestamp()) FROM loaf", "SELECT loaf"),
        ("SELECT pg_advisory_xact_lock(hashtext('loaf'))", "SELECT pg_advisory_xact_lock"),
        ("WITH due AS (SELECT a FROM loaf FOR UPDATE SKIP LOCKED) UPDATE oven SET b = 1", "UPDATE oven"),
        ("WITH sums AS (SELECT 1 FROM unnest($1::int[]) AS u JOIN loaf USING (a)) SELECT * FROM sums", "WITH loaf"),
    ],
)
def test_a_statement_is_called_by_what_it_does_and_to_which_table(statement: str, words: str) -> None:
    assert title(statement) == words


def test_the_variables_are_not_set_here() -> None:
    """A run of the tests whose own environment arms them would kill itself somewhere and blame somebody else."""
    assert VARIABLE not in os.environ
