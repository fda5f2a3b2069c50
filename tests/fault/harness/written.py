"""Statements of the product that change something, read from its modules: what crash points must not miss."""

import importlib
import re

from deploy.local.layout import REPOSITORY
from tests.fault.harness.points import Point

_COMMENT = re.compile(r"--[^\n]*")
_CHANGES = re.compile(r"^(INSERT|UPDATE|DELETE|WITH .*\b(INSERT INTO|UPDATE|DELETE FROM)\b)")

BY_HAND = {
    "services.enrollment.registers.store._PUT_TERRITORY": "the command load-registers",
    "services.notifications.store._PUT_RECIPIENTS": "the command load-recipients",
    "services.notifications.store._DROP_OTHERS": "the command load-recipients",
    "services.notifications.store._DECIDE": "the command decide",
    "services.notifications.store._READ": "a mark that an office sets; setting it twice is setting it once",
    "services.reporting.rebuild.store._NOTE_DIFFERING": "the command rebuild",
    "services.reporting.rebuild.store._REMEMBER": "the command rebuild",
    "services.reporting.rebuild.store._MARK": "the command rebuild",
    "services.reporting.rebuild.store._RAISE_VERSION": "the command rebuild",
    "shared.chassis.decide._NOTE": "the commands accept-loss and accept-bad",
    "shared.chassis.decide._MOVE": "the command accept-loss",
    "shared.chassis.decide._SET_ASIDE_UNTIL": "the command accept-bad",
    "shared.chassis.offsets._CUT_BACK": "a service that stands still because a log was cut back; it looks, and says this, again and again",
    "shared.chassis.dead_letters._SETTLE_APPLIED": "a replay after a release has learned what it could not read before",
    "shared.chassis.letters.store._SETTLE": "a clerk who redrives or drops; what of it was not committed is done again",
    "shared.chassis.letters.store._REFUSED": "a clerk who redrives",
    "shared.chassis.letters.store._MEND": "a clerk who mends",
    "shared.chassis.letters.store._NOTE": "a clerk, whatever is done",
    "shared.chassis.lease._RELEASE": "a process that stops in order; one that does not is what the lease ends for",
}
"""Statements that no piece of work says, and who does; a command that dies is given again."""


def changing_statements() -> dict[str, str]:
    """Every constant of the services and the machinery that is a changing statement, on one line, by its name."""
    found: dict[str, str] = {}
    for path in [*(REPOSITORY / "services").rglob("store.py"), *(REPOSITORY / "shared" / "chassis").rglob("*.py")]:
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for constant, value in vars(importlib.import_module(name)).items():
            statement = " ".join(_COMMENT.sub("", value).split()) if isinstance(value, str) and constant.isupper() else ""
            if _CHANGES.match(statement):
                found[f"{name}.{constant}"] = statement
    return found


def missed(points: list[Point]) -> set[str]:
    """Names of changing statements that stand at no point and are not said by hand."""
    said = {statement for point in points for statement in point.statements}
    return {name for name, statement in changing_statements().items() if statement not in said} - BY_HAND.keys()
