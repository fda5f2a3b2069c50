"""A real Apache Kafka from its published jars: one node, or three with replication 3 and two in-sync replicas at least."""

import os
import socket
import subprocess
import time
from pathlib import Path

from deploy.local import processes
from deploy.local.kafka_programs import jars, java
from deploy.local.layout import REPOSITORY, Layout, Refusal
from deploy.local.processes import Process

JVM = "-Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError"
"""For a quick start on a small machine; KAFKA_JVM_OPTS says otherwise."""

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
"""Any 16 bytes in base64; the same for every local stack."""

SAFE_NODES = 3
"""With so many brokers every topic has three replicas, of which two must have a record before it counts."""

HERE = REPOSITORY / "deploy" / "local"

START_S = 60.0
"""Longest wait for a broker's port, seconds."""


def given() -> bool:
    """Whether the user named brokers of their own with KAFKA_BOOTSTRAP_SERVERS."""
    return bool(os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))


def nodes(layout: Layout) -> int:
    """How many brokers: as many as the stack was made with, else KAFKA_NODES, else 1.

    Raises:
        Refusal: KAFKA_NODES is neither 1 nor 3, or another number than the stack has.
    """
    wanted = os.environ.get("KAFKA_NODES") or None
    if wanted not in (None, "1", "3"):
        raise Refusal(f"KAFKA_NODES is {wanted!r}: set it to 1 or 3.")
    have = len(list((layout.root / "kafka").glob("[1-9]")))
    if wanted is not None and have and int(wanted) != have:
        raise Refusal(f"This stack was made with KAFKA_NODES={have}, not {wanted}: run 'make reset' first (it deletes the stack's data).")
    return have or int(wanted or "1")


def start(layout: Layout) -> bool:
    """Start the brokers that do not live; returns whether any was started."""
    count = nodes(layout)
    if all(processes.pid_of(layout, name) is not None for name in names(layout)):
        return False
    # All folders before the first node starts: their number is how the stack remembers it.
    for node in range(1, count + 1):
        (layout.root / "kafka" / str(node)).mkdir(parents=True, exist_ok=True)
    classpath = f"{jars()}/*"
    started = [processes.start(layout, _process(layout, node, count, classpath)) for node in range(1, count + 1)]
    for node in range(1, count + 1):
        _wait_for_port(layout, node)
    return any(started)


def start_node(layout: Layout, node: int) -> None:
    """Start one broker, for tests that kill them."""
    processes.start(layout, _process(layout, node, nodes(layout), f"{jars()}/*"))
    _wait_for_port(layout, node)


def names(layout: Layout) -> list[str]:
    """Names of the brokers' processes; none when the user named brokers of their own."""
    return [] if given() else [f"kafka-{node}" for node in range(1, nodes(layout) + 1)]


def ports(layout: Layout, node: int) -> tuple[int, ...]:
    """What a broker listens on: clients, controllers, clients that come through a proxy."""
    port = layout.kafka_port(node)
    return port, port + 100, port + 200


def _process(layout: Layout, node: int, count: int, classpath: str) -> Process:
    folder = layout.root / "kafka" / str(node)
    properties = folder / "server.properties"
    properties.write_text(server_properties(layout, node, count, folder / "data"))
    options = os.environ.get("KAFKA_JVM_OPTS", JVM).split()
    # Libraries that a killed broker unpacked stay with the stack instead of in /tmp.
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    options.append(f"-Djava.io.tmpdir={scratch}")
    run = [java(), *options, f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", f"-Dkafka.logs.dir={layout.logs}", "-cp", classpath]
    if not (folder / "data" / "meta.properties").exists():
        done = subprocess.run(
            [*run, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refusal(f"Kafka could not prepare its data folder; it said:\n{processes.tail(done.stderr or done.stdout)}")
    return Process(f"kafka-{node}", [*run, "kafka.Kafka", str(properties)], ports=ports(layout, node))


def _wait_for_port(layout: Layout, node: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", layout.kafka_port(node))) == 0:
                return
        if processes.pid_of(layout, f"kafka-{node}") is None:
            break
        time.sleep(0.1)
    raise Refusal(f"Kafka node {node} did not start; the end of its log:\n{processes.last_lines(layout, f'kafka-{node}')}")


def server_properties(layout: Layout, node: int, count: int, data: Path) -> str:
    """The broker's settings: small, loopback only, nothing created by accident, nothing acknowledged by one replica of three."""
    port = layout.kafka_port(node)
    voters = ",".join(f"{n}@127.0.0.1:{layout.kafka_port(n) + 100}" for n in range(1, count + 1))
    replication, in_sync = (3, 2) if count >= SAFE_NODES else (1, 1)
    settings = {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},PROXY://127.0.0.1:{port + 200},CONTROLLER://127.0.0.1:{port + 100}",
        # The PROXY listener advertises a port where a TCP proxy of a fault test stands, so every client connection passes it.
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},PROXY://127.0.0.1:{port + 300},CONTROLLER://127.0.0.1:{port + 100}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXY:PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": replication,
        "offsets.topic.num.partitions": 6,
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 6,
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 3,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 8_388_608,
        "log.segment.bytes": 67_108_864,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
