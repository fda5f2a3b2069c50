"""The tables of a rebuild: in a schema of their own beside the live ones, compared with them, put in their place at once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition

from services.reporting import metrics
from shared.chassis.database import Pool, Tx, connection
from shared.chassis.migrations import find
from shared.chassis.stops import Place

GROUP = "reporting"
"""The consumer group whose figures are made again."""

TABLES = ("figure", "person_document", "awaiting", "territory_unit", "course", "register_version")
"""What is made again. `figure` comes first, because readers lock it before anything else they read."""

EXAMPLES = 20
"""Differing rows of figures that are shown."""

PATIENCE_S = 3600.0
"""Longest wait for a statement that goes over all rows, seconds; folds and readers go on beside it."""

WAITS_MS = 2500
"""Longest time the exchange waits for one lock, milliseconds. Who comes meanwhile queues behind it, so it is short; but longer
than the second (`deadlock_timeout`) after which the server has an autovacuum of the table give way."""

_MIGRATIONS = Path(__file__).parents[1] / "migrations"


class CannotRebuild(Exception):
    """The figures cannot be made again now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class LivePlace:
    """How far the live figures are on a partition, and where its first record lay when they began it."""

    at: TopicPartition
    row: Place
    first_offset: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One table as it stood and as it was made again: rows, and the digest of their bytes in key order."""

    table: str
    rows: int
    stood: str
    made: str

    @property
    def equal(self) -> bool:
        """Whether they are byte for byte the same."""
        return self.stood == self.made


_ALONE = "SELECT pg_try_advisory_lock(hashtext('rebuild'))"

_APPLIED = "SELECT name, sha256 FROM public.schema_migration WHERE room = 'reporting' ORDER BY name"

# Rows of figures that are not what was made again; the exchange has their cells published.
_DIFFERING = "CREATE TABLE rebuild.differing (indicator text, course_set text, node text, day date, stood text, made text)"


async def begin(connection: Tx) -> None:
    """Empty tables of the same shape beside the live ones; what an earlier rebuild left is removed.

    The lock that keeps a second rebuild out belongs to the connection, so it ends with it, however that ends.

    Raises:
        CannotRebuild: another rebuild is at work, or the database has another schema than this program.
    """
    if not await connection.fetchval(_ALONE):
        raise CannotRebuild("another rebuild is at work")
    migrations = find(GROUP, _MIGRATIONS)
    applied = [(row["name"], row["sha256"]) for row in await connection.fetch(_APPLIED)]
    if applied != [(one.name, one.sha256) for one in migrations]:
        raise CannotRebuild("the database does not have the schema of this program; run migrate first")
    async with connection.transaction():
        await drop(connection)
        await connection.execute("CREATE SCHEMA rebuild")
        # The migrations themselves, so that constraints and indexes keep their names through the exchange.
        await connection.execute("SET LOCAL search_path TO rebuild")
        for migration in migrations:
            await connection.execute(migration.sql)
        await connection.execute(_DIFFERING)


async def drop(connection: Tx) -> None:
    """Remove what was made beside the live tables."""
    await connection.execute("DROP SCHEMA IF EXISTS rebuild CASCADE")


async def aside(tx: Tx) -> None:
    """From here to the end of the transaction, folds go to the tables of the rebuild; what is not among them is found live."""
    await tx.execute("SET LOCAL search_path TO rebuild, public")


_PLACES = """
SELECT topic, partition, next_offset, topic_id, cut_back_to, coalesce(first_offset, 0) AS first_offset
FROM public.consumed_offset WHERE consumer_group = $1 AND topic = ANY($2::text[]) ORDER BY topic, partition
"""

_SET_ASIDE = """
SELECT topic, partition, record_offset FROM public.dead_letter JOIN public.consumed_offset USING (consumer_group, topic, partition, era)
WHERE consumer_group = $1 AND topic = ANY($2::text[])
"""


async def places(tx: Tx, topics: Sequence[str]) -> list[LivePlace]:
    """How far the live figures are, partition by partition."""
    return [
        LivePlace(
            TopicPartition(row["topic"], row["partition"]),
            Place(row["next_offset"], row["topic_id"], row["cut_back_to"]),
            row["first_offset"],
        )
        for row in await tx.fetch(_PLACES, GROUP, list(topics))
    ]


async def set_aside(tx: Tx, topics: Sequence[str]) -> frozenset[tuple[str, int, int]]:
    """The positions (topic, partition, offset) of records that are in no figure."""
    return frozenset((row["topic"], row["partition"], row["record_offset"]) for row in await tx.fetch(_SET_ASIDE, GROUP, list(topics)))


# Rows that were counted and taken back stand as zeros live, and not at all here. Who met an unknown code once and does not
# speak of it any more may still await it (`awaiting`), as batches fell; nothing comes of it, so it is not compared.
_COMPARED = {
    "territory_unit": (
        "SELECT code, level, name, type, province, version FROM public.territory_unit ORDER BY code",
        "SELECT code, level, name, type, province, version FROM rebuild.territory_unit ORDER BY code",
    ),
    "course": (
        "SELECT code, title, launched_by, course_sets, version FROM public.course ORDER BY code",
        "SELECT code, title, launched_by, course_sets, version FROM rebuild.course ORDER BY code",
    ),
    "person_document": (
        "SELECT person_ref, document FROM public.person_document WHERE document <> '' ORDER BY person_ref",
        "SELECT person_ref, document FROM rebuild.person_document WHERE document <> '' ORDER BY person_ref",
    ),
    "figure": (
        """
        SELECT node, indicator, course_set, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM public.figure
        WHERE (n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped) <> (0, 0, 0, 0, 0, 0) ORDER BY node, indicator, course_set, day
        """,
        """
        SELECT node, indicator, course_set, day, n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped FROM rebuild.figure
        WHERE (n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped) <> (0, 0, 0, 0, 0, 0) ORDER BY node, indicator, course_set, day
        """,
    ),
}


async def compare(tx: Tx) -> list[Compared]:
    """Every table byte for byte, as of the snapshot of this transaction, in which both sides must contain the same records."""
    found = []
    for table, (stands, is_made) in _COMPARED.items():
        rows, stood = await _digest(tx, stands)
        more, made = await _digest(tx, is_made)
        found.append(Compared(table, max(rows, more), stood, made))
    return found


async def _digest(tx: Tx, query: str) -> tuple[int, str]:
    """Rows, and the SHA-256 of the lines that COPY writes; they are not made into values of ours."""
    digest = hashlib.sha256()

    async def take(data: bytes) -> None:
        digest.update(data)

    status = await tx.copy_from_query(query, output=take, timeout=PATIENCE_S)
    return int(status.split()[-1]), digest.hexdigest()


_NOTE_DIFFERING = """
WITH sides AS (
    SELECT indicator, course_set, node, day,
        ARRAY[stood.n_all, stood.n_cit, stood.n_stu, stood.n_pub, stood.n_ent, stood.n_ungrouped] AS stood,
        ARRAY[made.n_all, made.n_cit, made.n_stu, made.n_pub, made.n_ent, made.n_ungrouped] AS made
    FROM public.figure AS stood FULL JOIN rebuild.figure AS made USING (indicator, course_set, node, day)
), filled AS (
    SELECT indicator, course_set, node, day,
        CASE WHEN stood[1] IS NULL THEN '{0,0,0,0,0,0}' ELSE stood END AS stood,
        CASE WHEN made[1] IS NULL THEN '{0,0,0,0,0,0}' ELSE made END AS made
    FROM sides
)
INSERT INTO rebuild.differing (indicator, course_set, node, day, stood, made)
SELECT indicator, course_set, node, day, array_to_string(stood, ' '), array_to_string(made, ' ') FROM filled WHERE stood <> made
"""

_EXAMPLES = """
SELECT indicator, course_set, node, day::text, stood, made FROM rebuild.differing ORDER BY indicator, course_set, node, day LIMIT $1
"""


async def note_differing(tx: Tx) -> tuple[int, tuple[tuple[str, ...], ...]]:
    """Note the rows of figures that differ; how many, and some of them: indicator, course set, node, day, what stood, what was made."""
    status = await tx.execute(_NOTE_DIFFERING, timeout=PATIENCE_S)
    return int(status.split()[-1]), tuple(tuple(row) for row in await tx.fetch(_EXAMPLES, EXAMPLES))


async def prepare_exchange(connection: Tx) -> None:
    """Let the planner know the new tables before they are read from."""
    for table in TABLES:
        await connection.execute(f"ANALYZE rebuild.{table}", timeout=PATIENCE_S)


async def briefly(tx: Tx, within_s: float) -> None:
    """No lock is waited for long in this transaction, and if this process freezes in it, the server ends it."""
    await tx.execute(f"SET LOCAL lock_timeout = {WAITS_MS}")
    await tx.execute(f"SET LOCAL idle_in_transaction_session_timeout = {within_s * 1000:.0f}")


async def at_leisure(tx: Tx) -> None:
    """This transaction may take long between its statements; nobody waits for it."""
    await tx.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


_LOCK = f"LOCK TABLE {', '.join(f'public.{table}' for table in TABLES)} IN ACCESS EXCLUSIVE MODE"

# Another number than any process has in memory, so that every one of them reads the registers again.
_RAISE_VERSION = """
UPDATE rebuild.register_version
SET version = greatest(version, 1 + (SELECT version FROM public.register_version), (extract(epoch FROM clock_timestamp()) * 1e6)::bigint)
"""

_MARK = """
INSERT INTO public.figure_change (indicator, course_set, node, day)
SELECT indicator, course_set, node, min(day) FROM rebuild.differing WHERE length(node) < 7 OR node LIKE '%/?'
GROUP BY indicator, course_set, node
"""


async def exchange(tx: Tx) -> None:
    """Put the new tables in the place of the old ones; whoever reads sees all old or all new.

    What does not come from the topics stays: offset rows, frozen reports, what was published, and which cells are still to
    be. Only cells whose figures differ are marked for publication besides.
    """
    await tx.execute(_LOCK)
    await tx.execute(_RAISE_VERSION)
    await tx.execute(_MARK)
    for table in TABLES:
        await tx.execute(f"DROP TABLE public.{table}")
        await tx.execute(f"ALTER TABLE rebuild.{table} SET SCHEMA public")
    await drop(tx)


_REMEMBER = """
INSERT INTO public.rebuild_run (ended_at, records, differing, figures_differing, seconds, switch_seconds)
VALUES (clock_timestamp(), $1, $2, $3, $4, $5)
"""


async def remember(tx: Tx, records: int, differing: Sequence[str], figures_differing: int, seconds: float, switch_seconds: float) -> None:
    """Note a rebuild, in the transaction of its exchange: tables that differed by name, and how long folds have been waiting."""
    await tx.execute(_REMEMBER, records, list(differing), figures_differing, seconds, switch_seconds)


_LAST = """
SELECT cardinality(differing) AS differing, switch_seconds,
    (SELECT max(ended_at) FROM rebuild_run WHERE differing = '{}') AS last_success
FROM rebuild_run ORDER BY rebuild_run_id DESC LIMIT 1
"""


async def show_last(pool: Pool) -> None:
    """Set the metrics of this process to what the last rebuild found; it ran in a process that is gone."""
    async with connection(pool) as link:
        row = await link.fetchrow(_LAST)
    if row is not None:
        metrics.REBUILD_DIFFERING.set(row["differing"])
        metrics.REBUILD_SWITCH.set(row["switch_seconds"])
        metrics.REBUILD_AT.set(row["last_success"].timestamp() if row["last_success"] else 0)
