"""Pauses of services made shorter, because every run waits for them."""

from services.reporting.publication import publisher
from shared.chassis import admission, relay

PUBLISHED_EVERY_S = 0.3
"""Pause between two rounds of the publisher of figures, seconds."""


LOOKED_EVERY_S = 0.5
"""Pause between two looks at the servers' settings, and at a lease that another holds, seconds."""


def looking_soon() -> None:
    """What a service looks at now and then it looks at soon."""
    publisher.EVERY_S = PUBLISHED_EVERY_S
    admission.LOOK_EVERY_S = admission.WAIT_S = relay.STANDBY_S = LOOKED_EVERY_S
