"""Faults of the network: every worker of every service meets them, and each must be seen to bite."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from deploy.local.layout import SERVICES
from tests.fault.harness.faults import fault
from tests.fault.harness.run import Run
from tests.fault.harness.system import API, TAKEOVER_S
from tests.fault.harness.toxics import Bites, Cut, Delay, Forget, HalfOpen, LoseAnswer, Rate, Reset, Slices, Toxic, Way, Where
from tests.support.waiting import eventually

KAFKA, POSTGRES = "kafka-*", "postgres"

PAST_TAKEOVER_S = 1.5 * TAKEOVER_S
"""Long enough that others have taken over, seconds."""

STRIKING_S = 2.0
"""How long a fault that strikes a number of times is on at least, seconds."""

BITE_S = 15.0
"""Longest wait for a fault that strikes at something that must happen first, seconds."""

TELLING = ("enrollment", "assessment", "reporting")
"""Services that publish something in every run; notifications publishes dead letters only."""


async def _hurt(run: Run, seconds: float, toxics: Sequence[Toxic], until_bitten: float = 0.0) -> None:
    """Switch toxics on for so long.

    Args:
        run: whose system.
        seconds: how long.
        toxics: what is switched on, all at once.
        until_bitten: stay on so much longer, if need be, until each has done something, seconds.

    Raises:
        AssertionError: one of them did nothing to anybody.
    """
    numbers = await asyncio.to_thread(run.proxy.add_all, toxics)
    try:
        await asyncio.sleep(seconds)
        if until_bitten:
            with suppress(AssertionError):
                await eventually(lambda: _all_have_bitten(run, numbers), until_bitten)
    finally:
        bites = await asyncio.to_thread(run.proxy.remove_all, numbers)
    _insist(toxics, bites)
    dead = [process.name for process in run.system.processes.values() if not process.alive]
    assert not dead, f"died of it: {dead}"


async def _strike(run: Run, toxics: Sequence[Toxic]) -> None:
    """Switch toxics on that strike so many times, at things that must happen first; one of them is a report that is frozen."""
    hurt = asyncio.create_task(_hurt(run, STRIKING_S, toxics, BITE_S))
    try:
        await run.freeze_new_report()
    finally:
        await hurt  # whatever came of the report, no toxic outlives the fault


async def _all_have_bitten(run: Run, numbers: Sequence[int]) -> bool:
    return all(await asyncio.to_thread(run.proxy.bites_of, numbers))


def _insist(toxics: Sequence[Toxic], bites: Sequence[Bites]) -> None:
    spared = [toxic for toxic, bite in zip(toxics, bites, strict=True) if not bite]
    assert not spared, f"the fault did not bite: {spared}"


def _workers(run: Run, make: Callable[[Where], Toxic], server: str = "*") -> list[Toxic]:
    """One toxic for each worker of each service."""
    return [make(Where(server, pid=run.system.process(*replica).child.pid)) for replica in run.system.replicas]


def _one_of_each(run: Run, make: Callable[[Where], Toxic], server: str = "*") -> list[Toxic]:
    """One toxic for one worker of each service."""
    chosen = [run.system.process(service, run.draw.randint(1, run.system.workers)) for service in SERVICES]
    return [make(Where(server, pid=process.child.pid)) for process in chosen]


def _apis(run: Run, make: Callable[[Where], Toxic]) -> list[Toxic]:
    """One toxic for each API that the run uses."""
    return [make(Where(POSTGRES, f"{service}-api")) for service, number in run.system.processes if number == API]


def _named(make: Callable[[Where], Toxic], role: str, server: str, services: Sequence[str] = SERVICES) -> list[Toxic]:
    """One toxic for a role of each service."""
    return [make(Where(server, f"{service}-{role}")) for service in services]


@fault("N1", "nothing gets from one worker of each service to the brokers, past takeover; it arrives late", seconds=PAST_TAKEOVER_S)
async def one_way_and_late(run: Run) -> None:
    await _hurt(run, PAST_TAKEOVER_S, _one_of_each(run, lambda where: Cut(where=where, way=Way.TO_SERVER, late=True), KAFKA))


@fault("N1-answers", "nothing gets from the brokers to any worker, 3 s", seconds=3.0)
async def no_answers(run: Run) -> None:
    await _hurt(run, 3.0, _workers(run, lambda where: Cut(where=where, way=Way.TO_CLIENT), KAFKA))


@fault("N2", "no worker reaches brokers or database, nor they him, past takeover", seconds=PAST_TAKEOVER_S)
async def both_ways(run: Run) -> None:
    cuts = [*_workers(run, lambda where: Cut(where=where), KAFKA), *_workers(run, lambda where: Cut(where=where), POSTGRES)]
    await _hurt(run, PAST_TAKEOVER_S, cuts)


@fault("N2-relay", "one relay after the other does not reach the brokers, past takeover; what it sent arrives late", seconds=3 * PAST_TAKEOVER_S)
async def relay_alone(run: Run) -> None:
    # The last of the row first, and never two at once: behind a relay that is cut off there is nothing to publish.
    for service in reversed(TELLING):
        await _hurt(run, PAST_TAKEOVER_S, _named(lambda where: Cut(where=where, late=True), "relay", KAFKA, [service]), BITE_S)


@fault("N3-50", "every answer takes 100 ms longer, 20 ms of jitter each way", seconds=3.0)
async def a_little_late(run: Run) -> None:
    await _hurt(run, 3.0, _workers(run, lambda where: Delay(where=where, ms=50, jitter_ms=20, seed=run.seed)))


@fault("N3-500", "every answer takes 1 s longer", seconds=4.0)
async def late(run: Run) -> None:
    await _hurt(run, 4.0, _workers(run, lambda where: Delay(where=where, ms=500, seed=run.seed)))


@fault("N3-5000", "every answer takes 10 s longer, 6 s", seconds=6.0)
async def very_late(run: Run) -> None:
    await _hurt(run, 6.0, _workers(run, lambda where: Delay(where=where, ms=5000, seed=run.seed)))


@fault("N4", "64 kbit/s for each connection of every worker", seconds=4.0)
async def thin(run: Run) -> None:
    await _hurt(run, 4.0, _workers(run, lambda where: Rate(where=where, bytes_per_s=8000)))


@fault("N5-brokers", "brokers accept and never answer, past takeover", seconds=PAST_TAKEOVER_S)
async def half_open_brokers(run: Run) -> None:
    await _hurt(run, PAST_TAKEOVER_S, _workers(run, lambda where: HalfOpen(where=where), KAFKA))


@fault("N5-database", "the database accepts and never answers, past takeover", seconds=PAST_TAKEOVER_S)
async def half_open_database(run: Run) -> None:
    toxics = [*_workers(run, lambda where: HalfOpen(where=where), POSTGRES), *_apis(run, lambda where: HalfOpen(where=where))]
    await _hurt(run, PAST_TAKEOVER_S, toxics)


@fault("N5-forgotten", "every connection of every worker is forgotten for good; new ones work", seconds=3.0)
async def forgotten(run: Run) -> None:
    forget = [*_workers(run, lambda where: Forget(where=where), KAFKA), *_workers(run, lambda where: Forget(where=where), POSTGRES)]
    await _hurt(run, 1.0, forget, BITE_S)


@fault("N5-stop", "brokers never answer one worker of each service, the database the other; both are told to stop", seconds=6.0)
async def told_to_stop_unanswered(run: Run) -> None:
    chosen = {(service, number): server for service in SERVICES for server, number in ((KAFKA, 1), (POSTGRES, 2))}
    toxics = [HalfOpen(where=Where(server, pid=run.system.process(*replica).child.pid)) for replica, server in chosen.items()]
    silent = await asyncio.to_thread(run.proxy.add_all, toxics)
    try:
        await asyncio.sleep(run.draw.uniform(0.0, 1.0))
        await asyncio.gather(*(run.stopped(replica) for replica in chosen))
    finally:
        await asyncio.to_thread(run.proxy.remove_all, silent)
    for replica in chosen:
        await run.system.restart(*replica)


@fault("N6-brokers", "connections to brokers are reset in the midst of requests and answers", seconds=6.0)
async def resets_at_brokers(run: Run) -> None:
    toxics = _workers(run, lambda where: Reset(where=where, way=Way.TO_SERVER, after_bytes=run.draw.randint(200, 3000), times=5), KAFKA)
    toxics += _workers(run, lambda where: Reset(where=where, way=Way.TO_CLIENT, after_bytes=run.draw.randint(200, 3000), times=5), KAFKA)
    toxics += _named(lambda where: Reset(where=where, request="Produce", after_bytes=run.draw.randint(13, 200), times=2), "relay", KAFKA, TELLING)
    await _strike(run, toxics)


@fault("N6-database", "connections to the database are reset in the midst of statements and answers", seconds=6.0)
async def resets_at_the_database(run: Run) -> None:
    toxics = _workers(run, lambda where: Reset(where=where, way=Way.TO_SERVER, after_bytes=run.draw.randint(200, 3000), times=5), POSTGRES)
    toxics += _workers(run, lambda where: Reset(where=where, way=Way.TO_CLIENT, after_bytes=run.draw.randint(200, 3000), times=5), POSTGRES)
    toxics += _named(lambda where: Reset(where=where, request="COMMIT", after_bytes=run.draw.randint(5, 8), times=2), "worker", POSTGRES)
    await _strike(run, toxics)


@fault("N7-produce", "records arrive, the relay never hears of it, three times", seconds=3.0)
async def lost_produce(run: Run) -> None:
    await _strike(run, _named(lambda where: LoseAnswer(where=where, request="Produce", times=3), "relay", KAFKA, TELLING))


@fault("N7-transaction", "a transaction begins and ends, the relay never hears of it", seconds=3.0)
async def lost_end_of_transaction(run: Run) -> None:
    toxics = _named(lambda where: LoseAnswer(where=where, request="AddPartitionsToTxn", times=2), "relay", KAFKA, TELLING)
    await _strike(run, toxics + _named(lambda where: LoseAnswer(where=where, request="EndTxn", times=2), "relay", KAFKA, TELLING))


@fault("N7-offset", "offsets are committed to Kafka, the worker never hears of it", seconds=3.0)
async def lost_offset_commit(run: Run) -> None:
    await _strike(run, _named(lambda where: LoseAnswer(where=where, request="OffsetCommit", times=3), "worker", KAFKA))


@fault("N7-commit", "transactions are committed, worker and API never hear of it, three times each", seconds=3.0)
async def lost_commit(run: Run) -> None:
    toxics = _named(lambda where: LoseAnswer(where=where, request="COMMIT", times=3), "worker", POSTGRES)
    await _strike(run, toxics + _apis(run, lambda where: LoseAnswer(where=where, request="COMMIT", times=3)))


@fault("N7-mail", "the mail server takes a mail, the worker never hears of it", seconds=3.0)
async def lost_mail(run: Run) -> None:
    await _strike(run, [LoseAnswer(where=Where("mail"), request="TEXT", times=1)])


@fault("N8", "every byte by itself", seconds=3.0)
async def slices(run: Run) -> None:
    await _hurt(run, 3.0, _workers(run, lambda where: Slices(where=where)))
