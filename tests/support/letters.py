"""Dead letters for tests: set aside as a consumer would, and the clerk's work with one guard removed each."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from deploy.local.layout import REPOSITORY
from shared.chassis import dead_letters
from shared.chassis.database import Pool, Tx, transaction
from shared.chassis.dead_letters import DeadLetter
from shared.chassis.letters import store
from shared.chassis.letters.store import Letter, Record
from shared.contracts.topics import Topic


async def set_aside(pool: Pool, topic: Topic, group: str, records: Sequence[tuple[Sequence[tuple[str, bytes]], bytes]], reason: str) -> None:
    """Set records aside as if they had stood on the topic one after the other, behind those that are there."""
    first = await pool.fetchval("SELECT coalesce(max(record_offset) + 1, 0) FROM dead_letter WHERE topic = $1", topic.name)
    found = [Record(topic.name, 0, first + number, 0, b"key", value, headers) for number, (headers, value) in enumerate(records)]
    async with transaction(pool) as tx:
        await dead_letters.set_aside(tx, topic, group, [DeadLetter(record, reason, "as a test said") for record in found])


async def states(pool: Pool) -> list[tuple[int, str, str]]:
    """Id, state and reason of every letter."""
    return [tuple(row) for row in await pool.fetch("SELECT dead_letter_id, state, reason FROM dead_letter ORDER BY dead_letter_id")]


async def acts(pool: Pool) -> list[tuple[int, str, str, str]]:
    """Letter, act, by whom and outcome of everything that was done."""
    return [tuple(row) for row in await pool.fetch("SELECT dead_letter_id, act, done_by, outcome FROM dead_letter_act ORDER BY act_id")]


_ANY_STATE = """
SELECT dead_letter_id, recorded_at, topic, partition, record_offset, event_type, reason, detail, state, edited_at IS NOT NULL AS edited,
    settled_at, settled_by, key, value, header_names, header_values, edited_value, edited_header_names, edited_header_values
FROM dead_letter WHERE consumer_group = $1 AND dead_letter_id = ANY($2::bigint[]) AND state = 'open' ORDER BY dead_letter_id
"""


async def look_without_lock(tx: Tx, group: str, letter_ids: Sequence[int]) -> list[Letter]:
    """The guard removed: two clerks see the same letter open."""
    return [store._letter(row) for row in await tx.fetch(_ANY_STATE, group, list(letter_ids))]


def with_new_id(lock_open: object) -> object:
    """The guard removed: what is redriven is a fact of its own, as if it had been sent again."""
    drawn = iter(range(1_000_000))

    async def lock_and_rename(tx: Tx, group: str, letter_ids: Sequence[int]) -> list[Letter]:
        found = await lock_open(tx, group, letter_ids)  # type: ignore[operator]
        return [replace(letter, record=replace(letter.record, headers=_renamed(letter.record, next(drawn)))) for letter in found]

    return lock_and_rename


def _renamed(record: Record, number: int) -> list[tuple[str, bytes]]:
    return [(name, b"redrive-%d" % number if name == "ce_id" else text) for name, text in record.headers]


def hocvu(*words: str, env: Mapping[str, str], given: bytes = b"", cwd: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the command as a person does, who is nobody in particular and not at a terminal."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("ENROLLMENT_", "ASSESSMENT_", "REPORTING_", "NOTIFICATIONS_"))
    }
    done = subprocess.run(
        [REPOSITORY / ".venv/bin/hocvu", *words], env=inherited | {"STACK_DIR": "/nowhere"} | dict(env), input=given,
        cwd=cwd or REPOSITORY, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


async def hocvu_async(*words: str, env: Mapping[str, str], given: bytes = b"", cwd: str | None = None) -> "subprocess.CompletedProcess[str]":
    """The same beside a running event loop."""
    return await asyncio.to_thread(hocvu, *words, env=env, given=given, cwd=cwd)


@contextmanager
def clerk(service: str, *words: str, env: Mapping[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    """A clerk's command that runs beside the test, to be killed."""
    child = subprocess.Popen(
        [sys.executable, "-m", f"services.{service}.main", "dead-letters", *words],
        env={**os.environ, **env}, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)
