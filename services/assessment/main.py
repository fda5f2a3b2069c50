"""Wiring of assessment: what it reads and what it serves."""

from pathlib import Path

from fastapi import FastAPI

from services.assessment.api import create_router
from services.assessment.handlers import on_outcome_facts
from services.assessment.reasons import REASONS
from services.assessment.settings import AssessmentSettings
from shared.chassis.consume import Subscription
from shared.chassis.service import Runtime, Service, run
from shared.contracts.enrollment import OUTCOMES
from shared.contracts.topics import OUTCOME_FACTS


def subscriptions(runtime: Runtime) -> list[Subscription]:
    """What assessment reads."""
    return [Subscription(OUTCOME_FACTS, dict.fromkeys(OUTCOMES, on_outcome_facts(runtime.clock)))]


def routes(app: FastAPI, runtime: Runtime) -> None:
    """What assessment serves."""
    app.include_router(create_router(runtime))


SERVICE = Service(
    name="assessment",
    title="hocvu assessment",
    settings=AssessmentSettings,
    migrations=Path(__file__).parent / "migrations",
    subscriptions=subscriptions,
    routes=routes,
    reasons=REASONS,
)
"""The service, for the chassis and for tests."""

if __name__ == "__main__":
    run(SERVICE)
