"""Who must know of an event, and when a delivery is tried again: pure rules."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

MESSAGES = uuid.UUID("c2e1f0f5-1a0d-5b4e-8a35-4f2f9f1b7a10")
"""Namespace of message ids."""

REPORT_FROZEN = "report-frozen"
"""The rule: when a report is frozen, everybody whose scope it touches is told."""

NATION = "VN"

State = Literal["pending", "sending", "sent", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Recipient:
    """An office that is told of things. Role addresses only, no persons.

    Attributes:
        recipient: short code.
        name_vi: the office's name.
        scope: node of the territory it answers for.
        address: mail address of the office.
    """

    recipient: str
    name_vi: str
    scope: str
    address: str


_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_SCOPE = re.compile(r"VN(/[0-9]{2}(/[0-9]{5})?)?")
_ADDRESS = re.compile(r"[A-Za-z0-9._+=-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def mistakes(offices: Sequence[Recipient]) -> list[str]:
    """What is wrong with a list of offices, one sentence each; empty when it can be used."""
    found = [] if offices else ["the list names no office; nobody would be told of anything"]
    for number, office in enumerate(offices, 1):
        checks = ((_CODE, office.recipient, "recipient"), (_NAME, office.name_vi, "name_vi"), (_SCOPE, office.scope, "scope"))
        found += [f"office {number}: {field} cannot be used" for rule, text, field in checks if not rule.fullmatch(text)]
        if not _ADDRESS.fullmatch(office.address):
            found.append(f"office {number}: address is not a mail address in ASCII")
    codes = [office.recipient for office in offices]
    found += [f"recipient {code} stands {codes.count(code)} times" for code in sorted(set(codes)) if codes.count(code) > 1]
    return found


def concerns(scope: str, recipient: Recipient) -> bool:
    """Whether something about a node concerns an office: its own node, one below it, or one above it."""
    mine = recipient.scope
    return scope == mine or scope.startswith(f"{mine}/") or mine.startswith(f"{scope}/")


def message_id(rule: str, subject: str, recipient: str) -> uuid.UUID:
    """The id of a message: one per (rule, subject, recipient), however often the event comes."""
    return uuid.uuid5(MESSAGES, f"{rule}\0{subject}\0{recipient}")


LOST_ANSWERS = 2
"""After a lost answer the mail is sent once more under the same Message-ID; after the second it is unknown (decision 0007)."""

_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(hours=1)


def pause(attempts: int) -> timedelta:
    """How long to wait after the n-th attempt that was refused for now: 5 s, doubling, at most an hour."""
    doublings = min(max(attempts, 1) - 1, 20)
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << doublings))


@dataclass(frozen=True, slots=True)
class Sent:
    """The server has it."""


@dataclass(frozen=True, slots=True)
class Later:
    """The server said not now, or could not be reached; it does not have the message."""

    reason: str


@dataclass(frozen=True, slots=True)
class Never:
    """The server said no for good."""

    reason: str


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The message was handed over, the answer did not come: the server may have it."""

    reason: str


Outcome = Sent | Later | Never | AnswerLost


def next_state(outcome: Outcome, lost_before: int) -> State:
    """What a delivery is after an attempt."""
    match outcome:
        case Sent():
            return "sent"
        case Later():
            return "pending"
        case Never():
            return "failed"
        case AnswerLost():
            return "unknown" if lost_before + 1 >= LOST_ANSWERS else "pending"
