"""What a consumer lets readiness see of its work."""

import time
from dataclasses import dataclass, field

from shared.chassis.stops import Stop


@dataclass(slots=True)
class Progress:
    """What readiness looks at: not whether a connection stands, but whether work gets done."""

    joined: bool = False
    working_since: float | None = None
    last_done: float = field(default_factory=time.monotonic)
    lag: dict[int, int] = field(default_factory=dict)
    moved_at: dict[int, float] = field(default_factory=dict)
    measured_at: float = field(default_factory=time.monotonic)
    halted: dict[int, Stop] = field(default_factory=dict)
    gone: Stop | None = None
    trouble: str | None = None
