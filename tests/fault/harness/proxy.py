"""A TCP proxy between the services and each server, in a process of its own, and the handle by which a test hurts it.

It stands where the brokers' second listener tells clients to go (deploy/local/kafka.py: `ports`) and beside the database.
"""

import itertools
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deploy.local import kafka
from deploy.local.layout import REPOSITORY, Layout
from tests.fault.harness.toxics import Bites, Route, Told, Toxic

BEHIND = 300
"""The proxy's port is so far above the port of the server it stands for; Kafka's advertised port is the same."""

ANSWER_S = 20.0
"""Longest wait for the proxy's own process, seconds."""


def routes(layout: Layout, nodes: int | None = None) -> list[Route]:
    """The way through the proxy to every server of a stack, and to so many brokers of it (as many as it has)."""
    brokers = range(1, (nodes or kafka.nodes(layout)) + 1)
    return [
        *(Route(f"kafka-{node}", "kafka", layout.kafka_port(node) + BEHIND, kafka.ports(layout, node)[2]) for node in brokers),
        Route("postgres", "postgres", layout.postgres_port + BEHIND, layout.postgres_port),
        Route("mail", "smtp", layout.mail_port + BEHIND, layout.mail_port),
    ]


class Proxy:
    """The running proxy. Calls are short and may come from any thread; the proxy ends with this process, however that ends.

    Args:
        ways: ports to listen on.

    Raises:
        RuntimeError: a port is taken.
    """

    def __init__(self, ways: Sequence[Route]) -> None:
        self._numbers = itertools.count(1)
        self._turn = threading.Lock()
        self._talk, theirs = multiprocessing.Pipe()
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.fault.harness.switchboard", str(theirs.fileno())],
                cwd=REPOSITORY, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        finally:
            theirs.close()
        try:
            self._ask("listen", list(ways))
        except RuntimeError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the proxy and with it every connection through it."""
        self._talk.close()
        try:
            self._child.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def add(self, toxic: Toxic) -> int:
        """Switch a toxic on; its number."""
        return self.add_all([toxic])[0]

    def add_all(self, toxics: Sequence[Toxic]) -> list[int]:
        """Switch toxics on, all at one moment; their numbers."""
        numbered = {next(self._numbers): toxic for toxic in toxics}
        self._ask("add", numbered)
        return list(numbered)

    def remove(self, number: int) -> Bites:
        """Switch a toxic off; what it did."""
        return self.remove_all([number])[0]

    def remove_all(self, numbers: Sequence[int]) -> list[Bites]:
        """Switch toxics off, all at one moment; what each did."""
        return self._bites(self._ask("remove", list(numbers)))

    def bites(self, number: int) -> Bites:
        """What a toxic that is switched on did so far."""
        return self.bites_of([number])[0]

    def bites_of(self, numbers: Sequence[int]) -> list[Bites]:
        """What each of these toxics that are switched on did so far."""
        return self._bites(self._ask("bites", list(numbers)))

    def connections(self) -> list[Told]:
        """The connections that stand and have said who they are."""
        found = self._ask("connections")
        assert isinstance(found, list)
        return found

    @contextmanager
    def hurting(self, toxic: Toxic) -> Iterator[int]:
        """Switched on for the block."""
        number = self.add(toxic)
        try:
            yield number
        finally:
            self.remove(number)

    def _ask(self, *command: object) -> object:
        with self._turn:
            self._talk.send(command)
            return self._answer()

    def _answer(self) -> object:
        if not self._talk.poll(ANSWER_S):
            raise RuntimeError(f"the proxy did not answer within {ANSWER_S:.0f} s")
        try:
            answer = self._talk.recv()
        except EOFError:
            raise RuntimeError(f"the proxy ended with status {self._child.wait(ANSWER_S)}") from None
        if isinstance(answer, Exception):
            raise RuntimeError(f"the proxy could not do it: {answer}") from answer  # noqa: TRY004
        return answer

    @staticmethod
    def _bites(answer: object) -> list[Bites]:
        assert isinstance(answer, list)
        return answer
