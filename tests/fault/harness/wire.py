"""Just enough of the wire formats of Kafka, PostgreSQL and SMTP to know who connects, what is asked, and where its answer begins."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

KAFKA_REQUESTS = {
    0: "Produce", 1: "Fetch", 2: "ListOffsets", 3: "Metadata", 8: "OffsetCommit", 9: "OffsetFetch", 10: "FindCoordinator", 11: "JoinGroup",
    12: "Heartbeat", 13: "LeaveGroup", 14: "SyncGroup", 18: "ApiVersions", 22: "InitProducerId", 24: "AddPartitionsToTxn",
    25: "AddOffsetsToTxn", 26: "EndTxn", 28: "TxnOffsetCommit",
}  # fmt: skip
"""Names of the requests that aiokafka sends; https://kafka.apache.org/protocol#protocol_api_keys."""

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
"""What may stand before or instead of PostgreSQL's startup packet; https://www.postgresql.org/docs/current/protocol-message-formats.html."""

READY = b"Z\x00\x00\x00\x05"
"""ReadyForQuery without its last byte: the end of every answer."""

STATEMENT_BYTES = 256
"""How much of a message is kept to recognise a statement."""


class Frames:
    """Walks a stream of length-prefixed messages, however it is cut into pieces.

    Args:
        kind: bytes before the length: 1 for PostgreSQL (the length counts itself), 0 for Kafka (it does not).
        wanted: how much of each message's beginning is kept.
    """

    def __init__(self, kind: int, wanted: int) -> None:
        self._kind = kind
        self._wanted = wanted
        self._head = b""
        self._skip = 0
        self._passed = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Messages whose beginning is complete now: where each began and that beginning.

        Places are counted from the first byte of `data`; one below 0 lies in an earlier piece.
        """
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            before = len(self._head)
            head = self._head + data[at : at + self._wanted - before]
            size = self._size(head)
            goal = self._kind + 4 if size is None else min(size, self._wanted)
            if len(head) < goal or size is None:
                self._head = head
                return
            self._head = b""
            self._skip = size - goal
            yield at - before, head[:goal]
            at += goal - before

    def _size(self, head: bytes) -> int | None:
        if len(head) < self._kind + 4:
            return None
        (told,) = struct.unpack_from(">i", head, self._kind)
        return int(told) + (1 if self._kind else 4)


@dataclass(frozen=True)
class Asked:
    """A request as it passes: where it began in the piece at hand, its name, and what tells its answer."""

    at: int
    name: str
    key: int


class Dialogue(Protocol):
    """One connection's conversation."""

    def introduce(self, data: bytes) -> tuple[str | None, bytes]:
        """Who connects, from the first bytes (None: more are needed), and an answer in the server's place to what came so far."""

    def asked(self, data: bytes) -> list[Asked]:
        """The requests that begin in this piece; called with every piece, the first included."""

    def lose(self, asked: Asked) -> None:
        """Swallow the answer to this request when it comes."""

    def answered(self, data: bytes) -> tuple[int, bool]:
        """How many bytes of this piece of answers go on, and whether the answer to be lost has arrived."""


class Plain:
    """A conversation nobody understands, for servers that echo."""

    def introduce(self, data: bytes) -> tuple[str | None, bytes]:
        return "", b""

    def asked(self, data: bytes) -> list[Asked]:
        return []

    def lose(self, asked: Asked) -> None:
        raise AssertionError("nothing is ever asked in this conversation")

    def answered(self, data: bytes) -> tuple[int, bool]:
        return len(data), False


class Kafka:
    """A conversation with a broker; an answer is told by its correlation id."""

    def __init__(self) -> None:
        self._questions = Frames(0, 12)
        self._answers = Frames(0, 8)
        self._lost: set[int] = set()

    def introduce(self, data: bytes) -> tuple[str | None, bytes]:
        if len(data) < 14:
            return None, b""
        (length,) = struct.unpack_from(">h", data, 12)
        if len(data) < 14 + length:
            return None, b""
        return data[14 : 14 + max(0, length)].decode("utf-8", "replace"), b""

    def asked(self, data: bytes) -> list[Asked]:
        found = []
        for at, head in self._questions.feed(data):
            api, _, correlation = struct.unpack_from(">hhi", head, 4)
            found.append(Asked(at, KAFKA_REQUESTS.get(api, str(api)), correlation))
        return found

    def lose(self, asked: Asked) -> None:
        self._lost.add(asked.key)

    def answered(self, data: bytes) -> tuple[int, bool]:
        for at, head in self._answers.feed(data):
            if struct.unpack_from(">i", head, 4)[0] in self._lost:
                return max(0, at), True
        return len(data), False


@dataclass
class Backends:
    """Which process of the server works for whom: a request to cancel names it and nothing else."""

    owners: dict[bytes, str] = field(default_factory=dict)


class Postgres:
    """A conversation with a database server. Its clients ask one thing at a time, so all that comes after a question answers it."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._startup = 0
        self._name = ""
        self._questions = Frames(1, STATEMENT_BYTES)
        self._greeting: Frames | None = Frames(1, 13)
        self._statements: dict[bytes, str] = {}
        self._losing = False
        self._tail = b""

    def introduce(self, data: bytes) -> tuple[str | None, bytes]:
        if len(data) < 8:
            return None, b""
        size, code = struct.unpack_from(">ii", data)
        if code in (SSL_REQUEST, GSS_REQUEST):
            # Answered here and taken out of the stream: the server behind has no encryption either.
            return None, b"N"
        if len(data) < size:
            return None, b""
        self._startup = size
        if code == CANCEL_REQUEST:
            self._greeting = None
            return self._backends.owners.get(data[8:16], ""), b""
        words = data[8:size].split(b"\0")
        self._name = dict(zip(words[::2], words[1::2], strict=False)).get(b"application_name", b"").decode("utf-8", "replace")
        return self._name, b""

    def asked(self, data: bytes) -> list[Asked]:
        skipped, self._startup = min(self._startup, len(data)), max(0, self._startup - len(data))
        found = []
        for at, head in self._questions.feed(data[skipped:]):
            text = self._statement(head)
            if text is not None:
                found.append(Asked(at + skipped, text, 0))
        return found

    def _statement(self, head: bytes) -> str | None:
        """The statement that this message carries out, upper case; None for all other messages."""
        match head[:1]:
            case b"Q":
                return _text(head[5:])
            case b"P":
                name, _, rest = head[5:].partition(b"\0")
                self._statements[name] = _text(rest)
            case b"B":
                return self._statements.get(head[5:].split(b"\0", 2)[1], "")
        return None

    def lose(self, asked: Asked) -> None:
        self._losing = True

    def answered(self, data: bytes) -> tuple[int, bool]:
        if self._greeting is not None:
            self._greet(data)
        if not self._losing:
            return len(data), False
        self._tail = (self._tail + data)[-6:]
        return 0, self._tail[:5] == READY

    def _greet(self, data: bytes) -> None:
        """Note which backend this is: BackendKeyData comes once, before the first ReadyForQuery."""
        assert self._greeting is not None
        for _, head in self._greeting.feed(data):
            if head[:1] == b"K":
                self._backends.owners[head[5:13]] = self._name
            if head[:1] == b"Z":
                self._greeting = None
                return


class Smtp:
    """A conversation with a mail server, line by line; nobody says who he is. A text that was handed over is asked as `TEXT`."""

    def __init__(self) -> None:
        self._line = b""
        self._in_text = False
        self._losing = False

    def introduce(self, data: bytes) -> tuple[str | None, bytes]:
        return "", b""

    def asked(self, data: bytes) -> list[Asked]:
        found, at = [], 0
        for line in data.splitlines(keepends=True):
            begin = at - len(self._line)
            at += len(line)
            self._line += line
            if not self._line.endswith(b"\n"):
                continue
            if self._in_text and self._line.rstrip(b"\r\n") == b".":
                found.append(Asked(begin, "TEXT", 0))
                self._in_text = False
            elif not self._in_text:
                found.append(Asked(begin, _text(self._line), 0))
            self._line = b""
        return found

    def lose(self, asked: Asked) -> None:
        self._losing = True

    def answered(self, data: bytes) -> tuple[int, bool]:
        self._in_text = self._in_text or data.startswith(b"354")
        return (0, data.endswith(b"\n")) if self._losing else (len(data), False)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace").lstrip().upper()
