"""Run a service: one program with the roles `worker` and `api`, and the commands that belong to it."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import typer
import uvicorn
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from faststream.kafka import KafkaBroker
from pydantic import ValidationError

from shared.chassis import health, telemetry
from shared.chassis.clock import Clock, now
from shared.chassis.consume import BatchConsumer, Subscription
from shared.chassis.database import Pool, create_pool
from shared.chassis.errors import UnsafeSettings, is_transient
from shared.chassis.http import create_api
from shared.chassis.logging import configure as configure_logging
from shared.chassis.migrations import migrate
from shared.chassis.relay import Relay
from shared.chassis.settings import ServiceSettings
from shared.chassis.subscribe import create_broker, subscribe, watch_lag

log = logging.getLogger(__name__)

STOP_S = 9.0
"""A stopping process gives up what still runs after this, seconds; an orchestrator kills at 10."""

START_PAUSE_S = 1.0
"""Pause between attempts to reach database and broker at start, seconds."""


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
    """

    name: str
    title: str
    settings: type[ServiceSettings]
    migrations: Path
    subscriptions: Callable[[Runtime], Sequence[Subscription]]
    routes: Callable[[FastAPI, Runtime], None]
    background: Callable[[Runtime], Sequence[BackgroundTask]] = _nothing
    commands: Mapping[str, Callable[..., None]] = field(default_factory=dict)


def run(service: Service) -> None:
    """The command line of a service."""
    app = typer.Typer(help=f"{service.title}.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.command(help="Consume, relay, keep the clock. Health and metrics answer on HTTP_PORT.")
    def worker() -> None:
        settings = load(service.settings, service.name)
        _run(_worker(service, settings))

    @app.command(help="Serve the HTTP API.")
    def api() -> None:
        settings = load(service.settings, service.name)
        _run(_api(service, settings))

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

    for name, command in service.commands.items():
        app.command(name)(command)
    try:
        app()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError, UnsafeSettings) as error:
        # A person at a terminal needs the sentence, not the way through the program.
        print(f"{service.name} cannot do this now: {error or type(error).__name__}", file=sys.stderr)
        raise SystemExit(1) from None


def load(settings: type[ServiceSettings], name: str) -> Any:  # noqa: ANN401  (the caller knows which class it asked for)
    """Build the settings from the environment; say what is missing and exit with 2 when they are not complete."""
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
    pool = await create_pool(settings.database_url.get_secret_value(), size=settings.pool_size)
    try:
        yield Runtime(pool, settings)
    finally:
        await pool.close()


def _run(main: Coroutine[Any, Any, int]) -> None:
    try:
        code = asyncio.run(main)
    except UnsafeSettings as unsafe:
        log.critical("refusing to start", extra={"why": str(unsafe)})
        code = 1
    raise SystemExit(code)


async def _worker(service: Service, settings: ServiceSettings) -> int:
    stop = _stop_on_signals()
    pool = await _reach_database(settings, stop)
    if pool is None:
        return 0
    relay = Relay(pool, settings.kafka_bootstrap_servers, service.name)
    runtime = Runtime(pool, settings, wake_relay=relay.wake)
    broker = create_broker(settings.kafka_bootstrap_servers)
    consumers = [BatchConsumer(wanted, service.name, pool, relay.wake) for wanted in service.subscriptions(runtime)]
    for consumer in consumers:
        subscribe(broker, consumer, settings.max_batch)
    watch = health.Health()
    watch.add("database", health.database(pool))
    watch.add("outbox", _outbox_check(relay))
    for consumer in consumers:
        watch.add(consumer.topic.name, health.progress(consumer.topic.name, consumer.progress))
    server = _server(create_api(f"{service.title}: worker", "Health and metrics.", keys=(), health=watch), settings)
    tasks = [
        asyncio.create_task(server.serve(), name="http"),
        asyncio.create_task(relay.run(stop), name="relay"),
        *(asyncio.create_task(watch_lag(consumer, stop), name=f"lag {consumer.topic.name}") for consumer in consumers),
        *(asyncio.create_task(_background(task, stop), name=task.name) for task in service.background(runtime)),
    ]
    spare_the_collector()

    async def finish() -> None:
        for consumer in consumers:
            consumer.stopping = True
        await broker.stop()

    tasks.append(asyncio.create_task(_start_broker(broker, stop), name="broker"))
    return await _until_stopped(tasks, stop, server, finish, pool)


async def _api(service: Service, settings: ServiceSettings) -> int:
    stop = _stop_on_signals()
    pool = await _reach_database(settings, stop)
    if pool is None:
        return 0
    watch = health.Health()
    watch.add("database", health.database(pool))
    app = create_api(service.title, f"HTTP API of {service.name}.", keys=settings.api_keys, health=watch)
    service.routes(app, Runtime(pool, settings))
    server = _server(app, settings)
    tasks = [asyncio.create_task(server.serve(), name="http")]

    async def finish() -> None:
        return

    return await _until_stopped(tasks, stop, server, finish, pool)


def spare_the_collector() -> None:
    """What lives from here on is short-lived; the collector need not walk the modules and every batch again and again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _until_stopped(
    tasks: list["asyncio.Task[None]"], stop: asyncio.Event, server: uvicorn.Server, finish: Callable[[], Awaitable[None]], pool: Pool
) -> int:
    """Wait for the signal or for the first task that fails; then end everything within STOP_S."""
    waiter = asyncio.create_task(stop.wait(), name="signal")
    watched: set[asyncio.Task[Any]] = {waiter, *tasks}
    code = 0
    while not stop.is_set():
        done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiter}:
            failure = task.exception() if not task.cancelled() else None
            if failure is not None or task.get_name() == "http":
                log.critical("process stops", exc_info=failure, extra={"task": task.get_name()})
                code = 1
                stop.set()
    try:
        async with asyncio.timeout(STOP_S):
            await finish()
            server.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)
            await pool.close()
    except TimeoutError:
        log.warning("gave up waiting at stop; what was not committed will be read again")
        pool.terminate()
        for task in tasks:
            task.cancel()
    return code


async def _background(task: BackgroundTask, stop: asyncio.Event) -> None:
    await task.run(stop)


async def _start_broker(broker: KafkaBroker, stop: asyncio.Event) -> None:
    """Join the groups; wait for a broker that is not there yet."""
    while not stop.is_set():
        try:
            await broker.start()
        except (KafkaError, OSError) as error:
            log.warning("broker cannot be reached, trying again", extra={"error": type(error).__name__})
            with contextlib.suppress(KafkaError, OSError):
                await broker.stop()
            await asyncio.sleep(START_PAUSE_S)
        else:
            return


async def _reach_database(settings: ServiceSettings, stop: asyncio.Event) -> Pool | None:
    """Wait for a database that is not there yet; None when told to stop meanwhile."""
    while not stop.is_set():
        try:
            return await create_pool(settings.database_url.get_secret_value(), size=settings.pool_size)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("database cannot be reached, trying again", extra={"error": type(error).__name__})
            await asyncio.sleep(START_PAUSE_S)
    return None


def _outbox_check(relay: Relay) -> health.Check:
    async def check() -> str | None:
        if relay.trouble is not None:
            return f"events cannot be published ({relay.trouble}); is the broker reachable?"
        return None

    return check


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stop.set)
    return stop


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers; the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FastAPI, settings: ServiceSettings) -> uvicorn.Server:
    config = uvicorn.Config(
        app, host=settings.http_host, port=settings.http_port, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3
    )
    return _Server(config)
