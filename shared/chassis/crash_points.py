"""Crash points: named places at which this process kills or freezes itself, for the fault tests.

There is one before and one after every SQL statement on a connection of the pool (BEGIN and COMMIT are statements) and
every call of the broker, and of the mail server where there is one, that belongs to a piece of work: a subscription's batch
(named by its topic), the assignment of its partitions, a loop of the worker (`relay`, `publisher` and so on, by the name
of its task), an HTTP request that changes something. A new statement is a new point without anybody's doing. A name tells
service, piece of work, side, and statement with the function that says it, or call; it is the same in every run:

    bakery/loaves/after INSERT baked (count)
    bakery/loaves/before COMMIT of UPDATE consumed_offset
    bakery/relay/after send again

The second and every later time within one transaction or one mail session is `again`. Who lists the points numbers them
in the order in which a piece of work reaches them.

Off, which is how every process runs outside the fault tests, this costs one look into the environment at the start: no
class is touched, nothing is wrapped, and of this module only `arm` is ever called. On, methods of the classes that speak
to the outside are replaced in this process, before it connects anywhere. It takes two variables to turn on:

    CRASH_POINTS          trace:FILE          append each point that is reached to the file, with its statement
                          kill:POINT[#HIT]    SIGKILL this process at the point, the HIT-th time it is reached
                          freeze:POINT[#HIT]  SIGSTOP it there; it goes on from there on SIGCONT
                          orders:FOLDER       obey the order that lies in the folder, whenever one does (see `Orders`)
    CRASH_POINTS_ALLOWED  yes

With the first alone the process refuses to start.
"""

import asyncio
import functools
import inspect
import os
import re
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from shared.chassis.consume import BatchConsumer
from shared.chassis.errors import UnsafeSettings

VARIABLE = "CRASH_POINTS"
ALLOWED = "CRASH_POINTS_ALLOWED"

SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}

Deed = Callable[[str, str], None]
"""What is done at a point: its name and its statement, which is empty for a call that is none."""

_CALLS = {
    ("asyncpg", "Connection"): (
        "execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany",
        "copy_records_to_table", "copy_to_table", "copy_from_table", "copy_from_query",
    ),
    ("aiokafka", "AIOKafkaProducer"): ("start", "begin_transaction", "send", "commit_transaction"),
    # A poll is no point: it changes nothing, and what it brought is still untouched before BEGIN.
    ("aiokafka", "AIOKafkaConsumer"): ("seek", "commit"),
    ("aiosmtplib", "SMTP"): ("connect", "mail", "rcpt", "data", "rset", "quit"),
}  # fmt: skip
"""What speaks to the outside: methods by module and class. A module that the process has not loaded is left alone."""

_BEGINS = ("BEGIN", "begin_transaction", "connect")
_ENDS = ("COMMIT", "commit_transaction", "quit")
"""Calls that begin and end a transaction or a mail session."""

_TIDYING = "SELECT pg_advisory_unlock_all();"
"""How the pool tidies a connection that is given back: nothing has changed since the statement before."""

_OPENING = "SELECT current_setting('fsync')"
"""What every new connection asks first: it changes nothing, and when the pool opens one is chance."""

_COMMENT = re.compile(r"--[^\n]*")
_WRITTEN = re.compile(r"(?<!FOR )\b(INSERT|UPDATE|DELETE|CREATE|LOCK|COPY)\b(?: INTO| FROM| TEMP| TABLE| IF NOT EXISTS)* (\w+)")
_READ = re.compile(r"\b(?:FROM|JOIN) (\w+)\b(?! ?\()")

_piece: ContextVar[str | None] = ContextVar("piece_of_work", default=None)


def arm(service: str) -> None:
    """Do what the environment says about crash points; call before the process connects anywhere.

    Raises:
        UnsafeSettings: crash points are asked for but not allowed, or the wish cannot be read.
    """
    wish = os.environ.get(VARIABLE)
    if not wish:
        return
    if os.environ.get(ALLOWED) != "yes":
        raise UnsafeSettings(
            f"{VARIABLE} is set, so this process would kill or freeze itself in mid-work; unset it, or set {ALLOWED}=yes where faults are tested"
        )
    points = _Points(service, _deed(wish))
    for (module, name), calls in _CALLS.items():
        if module in sys.modules:
            kind = getattr(sys.modules[module], name)
            for call in calls:
                setattr(kind, call, _watched(points, call, getattr(kind, call)))
    _name_pieces()


def _deed(wish: str) -> Deed:
    mode, _, rest = wish.partition(":")
    if mode == "trace" and rest:
        return Trace(Path(rest))
    if mode == "orders" and rest:
        return Orders(Path(rest))
    found = re.fullmatch(r"([^#]+?)(?:#([1-9][0-9]*))?", rest)
    if mode in SIGNALS and found:
        return Once(SIGNALS[mode], found[1], int(found[2] or 1))
    raise UnsafeSettings(f"{VARIABLE} must be trace:FILE, kill:POINT, freeze:POINT or orders:FOLDER")


class Trace:
    """Append every point that is reached to a file, then a tab and its statement; several processes may share the file."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __call__(self, point: str, statement: str) -> None:
        """Write one line."""
        os.write(self._file, f"{point}\t{statement}\n".encode())


class Once:
    """Send ourselves a signal at the n-th hit of one point."""

    def __init__(self, what: signal.Signals, point: str, hit: int) -> None:
        self._what, self._point, self._left = what, point, hit

    def __call__(self, point: str, statement: str) -> None:
        """Count down."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._what)


class Orders:
    """Obey orders that are laid into a folder while we run: of several processes, whoever reaches the point first.

    An order is a file named `order` of four lines: a word that no other order has, `kill` or `freeze`, the hit, the point.
    Who obeys it renames it to `obeyed-<pid>` first, which only one process can.
    """

    def __init__(self, folder: Path) -> None:
        self._order = folder / "order"
        self._heard = ""
        self._hits = 0

    def __call__(self, point: str, statement: str) -> None:
        """Look whether there is an order for this point."""
        try:
            told = self._order.read_text("utf-8")
        except FileNotFoundError:
            return
        _, deed, hit, wanted = told.splitlines()
        if told != self._heard:
            self._heard, self._hits = told, 0
        if point == wanted:
            self._hits += 1
            if self._hits >= int(hit):
                with suppress(FileNotFoundError):
                    self._order.rename(self._order.with_name(f"obeyed-{os.getpid()}"))
                    os.kill(os.getpid(), SIGNALS[deed])


class _Unit:
    """An open transaction or mail session: its first statement, and which calls there were."""

    def __init__(self) -> None:
        self.first: str | None = None
        self.seen: set[str] = set()


class _Points:
    """Names the points of one process and does the deed at each."""

    def __init__(self, service: str, deed: Deed) -> None:
        self.reach = deed
        self._service = service
        self._units: weakref.WeakKeyDictionary[object, _Unit] = weakref.WeakKeyDictionary()

    def sides(self, speaker: object, call: str, statement: str, function: str) -> tuple[str, str] | None:
        """The points before and after a call; None where it belongs to no piece of work."""
        piece = current_piece()
        if piece is None or statement.startswith((_TIDYING, _OPENING)):
            return None
        label = title(statement) or call
        unit = self._units.get(speaker)
        if label == "ROLLBACK":
            # A death undoes what it undoes, and work is broken off at any place.
            self._units.pop(speaker, None)
            return None
        if label in _ENDS:
            self._units.pop(speaker, None)
            label += f" of {unit.first}" if unit is not None and unit.first is not None else ""
        elif label in _BEGINS:
            self._units[speaker] = _Unit()
        else:
            first = label if statement else None
            label += f" ({function})" if statement else ""
            if unit is not None:
                unit.first = unit.first or first
                again = " again" if label in unit.seen else ""
                unit.seen.add(label)
                label += again
        return f"{self._service}/{piece}/before {label}", f"{self._service}/{piece}/after {label}"


def current_piece() -> str | None:
    """The piece of work that is being done: what was bound for it, else the name that somebody gave to the task."""
    piece = _piece.get()
    task = asyncio.current_task() if piece is None else None
    if task is not None and not task.get_name().startswith("Task-"):
        piece = task.get_name()
        # What this task starts, to limit its time for example, does its work under other names.
        _piece.set(piece)
    return piece


def title(statement: str) -> str:
    """A statement, written on one line, in two or three words: what it does, and to which table."""
    verb = statement.split(" ", 1)[0].rstrip(";")
    written = _WRITTEN.search(statement) if verb != "SELECT" else None
    if written is not None:
        return f"{written[1]} {written[2]}"
    read = _READ.search(statement)
    if read is not None:
        return f"{verb} {read[1]} FOR UPDATE" if statement.endswith("FOR UPDATE") else f"{verb} {read[1]}"
    return statement.partition("(")[0] if verb == "SELECT" else verb


def _statement(call: str, arguments: Sequence[object]) -> str:
    """What a call says to the database; empty for one that speaks to somebody else."""
    if call not in _CALLS["asyncpg", "Connection"]:
        return ""
    said = str(arguments[0])
    return f"COPY {said}" if call.startswith("copy") and call != "copy_from_query" else " ".join(_COMMENT.sub("", said).split())


def _watched(points: _Points, call: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The same method with a point on each side; one that raises reaches the first only."""

    @functools.wraps(method)
    async def watched(speaker: object, *args: object, **kwargs: object) -> object:
        statement = _statement(call, args)
        # The frame below a coroutine's is that of whoever awaits it.
        sides = points.sides(speaker, call, statement, sys._getframe(1).f_code.co_name)
        if sides is None:
            return await method(speaker, *args, **kwargs)
        points.reach(sides[0], statement)
        answer = await method(speaker, *args, **kwargs)
        points.reach(sides[1], statement)
        return answer

    @functools.wraps(method)
    def watched_at_once(speaker: object, *args: object, **kwargs: object) -> object:
        sides = points.sides(speaker, call, "", "")
        if sides is None:
            return method(speaker, *args, **kwargs)
        points.reach(sides[0], "")
        answer = method(speaker, *args, **kwargs)
        points.reach(sides[1], "")
        return answer

    return watched if inspect.iscoroutinefunction(method) else watched_at_once


def _name_pieces() -> None:
    """Bind what is being done where no task of ours is named after it: batches, assignments, requests."""
    on_records, take_up, answer = BatchConsumer.on_records, BatchConsumer._resume_unknown, FastAPI.__call__

    async def batch(self: BatchConsumer, *args: Any) -> None:  # noqa: ANN401
        with _bound(self.topic.name):
            await on_records(self, *args)

    async def assignment(self: BatchConsumer, *args: Any) -> None:  # noqa: ANN401
        # Whoever noticed that a place is to be taken up: the group, the watch that missed an answer, or a batch that was fenced.
        with _bound(f"assignment of {self.topic.name}"):
            await take_up(self, *args)

    async def request(self: FastAPI, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        changes = scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH", "DELETE")
        # The path up to the collection; what follows is an id.
        with _bound(" ".join((scope["method"], *scope["path"].split("/")[2:3])) if changes else None):
            await answer(self, scope, receive, send)

    for kind, name, bound in ((BatchConsumer, "on_records", batch), (BatchConsumer, "_resume_unknown", assignment), (FastAPI, "__call__", request)):
        setattr(kind, name, bound)


@contextmanager
def _bound(piece: str | None) -> Iterator[None]:
    before = _piece.set(piece)
    try:
        yield
    finally:
        _piece.reset(before)
