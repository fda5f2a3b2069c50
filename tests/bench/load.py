"""Life stories for the bench: real shapes, any number of persons, the same every time."""

import csv
import random
from datetime import UTC, datetime, timedelta

from deploy.demo.facts import COURSES, Told
from deploy.local.layout import REPOSITORY

COPIES = 0.03


def communes() -> list[str]:
    """Codes of the register's communes."""
    with (REPOSITORY / "services" / "enrollment" / "registers" / "territory.csv").open(encoding="utf-8", newline="") as file:
        return sorted(row["code"] for row in csv.DictReader(file) if row["level"] == "commune")


def life_stories(persons: int, places: list[str], prefix: str = "bench") -> list[Told]:
    """Five facts per person (registered, enrolled, started twice, completed by two in three), shuffled, with 3 % copies."""
    chance = random.Random(11)  # noqa: S311  # reproducible, not secret
    told: list[Told] = []
    for number in range(persons):
        account, course = f"{prefix}-{number}", chance.choice(list(COURSES))
        at = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=chance.randrange(200_000))
        group = chance.choice(("CIT", "CIT", "STU", "PUB", "ENT"))
        residence = f'"residences": [{{"code": "{chance.choice(places)}", "valid_from": "2025-07-01"}}]'
        groups = f'"groups": [{{"group": "{group}", "valid_from": "2025-07-01"}}]'
        told.append(_told("learner.registered", account, at, "", f"{residence}, {groups}"))
        enrollment = f'"enrollment": "{account}-{course}"'
        told.append(_told("enrollment.registered", account, at, "", f'{enrollment}, "course": "{course}"'))
        told.extend(_told("enrollment.started", account, at + timedelta(days=chance.randrange(1, 20)), str(n), enrollment) for n in range(2))
        if number % 3:
            told.append(_told("completion.recorded", account, at + timedelta(days=60), "", f'{enrollment}, "course": "{course}"'))
    told += chance.sample(told, round(len(told) * COPIES))
    chance.shuffle(told)
    return told


def _told(kind: str, account: str, at: datetime, number: str, fields: str) -> Told:
    data = f'{{"account": "{account}", "occurred_at": "{at.isoformat()}", {fields}}}'
    return Told(f"vn.hocvu.platform.{kind}.v1", f"{kind}-{account}-{number}", account, at, data.encode())
