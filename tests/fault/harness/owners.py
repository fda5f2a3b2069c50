"""Which process a connection on this machine belongs to, from the kernel's tables; found once for each connection."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from tests.fault.harness.line import Line

_TABLE = Path("/proc/net/tcp")
"""All TCP sockets over IPv4; on the proxy's ways there are no others."""

_LOCAL_ADDRESS, _INODE = 1, 9
"""Columns."""

_LINK = "socket:["


def learn(lines: Iterable[Line], pids: Collection[int]) -> None:
    """Find out which of these processes, if any, each connection belongs to. The table is read once for all, and only if it must be."""
    unknown = [line for line in lines if line.owner is None and not line.asked_for.issuperset(pids)]
    if not unknown:
        return
    inodes = _inodes({line.port for line in unknown})
    owners = {inode: pid for pid in pids for inode in _sockets(pid)}
    for line in unknown:
        line.owner = next((owners[inode] for inode in inodes.get(line.port, ()) if inode in owners), None)
        line.asked_for.update(pids)


def _inodes(ports: Collection[int]) -> dict[int, list[str]]:
    """The sockets that are bound to each of these ports."""
    found: dict[int, list[str]] = {}
    for row in _TABLE.read_text("ascii").splitlines()[1:]:
        columns = row.split()
        port = int(columns[_LOCAL_ADDRESS].rpartition(":")[2], 16)
        if port in ports:
            found.setdefault(port, []).append(columns[_INODE])
    return found


def _sockets(pid: int) -> list[str]:
    """Inodes of a process's sockets; none when it has ended."""
    found = []
    with suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                link = str(handle.readlink())
                if link.startswith(_LINK):
                    found.append(link[len(_LINK) : -1])
    return found
