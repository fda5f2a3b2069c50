"""Pauses of services made shorter, because every run waits for them."""

from services.notifications import deliver
from services.reporting.publication import publisher
from shared.chassis import admission, relay

ROUND_S = 0.1
"""Pause between two rounds of whoever publishes figures or delivers mails, seconds."""

LOOKED_EVERY_S = 0.5
"""Pause between two looks at the servers' settings, and at a lease that another holds, seconds."""


def looking_soon() -> None:
    """What a service looks at now and then it looks at soon."""
    publisher.EVERY_S = deliver.EVERY_S = ROUND_S
    admission.LOOK_EVERY_S = admission.WAIT_S = relay.STANDBY_S = LOOKED_EVERY_S
