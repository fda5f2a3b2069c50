"""A real SMTP server for the local stack: every mail it takes becomes a file, so that a person and a test can read it."""

import asyncio
import signal
import sys
from pathlib import Path

from aiosmtpd.controller import UnthreadedController
from aiosmtpd.smtp import SMTP, Envelope, Session


class Folder:
    """Takes every mail and keeps it as <number>.eml."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # the library's name
        """Store a mail; the sender hears 250 only when it is on disk."""
        number = sum(1 for _ in self._folder.glob("*.eml"))
        target = self._folder / f"{number:06d}.eml"
        while target.exists():
            number += 1
            target = self._folder / f"{number:06d}.eml"
        target.write_bytes(envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode())
        return "250 OK"


async def serve(port: int, folder: Path) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    controller = UnthreadedController(Folder(folder), hostname="127.0.0.1", port=port, loop=asyncio.get_running_loop())
    server = await controller._create_server()  # its public begin() would run the loop itself
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
