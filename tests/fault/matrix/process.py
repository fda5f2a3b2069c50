"""Faults of processes: killed, frozen, told to stop."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from deploy.local.layout import SERVICES
from shared.contracts.topics import EVENT_TOPICS
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.fault.harness.system import API, TAKEOVER_S
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually

MEAN_PAUSE_S = 0.8
"""Mean pause between two kills, so that every service is hit in the few seconds of a run."""


@fault("P1", "SIGKILL at random, a worker or API every 0.8 s on average", seconds=6.0)
async def killed_at_random(run: Run) -> None:
    victims = [(service, run.draw.randint(1, run.system.workers)) for service in SERVICES]
    victims += [("enrollment", API), run.draw.choice(run.system.replicas)]
    run.draw.shuffle(victims)
    for service, number in victims:
        await asyncio.sleep(min(2.0, run.draw.expovariate(1 / MEAN_PAUSE_S)))
        run.system.process(service, number).kill()
        await run.system.restart(service, number)


@fault("P3", "SIGSTOP of one worker of each service past takeover, SIGCONT", seconds=5.0)
async def frozen_and_woken(run: Run) -> None:
    frozen = [run.system.process(service, run.draw.randint(1, run.system.workers)) for service in SERVICES]
    for process in frozen:
        await asyncio.sleep(run.draw.uniform(0, 0.3))
        process.freeze()
    await asyncio.sleep(2 * TAKEOVER_S)
    for process in frozen:
        process.wake()


@fault("P5", "SIGTERM under load, one worker of each service after the other", seconds=6.0)
async def told_to_stop(run: Run) -> None:
    for service in run.draw.sample(SERVICES, len(SERVICES)):
        number = run.draw.randint(1, run.system.workers)
        await run.stopped((service, number))
        await run.system.restart(service, number)


WRITERS = ("enrollment", "assessment", "reporting")
"""Services whose relay has much to publish."""

_LEASE = "SELECT holder, expires_at, token FROM lease WHERE name = 'relay'"

_EVERYBODY_MAY = """
CREATE FUNCTION everybody_may() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.expires_at := ''-infinity''; RETURN NEW; END';
CREATE TRIGGER everybody_may BEFORE INSERT OR UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION everybody_may();
"""
_AS_BEFORE = "DROP TRIGGER everybody_may ON lease; DROP FUNCTION everybody_may()"

TURNS = 4
"""How often a lease that everybody gets goes from one to the other."""


@fault("P4", "two relays at once: a holder frozen with rows at hand, then a lease that everybody gets", seconds=8.0)
async def two_relays(run: Run) -> None:
    frozen = await asyncio.gather(*(_freeze_the_relay(run, service) for service in WRITERS))
    await asyncio.sleep(run.draw.uniform(0.0, 0.5))
    for process in frozen:
        process.wake()
    await asyncio.gather(*(_let_both_believe(run, service) for service in WRITERS))


async def _freeze_the_relay(run: Run, service: str) -> ServiceProcess:
    """SIGSTOP whoever relays, at a moment when rows wait; returns when the other one relays.

    Nothing tells which process the lease names, so one is frozen: if it is renewed all the same, it is the other's.
    """
    async with run.system.database(service) as connection:

        async def rows_wait() -> bool:
            return bool(await connection.fetchval("SELECT EXISTS (SELECT 1 FROM outbox)"))

        for number in run.draw.sample((1, 2), 2):
            process = run.system.process(service, number)
            await eventually(rows_wait)
            process.freeze()
            await asyncio.sleep(TAKEOVER_S / 8)  # a renewal that is on its way arrives
            before = await _lease(connection)

            async def moved(before: Lease = before) -> Lease | None:
                now = await _lease(connection)
                return now if now != before else None

            now = await eventually(moved)
            if now is not None and now.holder != before.holder:
                return process
            process.wake()
    raise AssertionError(f"neither worker of {service} relays")


@dataclass(frozen=True)
class Lease:
    """The lease row of a relay: who holds it, until when, and how often it went to another."""

    holder: str
    expires_at: datetime
    token: int


async def _lease(connection: "asyncpg.Connection[asyncpg.Record]") -> Lease:
    row = await connection.fetchrow(_LEASE)
    assert row is not None
    return Lease(*row)


async def _let_both_believe(run: Run, service: str) -> None:
    """The lease row is always over, so that whoever asks gets it, until it has gone to and fro."""
    async with run.system.database(service) as connection:
        before = (await _lease(connection)).token

        async def to_and_fro() -> bool:
            return (await _lease(connection)).token - before >= TURNS

        await connection.execute(_EVERYBODY_MAY)
        try:
            await eventually(to_and_fro)
        finally:
            await connection.execute(_AS_BEFORE)


DOWN_S = 1.25 * TAKEOVER_S
"""How long no process of a service lives, seconds: every lease, session and lock of the dead is over before."""

_READS = {
    service: tuple(topic for topic in EVENT_TOPICS if service in topic.readers) for service in SERVICES
}  # fmt: skip
"""What each service reads."""


@fault("P8", "all processes of a service are down, each service in turn", seconds=12.0)
async def all_down(run: Run) -> None:
    for service in run.draw.sample(SERVICES, len(SERVICES)):
        numbers = [number for one, number in run.system.processes if one == service]
        for number in numbers:
            run.system.process(service, number).kill()
        if service == "notifications":
            await run.freeze_new_report()
        await asyncio.sleep(DOWN_S)
        assert await _behind(run, service), f"nothing came for {service} while it was down"
        for number in numbers:
            run.system.start_replica(service, number)


async def _behind(run: Run, service: str) -> int:
    """Records that wait for a service."""
    await run.lab.reader.catch_up(_READS[service])
    async with run.system.database(service) as connection:
        rows = await connection.fetch("SELECT topic, partition, next_offset FROM consumed_offset")
    return sum(max(0, run.lab.reader.next_after_last.get((row[0], row[1]), 0) - row[2]) for row in rows)
