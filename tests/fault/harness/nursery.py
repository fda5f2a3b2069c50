"""Processes of a service in a fraction of a second: one that has imported everything forks them.

    python -m tests.fault.harness.nursery SERVICE

It reads orders from standard input, one JSON object per line, and answers each with the pid of the child. A child is what
`python -m services.SERVICE.main ROLE` would be: it has a session, an environment, a log and an event loop of its own, and
shares nothing with its parent but imported modules. When standard input ends, whatever still lives is killed.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.layout import REPOSITORY
from tests.fault.harness import stacks

_LATE = (
    "pydantic.v1", "anyio._backends._asyncio", "cramjam",
    "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "uvicorn.lifespan.off",
    "tests.fault.harness.witness", "tests.fault.harness.impatient", "tests.fault.harness.careless.consuming",
)  # fmt: skip
"""Modules that a child would import when it is already running."""


class Child:
    """A forked process, as far as those who hurt it need `subprocess.Popen`.

    Attributes:
        pid: its number.
        returncode: None until it is known to have ended.
    """

    def __init__(self, pid: int, last_word: Path) -> None:
        self.pid = pid
        self._last_word = last_word
        self._handle = os.pidfd_open(pid)
        # Not before nobody asks any more: the number of a closed handle is soon that of another process or a socket.
        weakref.finalize(self, os.close, self._handle)
        self._asking = threading.Lock()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it lives; its status afterwards, negative for a signal; -9 when its parent is gone as well and nobody knows."""
        with self._asking:  # a thread may wait for it while another asks
            if self.returncode is None and _end_of(self._handle).poll(0):
                self.returncode = self._status()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, after `timeout` seconds.
        """
        if not _end_of(self._handle).poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0)
        return self.poll() or 0

    def _status(self) -> int:
        deadline = time.monotonic() + _TOLD_S
        while not self._last_word.exists():
            if time.monotonic() > deadline:
                return -signal.SIGKILL
            time.sleep(0.001)
        status = int(self._last_word.read_text("ascii"))
        self._last_word.unlink()
        return status

    def send_signal(self, wanted: int) -> None:
        """A signal, unless it has ended; its pid may be somebody else's then."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, wanted)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


class Nursery:
    """The forking process of one service, as its user sees it."""

    def __init__(self, service: str, log: Path) -> None:
        with log.open("ab") as output:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.fault.harness.nursery", service],
                cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True, start_new_session=True,
            )  # fmt: skip

    def bear(self, role: str, env: Mapping[str, str], log: Path, prepare: Sequence[str] = ()) -> Child:
        """Fork a process.

        Args:
            role: `worker` or `api`.
            env: its whole environment.
            log: file that takes what it writes.
            prepare: each a `module:function` to call in the child first, for example one that removes a guard.
        """
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        json.dump({"role": role, "env": dict(env), "log": str(log), "prepare": list(prepare)}, self._parent.stdin)
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        pid = int(self._parent.stdout.readline())
        return Child(pid, _last_word(log, pid))

    def close(self) -> None:
        """End it and its children."""
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(10)


_TOLD_S = 2.0
"""Longest wait until the parent of a child that has ended has written its status down, seconds."""


def _end_of(handle: int) -> "select.poll":
    """Something to poll that answers when a process has ended; one for each who asks, because one must not be shared by threads."""
    end = select.poll()
    end.register(handle, select.POLLIN)
    return end


def _last_word(log: Path, pid: int) -> Path:
    """Where the parent writes a child's status when it has ended."""
    return log.with_suffix(f".{pid}.ended")


def main(service: str) -> None:
    """Fork on demand until standard input ends."""
    program = importlib.import_module(f"services.{service}.main")
    for name in _LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(stacks.WISH, signal.SIG_IGN)  # a child that cannot answer yet must not die of being asked
    children: dict[int, Path] = {}

    def note(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
                word = _last_word(children.pop(ended[0]), ended[0])
                fresh = word.with_suffix(".fresh")
                fresh.write_text(str(os.waitstatus_to_exitcode(ended[1])), "ascii")
                fresh.rename(word)

    signal.signal(signal.SIGCHLD, note)
    for line in sys.stdin:
        wish = json.loads(line)
        # Nobody may end before he is known.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            _live(program.SERVICE, service, **wish)
        children[pid] = Path(wish["log"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        print(pid, flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _live(service: object, name: str, *, role: str, env: Mapping[str, str], log: str, prepare: Sequence[str]) -> None:
    """What a child does instead of its parent's loop; it never returns."""
    code = 1
    try:
        os.setsid()
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), 1)):
            os.dup2(source, target)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(env)
        random.seed()
        sys.argv = [f"services.{name}.main", role]
        for module, _, function in (one.partition(":") for one in prepare):
            getattr(importlib.import_module(module), function)()
        importlib.import_module("shared.chassis.service").run(service)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  (a child must not go on as a second parent, whatever happens)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
