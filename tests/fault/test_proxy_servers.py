"""The proxy between real clients and the real servers: it knows who calls and what is asked, and a lost answer is only that."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import aiosmtplib
import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiosmtpd.controller import UnthreadedController

from deploy.local.mail import Folder
from shared.chassis.topics import ensure_topics
from shared.contracts.topics import Topic
from tests.fault.harness.proxy import Proxy, routes
from tests.fault.harness.toxics import HalfOpen, LoseAnswer, Reset, Route, Slices, Way, Where
from tests.support.bakery import read
from tests.support.infrastructure import Infrastructure
from tests.support.processes import free_port
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def proxy(infra: Infrastructure) -> Iterator[Proxy]:
    with Proxy(routes(infra.layout)) as running:
        yield running


@pytest.fixture
def through(infra: Infrastructure, dsn: str) -> str:
    """Address of the fresh database behind the proxy."""
    (way,) = [way for way in routes(infra.layout) if way.server == "postgres"]
    return dsn.replace(f":{way.upstream}/", f":{way.listen}/")


@pytest.fixture
def brokers(infra: Infrastructure) -> list[str]:
    """Addresses of the brokers behind the proxy."""
    return [f"127.0.0.1:{way.listen}" for way in routes(infra.layout) if way.kind == "kafka"]


@pytest.fixture
async def topic(infra: Infrastructure) -> str:
    name = f"letters-{secrets.token_hex(4)}"
    await ensure_topics(infra.bootstrap_servers, [Topic(name, "tests", "id", "id", 1, "delete", None, (), "Letters.")], 1)
    return name


@pytest.fixture
async def straight(dsn: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection that goes past the proxy."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE noted (word text)")
    yield connection
    await connection.close()


async def _connect(dsn: str, name: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(dsn, server_settings={"application_name": name}, command_timeout=5)


async def _note(connection: "asyncpg.Connection[asyncpg.Record]", word: str) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO noted VALUES ($1)", word)


@pytest.mark.parametrize("answered", [False, True])
async def test_commit_is_carried_out_when_its_answer_is_lost_and_not_when_it_is_cut_off(
    proxy: Proxy, through: str, straight: "asyncpg.Connection[asyncpg.Record]", *, answered: bool
) -> None:
    writer = await _connect(through, "writer")
    other = await _connect(through, "other")
    where = Where("postgres", "writer")
    toxic = LoseAnswer(where=where, request="COMMIT") if answered else Reset(where=where, request="COMMIT", after_bytes=3, way=Way.TO_SERVER)
    with proxy.hurting(toxic) as number:
        with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
            await _note(writer, "doubtful")
        await _note(other, "certain")
        bites = proxy.bites(number)
    assert (bites.resets, bites.answers, bites.connections) == (1, int(answered), 1)
    words = {row["word"] for row in await straight.fetch("SELECT word FROM noted")}
    assert words == ({"certain", "doubtful"} if answered else {"certain"})
    await other.close()


async def test_a_prepared_statement_is_known_by_its_text(proxy: Proxy, through: str, straight: "asyncpg.Connection[asyncpg.Record]") -> None:
    writer = await _connect(through, "writer")
    insert = await writer.prepare("INSERT INTO noted VALUES ($1)")
    await insert.fetch("one")
    with proxy.hurting(LoseAnswer(where=Where(client="writer"), request="INSERT INTO NOTED")) as number:
        with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
            await insert.fetch("two")
        assert proxy.bites(number).answers == 1
    assert await straight.fetchval("SELECT count(*) FROM noted") == 2


async def test_a_request_to_cancel_goes_the_way_of_whom_it_speaks_for(proxy: Proxy, through: str) -> None:
    writer = await _connect(through, "writer")
    with pytest.raises(TimeoutError):
        await writer.execute("SELECT pg_sleep(60)", timeout=0.2)
    assert await writer.fetchval("SELECT 1", timeout=5) == 1
    with proxy.hurting(HalfOpen(where=Where("postgres", "writer"))) as number:
        with pytest.raises(TimeoutError):
            await writer.execute("SELECT pg_sleep(60)", timeout=0.2)
        await eventually(lambda: _unanswered(proxy, number))
    writer.terminate()


async def _unanswered(proxy: Proxy, number: int) -> bool:
    return proxy.bites(number).unanswered > 0


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_record_whose_answer_is_lost_stands_once_with_an_idempotent_producer_and_twice_without(
    proxy: Proxy, infra: Infrastructure, brokers: list[str], topic: str, *, idempotent: bool
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=brokers, client_id="writer", acks="all", enable_idempotence=idempotent)
    await producer.start()
    with proxy.hurting(LoseAnswer(where=Where("kafka-*", "writer"), request="Produce", times=1)) as number:
        await producer.send_and_wait(topic, b"doubtful")
        assert proxy.bites(number).answers == 1
    await producer.stop()
    found = [record.value for record in await read(infra.bootstrap_servers, topic, 1)]
    assert found == [b"doubtful"] * (1 if idempotent else 2)


async def test_a_transaction_is_committed_though_the_answer_is_lost(proxy: Proxy, infra: Infrastructure, brokers: list[str], topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=brokers, client_id="writer", transactional_id=topic)
    await producer.start()
    with proxy.hurting(LoseAnswer(where=Where("kafka-*", "writer"), request="EndTxn", times=1)) as number:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"certain")
        assert proxy.bites(number).answers == 1
    await producer.stop()
    reader = AIOKafkaConsumer(topic, bootstrap_servers=infra.bootstrap_servers, auto_offset_reset="earliest", isolation_level="read_committed")
    await reader.start()
    assert (await asyncio.wait_for(reader.getone(), 10)).value == b"certain"
    await reader.stop()


async def test_an_offset_is_committed_though_the_answer_is_lost(proxy: Proxy, infra: Infrastructure, brokers: list[str], topic: str) -> None:
    place = TopicPartition(topic, 0)
    group = {"group_id": topic, "enable_auto_commit": False}
    reader = AIOKafkaConsumer(topic, bootstrap_servers=brokers, client_id="reader", **group)
    await reader.start()
    with proxy.hurting(LoseAnswer(where=Where("kafka-*", "reader"), request="OffsetCommit", times=1)) as number:
        with suppress(KafkaError):
            await reader.commit({place: 0})
        assert proxy.bites(number).answers == 1
    await reader.stop()
    straight = AIOKafkaConsumer(bootstrap_servers=infra.bootstrap_servers, **group)
    await straight.start()
    straight.assign([place])
    assert await straight.committed(place) == 0
    await straight.stop()


@pytest.mark.parametrize("answered", [False, True])
async def test_a_mail_is_taken_though_the_answer_is_lost_and_not_when_it_is_cut_off(tmp_path: Path, *, answered: bool) -> None:
    way = Route("mail", "smtp", free_port(), free_port())
    controller = UnthreadedController(Folder(tmp_path), hostname="127.0.0.1", port=way.upstream, loop=asyncio.get_running_loop())
    server = await controller._create_server()
    toxic = LoseAnswer(request="TEXT") if answered else Reset(request="TEXT", after_bytes=1, way=Way.TO_SERVER)
    with Proxy([way]) as proxy, proxy.hurting(toxic) as number:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=way.listen, timeout=5, local_hostname="tests.example")
        await client.connect()
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await client.sendmail("a@tests.example", ["b@tests.example"], b"Subject: doubtful\r\n\r\nText.\r\n")
        assert proxy.bites(number).resets == 1
    server.close()
    assert _mails(tmp_path) == int(answered)


def _mails(folder: Path) -> int:
    return len(list(folder.glob("*.eml")))


async def test_real_conversations_survive_slices_of_one_byte(
    proxy: Proxy, infra: Infrastructure, brokers: list[str], topic: str, through: str, straight: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    with proxy.hurting(Slices()) as number:
        writer = await _connect(through, "sliced")
        await _note(writer, "slowly")
        producer = AIOKafkaProducer(bootstrap_servers=brokers, client_id="sliced")
        await producer.start()
        with proxy.hurting(LoseAnswer(where=Where(client="sliced"), request="Produce", times=1)) as lost:
            await producer.send_and_wait(topic, b"slowly")
            assert proxy.bites(lost).answers == 1
        assert {(told.server, told.client) for told in proxy.connections()} >= {("postgres", "sliced"), ("kafka-1", "sliced")}
        await producer.stop()
        await writer.close()
        assert proxy.bites(number).bytes > 500
    assert await straight.fetchval("SELECT word FROM noted") == "slowly"
    assert {record.value for record in await read(infra.bootstrap_servers, topic, 1)} == {b"slowly"}
