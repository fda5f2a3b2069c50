"""The closed list of this service's own metrics."""

from prometheus_client import Counter, Gauge

MESSAGES = Counter("notify_messages_total", "Messages written, by rule. A copy of an event writes none.", ["rule"])
DELIVERIES = Counter(
    "notify_deliveries_total",
    "Attempts to deliver by what came of them: sent, later, failed, unknown. Rising later: the mail server.",
    ["channel", "result"],
)
UNKNOWN = Gauge("notify_unknown", "Deliveries whose answer was lost twice. Not 0: a person looks at the mail server's log and decides.")
