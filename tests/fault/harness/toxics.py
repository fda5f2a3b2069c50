"""What a test and the proxy say to each other, as values: ports, connections, and what is done to whom, which way."""

from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Route:
    """A port of the proxy and the server behind it.

    Attributes:
        server: name that toxics select by.
        kind: how it talks: `kafka`, `postgres`, `smtp` or `plain`.
        listen: the proxy's port.
        upstream: the server's port.
    """

    server: str
    kind: str
    listen: int
    upstream: int


@dataclass(frozen=True)
class Told:
    """A connection as the proxy knows it."""

    server: str
    client: str
    port: int


class Way(Enum):
    """Direction of the bytes that are hurt."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"
    BOTH = "both"


@dataclass(frozen=True)
class Where:
    """Which connections; a pattern has `*` and `?` as in file names.

    Attributes:
        server: name of the route: `kafka-1`, `kafka-*`, `postgres`.
        client: what a connection calls itself: Kafka's `client_id`, PostgreSQL's `application_name`.
        pid: only connections of this process, to tell two replicas of one name apart.
    """

    server: str = "*"
    client: str = "*"
    pid: int | None = None

    def takes(self, server: str, client: str) -> bool:
        """Whether a connection is meant, as far as its names say."""
        return fnmatchcase(server, self.server) and fnmatchcase(client, self.client)


@dataclass(frozen=True, kw_only=True)
class Toxic:
    """Any of those below.

    Attributes:
        where: connections that are hurt, those that stand and those that come.
        way: direction that is hurt.
    """

    where: Where = field(default_factory=Where)
    way: Way = Way.BOTH


@dataclass(frozen=True, kw_only=True)
class Delay(Toxic):
    """Every piece comes later, in order; both ways make twice the delay per question.

    Attributes:
        ms: milliseconds.
        jitter_ms: up to this many more, drawn by `seed` and the number of the connection.
    """

    ms: float
    jitter_ms: float = 0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Rate(Toxic):
    """A thin line: so many bytes per second for each connection and direction."""

    bytes_per_s: float


@dataclass(frozen=True, kw_only=True)
class Slices(Toxic):
    """Every piece is handed on in slices of `size` bytes, each sent by itself, `pause_ms` milliseconds apart."""

    size: int = 1
    pause_ms: float = 0


@dataclass(frozen=True, kw_only=True)
class Cut(Toxic):
    """Nothing gets through, ends of connections neither; the connections stand.

    Attributes:
        late: what was sent meanwhile arrives when the line is whole again, as TCP repeats what was not acknowledged:
            requests of the dead may reach the server long after others took over. Without it the bytes are gone, and
            since no stream may have a hole, connections that lost some are reset when the toxic is taken away.
    """

    late: bool = False


@dataclass(frozen=True, kw_only=True)
class HalfOpen(Toxic):
    """The port accepts, and nobody answers: new connections never reach the server, standing ones fall silent both ways."""


@dataclass(frozen=True, kw_only=True)
class Forget(Toxic):
    """Connections that stand fall silent both ways and for good, as when a router has forgotten them; new ones are not hurt.

    Taking the toxic away changes nothing: whoever does not find out by himself waits for ever.
    """


@dataclass(frozen=True, kw_only=True)
class Refuse(Toxic):
    """New connections are reset as soon as they have said who they are; standing ones live on."""


@dataclass(frozen=True, kw_only=True)
class Reset(Toxic):
    """RST to both ends.

    Attributes:
        after_bytes: of the direction hurt, counted from when the toxic was switched on or, with `request`, from the first
            byte of such a request; the bytes before are handed on. 0 resets standing connections at once.
        request: only in the midst of this request: a Kafka request's name (`Produce`) or the beginning of a statement
            (`COMMIT`); None: anywhere.
        times: how often; None: without end.
    """

    after_bytes: int = 0
    request: str | None = None
    times: int | None = None


@dataclass(frozen=True, kw_only=True)
class LoseAnswer(Toxic):
    """The server carries a request out; its answer is swallowed and the connection is reset.

    Attributes:
        request: a Kafka request's name (`Produce`, `EndTxn`), the beginning of a statement (`COMMIT`) or, of mail, `TEXT`.
        times: how often; None: without end.
    """

    request: str
    times: int | None = None


@dataclass
class Bites:
    """What a toxic did so far; a fault of which nothing is seen here proves nothing.

    Attributes:
        connections: distinct connections it was done to.
        clients: what they call themselves, and to which kind of server they go: `enrollment-relay kafka`.
        bytes: delayed, slowed, sliced, held back or swallowed.
        resets: connections reset because of it, lost answers included.
        answers: answers swallowed after the server had carried the request out.
        refused: connections turned away.
        unanswered: new connections left without an answer.
    """

    connections: int = 0
    clients: set[str] = field(default_factory=set)
    bytes: int = 0
    resets: int = 0
    answers: int = 0
    refused: int = 0
    unanswered: int = 0

    def __bool__(self) -> bool:
        return any((self.bytes, self.resets, self.answers, self.refused, self.unanswered))
