"""The closed list of this service's own metrics."""

from prometheus_client import Counter

FACTS = Counter(
    "enrollment_facts_total",
    "Facts by outcome: new, copy, refused. Many copies: a platform sends everything twice; harmless.",
    ["outcome"],
)
IDS_REUSED = Counter(
    "enrollment_ids_reused_total",
    "Facts that came with the id of another fact. Not 0: a platform's exporter is broken; read the dead letters and call its owner.",
)
