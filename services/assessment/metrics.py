"""The closed list of this service's own metrics."""

from prometheus_client import Counter

OUTCOMES = Counter(
    "assessment_outcomes_total", "Outcome facts by what became of them: new, copy, refused. Rising refused: read the dead letters.", ["outcome"]
)
