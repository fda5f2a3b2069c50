"""Where everything of a stack lies: folders, ports, the table of processes."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
"""Root of the project."""

SERVICES = ("enrollment", "assessment", "reporting", "notifications")
"""The four services, in the order in which an event reaches them."""

SETTINGS = REPOSITORY / "deploy" / "settings.env"
"""Settings that are the same wherever the system runs."""

KAFKA_VERSION = "4.3.1"
"""Version of the broker; kafka-pom.xml says the same and a test compares them."""

PORT_OFFSET_FILE = "port-offset"
"""File in which a stack remembers the offset of its ports."""

_LOWEST, _HIGHEST = -16000, 40000
"""Offsets that leave every port above the system's own and below 65,536."""

_KAFKA, _POSTGRES, _API, _WORKER, _MAIL = 19092, 25432, 18101, 18201, 18125


class Refusal(Exception):
    """The stack cannot be brought up; the text says in one sentence what to do."""


@dataclass(frozen=True)
class Layout:
    """One stack on this machine.

    Attributes:
        root: folder of everything the stack makes.
        offset: added to every port, so that two stacks can stand side by side.
    """

    root: Path
    offset: int

    @classmethod
    def from_environment(cls) -> "Layout":
        """The stack named by STACK_DIR and STACK_PORT_OFFSET; by default `.stack`, and the offset it was started with or 0.

        Raises:
            Refusal: the offset is no number, or leads to ports that do not exist or belong to the system.
        """
        root = Path(os.environ.get("STACK_DIR") or REPOSITORY / ".stack").resolve()
        remembered = root / PORT_OFFSET_FILE
        told = os.environ.get("STACK_PORT_OFFSET") or (remembered.read_text() if remembered.exists() else "0")
        if not (told.lstrip("-").isdigit() and _LOWEST <= int(told) <= _HIGHEST):
            raise Refusal(f"STACK_PORT_OFFSET is {told!r}: set it to a number from {_LOWEST} to {_HIGHEST}, for example 2000.")
        return cls(root, int(told))

    def remember(self) -> None:
        """Note the offset, so that later commands need not be told."""
        (self.root / PORT_OFFSET_FILE).write_text(str(self.offset))

    @property
    def run(self) -> Path:
        """Folder of pid files."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Folder of logs, one per process."""
        return self.root / "logs"

    def kafka_port(self, node: int = 1) -> int:
        """Client port of a broker; +100 controller, +200 listener behind a proxy, +300 what that listener advertises."""
        return _KAFKA + self.offset + node - 1

    @property
    def postgres_port(self) -> int:
        """Port of the database server."""
        return _POSTGRES + self.offset

    @property
    def mail_port(self) -> int:
        """SMTP port of the mail server that comes with the stack."""
        return _MAIL + self.offset

    def api_port(self, service: str) -> int:
        """Port of a service's API."""
        return _API + self.offset + SERVICES.index(service)

    def worker_port(self, service: str) -> int:
        """Port of a worker's health and metrics."""
        return _WORKER + self.offset + SERVICES.index(service)

    def bootstrap_servers(self, nodes: int) -> list[str]:
        """Addresses of the brokers; KAFKA_BOOTSTRAP_SERVERS names others."""
        given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        return given.split(",") if given else [f"127.0.0.1:{self.kafka_port(node)}" for node in range(1, nodes + 1)]
