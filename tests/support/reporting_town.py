"""Reporting as an operator has it: worker and API as processes, commands beside them, topics that a test fills itself."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.local.layout import REPOSITORY
from deploy.local.services import read_settings
from shared.contracts.topics import Topic
from tests.support.infrastructure import Infrastructure
from tests.support.processes import ServiceProcess, service_env, spawn_service
from tests.support.reporting_program import topics_of

PROGRAM = "tests.support.reporting_program"

KEY = "a key of tests"

TABLES = {
    "figure": "SELECT * FROM figure WHERE (n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped) <> (0, 0, 0, 0, 0, 0) "
    "ORDER BY node, indicator, course_set, day",
    "person_document": "SELECT * FROM person_document WHERE document <> '' ORDER BY person_ref",
    "awaiting": "SELECT * FROM awaiting ORDER BY code, person_ref",
    "territory_unit": "SELECT * FROM territory_unit ORDER BY code",
    "course": "SELECT * FROM course ORDER BY code",
    "report": "SELECT * FROM report ORDER BY report_id",
    "report_figure": "SELECT * FROM report_figure ORDER BY report_id, indicator, course_set, node",
}
"""What a rebuild makes or must keep, in an order of its own."""


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    status: int
    output: str
    errors: str

    @property
    def told(self) -> dict[str, Any]:
        """Its last line, as JSON."""
        found: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        return found


@dataclass
class Town:
    """One database of reporting and its topics.

    Attributes:
        infra: the servers.
        dsn: address of the database.
        folder: where logs go.
        run: what the topics' names end with; nothing: those of the closed list.
    """

    infra: Infrastructure
    dsn: str
    folder: Path
    run: str
    processes: list[ServiceProcess] = field(default_factory=list)

    @property
    def topics(self) -> dict[str, Topic]:
        return topics_of(self.run)

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        keys = json.dumps([{"name": "test", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["*"]}])
        told = service_env(self.infra, "reporting", self.dsn) | {"REPORTING_API_KEYS": keys, "TEST_RUN": self.run}
        return told | dict(more or {})

    async def start(self, role: str, more: Mapping[str, str] | None = None) -> ServiceProcess:
        """A worker or an API, ready."""
        process = spawn_service("reporting", role, self.env(more), self.folder, PROGRAM)
        self.processes.append(process)
        await process.wait_ready()
        return process

    def stop(self) -> None:
        for process in self.processes:
            if process.alive:
                process.wake()
                process.kill()

    async def begin(self, *arguments: str, **more: str) -> asyncio.subprocess.Process:
        """Start a command; its standard input and output are ours."""
        env = {**os.environ, **read_settings(), **self.env(), "REPORTING_HTTP_PORT": "1", **more}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", PROGRAM, *arguments, env=env, cwd=REPOSITORY, stdin=-1, stdout=-1, stderr=-1
        )

    async def command(self, *arguments: str, **more: str) -> Done:
        """Run a command to its end."""
        child = await self.begin(*arguments, **more)
        output, errors = await child.communicate()
        return Done(child.returncode or 0, output.decode(), errors.decode())

    async def offsets(self) -> tuple[int, int]:
        """How many offsets the figures contain, and how many there are."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.infra.bootstrap_servers)
        await consumer.start()
        places = [TopicPartition(topic.name, partition) for topic in self.topics.values() for partition in range(topic.partitions)]
        ends = await consumer.end_offsets(places)
        await consumer.stop()
        connection = await asyncpg.connect(self.dsn)
        done = await connection.fetchval(
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumed_offset WHERE topic = ANY($1::text[])", [t.name for t in self.topics.values()]
        )
        await connection.close()
        return int(done), sum(ends.values())

    async def through(self) -> bool:
        """Whether everything is applied."""
        done, there = await self.offsets()
        return done == there

    async def digests(self, dsn: str | None = None) -> dict[str, str]:
        """Every table as its digest."""
        connection = await asyncpg.connect(dsn or self.dsn)
        found = {}
        for table, query in TABLES.items():
            digest = hashlib.sha256()

            async def take(data: bytes, into: Any = digest) -> None:
                into.update(data)

            await connection.copy_from_query(query, output=take)
            found[table] = digest.hexdigest()
        await connection.close()
        return found
