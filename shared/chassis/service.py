"""Run a service: one program with the roles `worker` and `api`, and the commands that belong to it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from pydantic import ValidationError

from shared.chassis import crash_points, health, telemetry
from shared.chassis.abandoned import end_abandoned
from shared.chassis.admission import Admission, Look
from shared.chassis.clock import Clock, now
from shared.chassis.consume import BatchConsumer, Subscription
from shared.chassis.database import COMMAND_TIMEOUT_S, Pool, create_pool, look_at_settings, open_pool, statement_limit
from shared.chassis.decide import Decider, NothingToDecide
from shared.chassis.errors import MustNotWork, Transient
from shared.chassis.http import create_api
from shared.chassis.instance import InstanceName
from shared.chassis.letters import api as letters_api
from shared.chassis.letters.commands import create_commands
from shared.chassis.letters.desk import Desk
from shared.chassis.letters.reasons import Reason, ReasonBook
from shared.chassis.letters.sources import Source
from shared.chassis.letters.watch import COUNTED_EVERY_S, measure_open
from shared.chassis.logging import configure as configure_logging
from shared.chassis.looking import look_always
from shared.chassis.migrations import migrate
from shared.chassis.process import run_to_the_end, spare_the_collector, start_broker, stop_on_signals, until_stopped
from shared.chassis.relay import Relay
from shared.chassis.server import create_server
from shared.chassis.settings import ServiceSettings, unknown
from shared.chassis.subscribe import create_broker, subscribe, watch_lag
from shared.chassis.topics import insist_on_topics, touched
from shared.contracts.topics import Topic

START_PAUSE_S = 1.0
"""Pause between two looks whether the process may work, seconds."""

TOPICS_EVERY_S = 30.0
"""How often the settings of the topics are looked at while work is done, seconds."""

TOPICS_ANSWER_S = 5.0
"""Longest wait for a broker that is asked for them, seconds: behind it a worker holds its name, and must do so in time (`instance.SILENT_S`)."""

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """What handlers, routes and background work are given.

    Attributes:
        pool: the service's database.
        settings: the service's settings.
        clock: the time.
        wake_relay: call after a commit that announced something.
    """

    pool: Pool
    settings: Any
    clock: Clock = now
    wake_relay: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class BackgroundTask:
    """A loop beside the consumers. It returns soon after `stop` is set; an exception stops the process."""

    name: str
    run: Callable[[asyncio.Event], Awaitable[None]]


def _nothing(_: Runtime) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Service:
    """Everything the chassis must know of a service.

    Attributes:
        name: also consumer group, database and role.
        title: for people.
        settings: the settings class.
        migrations: folder of the service's SQL files.
        subscriptions: what it reads, given the runtime.
        routes: adds the routers of the API, given the runtime.
        background: loops of the worker besides consuming and relaying.
        commands: further commands, each a typer function.
        reasons: why it sets records aside, besides the machinery's reasons.
    """

    name: str
    title: str
    settings: type[ServiceSettings]
    migrations: Path
    subscriptions: Callable[[Runtime], Sequence[Subscription]]
    routes: Callable[[FastAPI, Runtime], None]
    background: Callable[[Runtime], Sequence[BackgroundTask]] = _nothing
    commands: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    reasons: Sequence[Reason] = ()


def run(service: Service) -> None:
    """The command line of a service."""
    app = typer.Typer(help=f"{service.title}.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.command(help="Consume, relay, keep the clock. Health and metrics answer on HTTP_PORT.")
    def worker() -> None:
        settings = load(service.settings, service.name)
        crash_points.arm(service.name)
        run_to_the_end(_worker(service, settings))

    @app.command(help="Serve the HTTP API.")
    def api() -> None:
        settings = load(service.settings, service.name)
        crash_points.arm(service.name)
        run_to_the_end(_api(service, settings))

    app.add_typer(create_commands([letters_of(service)]), name="dead-letters")
    add_commands(app, service)
    carry_out(app, service.name)


def add_commands(app: typer.Typer, service: Service) -> None:
    """What a person does by hand with a service, besides its dead letters."""

    @app.command("migrate", help="Bring the database to the present schema; safe to run at any time.")
    def migrate_() -> None:
        settings = load(service.settings, service.name)
        applied = asyncio.run(migrate(settings.database_url.get_secret_value(), service.name, service.migrations))
        typer.echo(f"{service.name}: {', '.join(applied) if applied else 'nothing to do'}")

    @app.command("settings", help="Print every setting with its meaning.")
    def settings_() -> None:
        prefix = service.settings.model_config.get("env_prefix", "")
        for name, spec in service.settings.model_fields.items():
            default = "required" if spec.is_required() else f"default {spec.get_default(call_default_factory=True)!r}"
            typer.echo(f"{prefix}{name.upper()}\n    {spec.description} ({default})")

    @app.command("accept-loss", help="Let partitions go on where records were lost: deleted by retention, or the topic was made again.")
    def accept_loss(
        topic: Annotated[str, typer.Option(help="Name of the topic")],
        by: Annotated[str, typer.Option(help="Who decides; noted")],
        why: Annotated[str, typer.Option(help="The reason; noted")],
        partition: Annotated[int | None, typer.Option(help="Which; absent: every one that stands still for such a reason")] = None,
    ) -> None:
        for one in _decide(service, topic, by, why, lambda decider: decider.accept_loss(partition)):
            typer.echo(f"{one.told}\n  goes on at offset {one.after}")

    @app.command("accept-bad", help="Let all bad records that are on a partition now be set aside, though its fuse has blown.")
    def accept_bad(
        topic: Annotated[str, typer.Option(help="Name of the topic")],
        partition: Annotated[int, typer.Option(help="Which")],
        by: Annotated[str, typer.Option(help="Who decides; noted")],
        why: Annotated[str, typer.Option(help="The reason; noted")],
    ) -> None:
        one = _decide(service, topic, by, why, lambda decider: decider.accept_bad(partition))
        typer.echo(f"{one.told}\n  goes on at offset {one.before}; before {one.after} every bad record is set aside")

    for name, command in service.commands.items():
        app.command(name)(command)


def carry_out(app: typer.Typer, name: str, prog: str | None = None) -> None:
    """Carry out one command of a command line; `prog` is what its help calls the program."""
    try:
        app(prog_name=prog)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError, MustNotWork, NothingToDecide, Transient) as error:
        # A person at a terminal needs the sentence, not the way through the program.
        print(f"{name} cannot do this now: {error or type(error).__name__}", file=sys.stderr)
        raise SystemExit(1) from None


def load(settings: type[ServiceSettings], name: str) -> Any:  # noqa: ANN401  (the caller knows which class it asked for)
    """Build the settings from the environment; say what is missing or misspelt and exit with 2 when they are not right."""
    misspelt = unknown(settings, os.environ)
    for variable, nearest in sorted(misspelt.items()):
        # Ignored, it would leave its setting at the default, and nobody would notice.
        print(f"{variable} is no setting of {name}; did you mean {nearest}?", file=sys.stderr)
    if misspelt:
        raise SystemExit(2)
    try:
        built = settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        for mistake in error.errors(include_input=False, include_url=False):
            where = "_".join(str(part) for part in mistake["loc"]).upper()
            print(f"{prefix}{where}: {mistake['msg']}", file=sys.stderr)
        print(f"Set the variables above; 'settings' of {name} lists all of them.", file=sys.stderr)
        raise SystemExit(2) from None
    configure_logging(built.log_level)
    telemetry.configure(name, built.otlp_endpoint, built.trace_ratio)
    return built


@asynccontextmanager
async def open_runtime(settings: ServiceSettings) -> AsyncIterator[Runtime]:
    """A runtime for a command: the database, no broker."""
    pool = await create_pool(settings.database_url.get_secret_value(), size=settings.pool_size, takeover_s=settings.takeover_s)
    try:
        yield Runtime(pool, settings)
    finally:
        await pool.close()


def letters_of(service: Service) -> Source:
    """The service's dead letters, for a command line; settings are read when its desk is opened."""

    @asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        async with open_runtime(load(service.settings, service.name)) as runtime:
            yield _desk(service, runtime)

    return Source(service.name, ReasonBook(service.reasons), open_desk)


def _desk(service: Service, runtime: Runtime) -> Desk:
    return Desk(runtime.pool, service.name, service.subscriptions(runtime), ReasonBook(service.reasons), runtime.wake_relay)


def _decide(service: Service, topic: str, by: str, why: str, decision: Callable[[Decider], Awaitable[T]]) -> T:
    if not by.strip() or not why.strip():
        print("Say with --by who decides, and with --why for what reason; both are noted.", file=sys.stderr)
        raise SystemExit(2)
    settings: ServiceSettings = load(service.settings, service.name)

    async def carry_out() -> T:
        async with open_runtime(settings) as runtime:
            return await decision(Decider(runtime.pool, settings.kafka_bootstrap_servers, service.name, topic, by, why))

    return asyncio.run(carry_out())


async def _worker(service: Service, settings: ServiceSettings) -> int:
    stop = stop_on_signals()
    pool = await _open_pool(settings, f"{service.name}-worker", statement_limit(settings.takeover_s))
    relay = Relay(pool, settings.kafka_bootstrap_servers, service.name, settings.takeover_s)
    relay.held = True
    runtime = Runtime(pool, settings, wake_relay=relay.wake)
    broker = create_broker(settings.kafka_bootstrap_servers, name=f"{service.name}-worker", takeover_s=settings.takeover_s)
    consumers = [BatchConsumer(wanted, service.name, pool, relay.wake) for wanted in service.subscriptions(runtime)]
    for consumer in consumers:
        subscribe(broker, consumer, settings.max_batch, settings.takeover_s, settings.instance)
    name = InstanceName(settings.database_url.get_secret_value(), settings.instance) if settings.instance else None
    admission = _admission(service, settings, pool, [consumer.topic for consumer in consumers], name)
    watch = health.Health()
    watch.add("admission", admission.check)
    watch.add("database", health.database(pool))
    watch.add("outbox", _outbox_check(relay))
    for consumer in consumers:
        watch.add(consumer.topic.name, health.progress(consumer.topic.name, consumer.progress))
    server = create_server(create_api(f"{service.title}: worker", "Health and metrics.", keys=(), health=watch), settings)

    async def begin() -> bool:
        relay.held = False
        return await start_broker(broker)

    async def end() -> None:
        relay.held = True
        for consumer in consumers:
            consumer.progress.joined = False
        await broker.stop()

    async def finish() -> None:
        for consumer in consumers:
            consumer.stopping = True
        await broker.stop()
        if name is not None:
            await name.release()

    tasks = [
        asyncio.create_task(server.serve(), name="http"),
        asyncio.create_task(relay.run(stop), name="relay"),
        asyncio.create_task(admission.guard(stop, begin, end), name="admission"),
        *(asyncio.create_task(watch_lag(consumer, stop), name=f"lag {consumer.topic.name}") for consumer in consumers),
        asyncio.create_task(look_always("open dead letters", lambda: measure_open(pool, service.name), COUNTED_EVERY_S, stop), name="dead letters"),
        asyncio.create_task(
            look_always("silent sessions", lambda: end_abandoned(pool, settings.takeover_s), settings.takeover_s, stop), name="abandoned sessions"
        ),
        *(asyncio.create_task(_background(task, stop, admission), name=task.name) for task in service.background(runtime)),
    ]
    spare_the_collector()
    return await until_stopped(tasks, stop, server, finish, pool)


def _admission(service: Service, settings: ServiceSettings, pool: Pool, read: Sequence[Topic], name: InstanceName | None) -> Admission:
    """What must be well before a worker works."""
    topics = touched(service.name, read)
    looks = [
        Look("database_settings", lambda: look_at_settings(pool)),
        Look(
            "topic_settings",
            lambda: insist_on_topics(settings.kafka_bootstrap_servers, topics, production=settings.profile == "production"),
            TOPICS_EVERY_S,
            TOPICS_ANSWER_S,
        ),
    ]
    if name is not None:
        looks.append(Look("instance_name", name.hold))
    return Admission(*looks)


async def _api(service: Service, settings: ServiceSettings) -> int:
    stop = stop_on_signals()
    pool = await _open_pool(settings, f"{service.name}-api")
    admission = Admission(Look("database_settings", lambda: look_at_settings(pool)))
    watch = health.Health()
    watch.add("admission", admission.check)
    watch.add("database", health.database(pool))
    app = create_api(service.title, f"HTTP API of {service.name}.", keys=settings.api_keys, health=watch)
    runtime = Runtime(pool, settings)
    service.routes(app, runtime)
    letters_api.serve(app, _desk(service, runtime))
    server = create_server(app, settings)

    async def nothing() -> bool:
        # While the settings refuse, the pool gives no connection, so every request is answered 503.
        return True

    tasks = [
        asyncio.create_task(server.serve(), name="http"),
        asyncio.create_task(admission.guard(stop, nothing, nothing), name="admission"),
    ]
    return await until_stopped(tasks, stop, server, nothing, pool)


async def _background(task: BackgroundTask, stop: asyncio.Event, admission: Admission) -> None:
    """Run a loop once the process may work; later it meets a refusal as it meets a database that is away."""
    while not admission.granted and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), START_PAUSE_S)
    await task.run(stop)


async def _open_pool(settings: ServiceSettings, name: str, statement_s: float = COMMAND_TIMEOUT_S) -> Pool:
    dsn = settings.database_url.get_secret_value()
    return await open_pool(dsn, size=settings.pool_size, name=name, takeover_s=settings.takeover_s, statement_s=statement_s)


def _outbox_check(relay: Relay) -> health.Check:
    async def check() -> str | None:
        if relay.trouble is not None:
            return f"events cannot be published ({relay.trouble}); is the broker reachable?"
        return None

    return check
