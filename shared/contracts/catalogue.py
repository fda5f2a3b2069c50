"""Every event type on one page."""

from shared.contracts import assessment, enrollment, platform, reporting
from shared.contracts.envelope import by_name

EVENT_TYPES = by_name(platform.FACTS, enrollment.ENTITIES, enrollment.OUTCOMES, enrollment.REGISTERS, assessment.ENTITIES, reporting.EVENTS)
"""The whole catalogue by CloudEvents `type`."""
