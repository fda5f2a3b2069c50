"""Mail by SMTP: one connection for a batch, a stable Message-ID, and an honest answer to what became of each message."""

from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from services.notifications.domain import AnswerLost, Later, Never, Outcome, Sent
from services.notifications.settings import NotificationsSettings
from services.notifications.store import Claimed

_PERMANENT = 500
"""SMTP reply codes from here on mean never (RFC 5321, 4.2.1)."""


async def send(settings: NotificationsSettings, batch: Sequence[Claimed]) -> list[Outcome]:
    """Hand messages over, in order; the outcome of each. Never raises."""
    client = aiosmtplib.SMTP(hostname=settings.smtp_host, port=settings.smtp_port, timeout=settings.smtp_timeout_s, use_tls=False)
    try:
        await client.connect()
    except (aiosmtplib.SMTPException, OSError) as error:
        return [Later(f"the mail server cannot be reached ({type(error).__name__})")] * len(batch)
    outcomes: list[Outcome] = []
    for claimed in batch:
        if client.is_connected:
            outcomes.append(await _send_one(client, settings, claimed))
        else:
            outcomes.append(Later("the connection to the mail server was lost before this message"))
    try:
        await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        client.close()
    return outcomes


async def _send_one(client: aiosmtplib.SMTP, settings: NotificationsSettings, claimed: Claimed) -> Outcome:
    try:
        await client.send_message(_mail(settings, claimed))
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [refused.code for refused in error.recipients]
        return Never("the mail server refuses the address") if min(codes) >= _PERMANENT else Later("the mail server defers the address")
    except aiosmtplib.SMTPResponseException as error:
        return Never(f"the mail server says {error.code}") if error.code >= _PERMANENT else Later(f"the mail server says {error.code}")
    except (aiosmtplib.SMTPException, OSError) as error:
        client.close()
        return AnswerLost(type(error).__name__)
    return Sent()


def _mail(settings: NotificationsSettings, claimed: Claimed) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = settings.mail_from
    mail["To"] = claimed.address
    mail["Subject"] = claimed.title
    mail["Date"] = format_datetime(claimed.created_at)
    mail["Message-ID"] = f"<{claimed.message_id}@{settings.mail_domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(claimed.body)
    return mail
