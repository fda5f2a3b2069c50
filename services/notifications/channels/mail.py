"""Mail by SMTP: one connection for many messages, a stable Message-ID, and an honest answer to what became of each message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as WIRE_FORM
from email.utils import format_datetime

import aiosmtplib

from services.notifications.domain import AnswerLost, Later, Never, Outcome, Sent
from services.notifications.store import Claimed

_REFUSED_FOR_NOW = 400
_REFUSED_FOR_GOOD = 500
"""SMTP reply codes from here on mean not now, and never (RFC 5321, 4.2.1)."""


@dataclass(frozen=True, slots=True)
class Server:
    """The mail server, and who we are to it.

    Attributes:
        host: where it is.
        port: its port; not the one that begins encrypted (465).
        username: our name there; with one STARTTLS is required.
        password: our password there.
        timeout_s: longest time for one mail, seconds.
        sender: sender address.
        domain: right side of Message-IDs, and our name to the mail server.
    """

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    timeout_s: float
    sender: str
    domain: str


class Unreachable(Exception):
    """The mail server does not let us in; no message was handed over."""


class Connection:
    """An open session with the mail server."""

    def __init__(self, client: aiosmtplib.SMTP, server: Server) -> None:
        self._client = client
        self._server = server

    @property
    def usable(self) -> bool:
        """Whether another message can be sent over it."""
        return self._client.is_connected

    async def send(self, claimed: Claimed, address: str) -> Outcome:
        """Hand one message over, within the server's `timeout_s` in all. Never raises for what a server or a message can do.

        The answer is lost only where the text may have been handed over: a connection that breaks before that leaves
        the server with nothing, and so does every refusal.
        """
        try:
            text = _mail(self._server, claimed, address).as_bytes()
        except (ValueError, LookupError) as error:
            return Never(f"the mail cannot be written ({type(error).__name__})")
        handed_over = False
        try:
            async with asyncio.timeout(self._server.timeout_s):
                await self._client.mail(self._server.sender)
                await self._client.rcpt(address)
                handed_over = True
                await self._client.data(text)
        except aiosmtplib.SMTPResponseException as error:
            await self._start_over()
            return _read(error, handed_over=handed_over)
        except (aiosmtplib.SMTPException, OSError, UnicodeError) as error:
            self._client.close()
            reason = f"the connection to the mail server broke ({type(error).__name__})"
            return AnswerLost(reason) if handed_over else Later(reason)
        return Sent()

    async def _start_over(self) -> None:
        """Make the session fit for the next message; a session that is not is closed, and what was answered stays."""
        try:
            await self._client.rset()
        except (aiosmtplib.SMTPException, OSError):
            self._client.close()


@asynccontextmanager
async def connection(server: Server) -> AsyncIterator[Connection]:
    """Open a session, encrypted if the server can; with a user name it must be.

    Raises:
        Unreachable: nobody answers, or the server refuses the session.
    """
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        timeout=server.timeout_s,
        start_tls=True if server.username else None,
        username=server.username,
        password=server.password,
        # The name for EHLO; the library would ask the resolver, which can hang.
        local_hostname=server.domain,
    )
    try:
        await client.connect()
    except (aiosmtplib.SMTPException, OSError) as error:
        client.close()
        raise Unreachable(type(error).__name__) from error
    try:
        yield Connection(client, server)
    finally:
        try:
            if client.is_connected:
                await client.quit()
        except (aiosmtplib.SMTPException, OSError):
            client.close()


def _read(error: aiosmtplib.SMTPResponseException, *, handed_over: bool) -> Outcome:
    """What a reply other than the expected one means for the message."""
    if error.code >= _REFUSED_FOR_GOOD:
        if isinstance(error, aiosmtplib.SMTPRecipientRefused):
            return Never(f"the mail server refuses the address ({error.code})")
        # A refusal before the address is about us (sender, encryption, login), not about the message: that is mended.
        return Never(f"the mail server refuses the mail ({error.code})") if handed_over else Later(f"the mail server refuses us ({error.code})")
    if error.code >= _REFUSED_FOR_NOW or not handed_over:
        return Later(f"the mail server says not now ({error.code})")
    return AnswerLost(f"the mail server's answer cannot be read ({error.code})")


def _mail(server: Server, claimed: Claimed, address: str) -> EmailMessage:
    mail = EmailMessage(policy=WIRE_FORM)
    mail["From"] = server.sender
    mail["To"] = address
    mail["Subject"] = claimed.title
    mail["Date"] = format_datetime(claimed.created_at)
    mail["Message-ID"] = f"<{claimed.message_id}@{server.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    # Quoted-printable passes servers that cannot do 8 bits.
    mail.set_content(claimed.body, cte="quoted-printable")
    return mail
