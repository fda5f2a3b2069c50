"""Pauses of services made shorter, because every run waits for them."""

from services.reporting.publication import publisher

PUBLISHED_EVERY_S = 0.3
"""Pause between two rounds of the publisher of figures, seconds."""


def publishing_soon() -> None:
    """Changed figures are published soon, not every two seconds."""
    publisher.EVERY_S = PUBLISHED_EVERY_S
