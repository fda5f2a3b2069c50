"""A real SMTP server on loopback that can be told to refuse, to hang and to lose its answers."""

import asyncio
import email
import email.policy
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Post:
    """What the server has taken, and how it behaves.

    Attributes:
        mails: every mail it has taken, repeats included, in order.
        refusals: by address, what it answers to RCPT instead of 250.
        answers_to_lose: so many mails are taken, but the connection breaks instead of the answer.
        breaks_before_text: so many connections break at MAIL, before the text.
        silent: while True, a mail is taken and the answer does not come.
        refuses_sender: while True, MAIL is answered with 530.
        has_taken: set when a mail was taken.
        port: where it listens.
        connections: how many sessions there were.
    """

    mails: list[EmailMessage] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    answers_to_lose: int = 0
    breaks_before_text: int = 0
    silent: bool = False
    refuses_sender: bool = False
    has_taken: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    connections: int = 0

    @property
    def repeats(self) -> Counter[str]:
        """How often each Message-ID was taken."""
        return Counter(str(mail["Message-ID"]) for mail in self.mails)

    async def handle_EHLO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]) -> list[str]:  # noqa: N802
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        if self.breaks_before_text > 0:
            self.breaks_before_text -= 1
            _break(server)
        if self.refuses_sender:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.has_taken.set()
        if self.silent:
            await asyncio.Event().wait()
        if self.answers_to_lose > 0:
            self.answers_to_lose -= 1
            _break(server)
        return "250 OK"


def _break(server: SMTP) -> None:
    """End the connection without a word."""
    if isinstance(server.transport, asyncio.WriteTransport):
        server.transport.abort()


@asynccontextmanager
async def open_post(port: int = 0) -> AsyncIterator[Post]:
    """A server until the block ends; port 0 lets the system choose."""
    post = Post()
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def session() -> SMTP:
        sessions.append(SMTP(post, hostname="post.example", loop=loop))
        return sessions[-1]

    server = await loop.create_server(session, "127.0.0.1", port)
    post.port = server.sockets[0].getsockname()[1]
    try:
        yield post
    finally:
        server.close()
        for one in sessions:
            _break(one)
        await asyncio.sleep(0)
