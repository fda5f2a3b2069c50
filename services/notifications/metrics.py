"""The closed list of this service's own metrics."""

from prometheus_client import Counter, Gauge

MESSAGES = Counter("notify_messages_total", "Messages written, by rule. A copy of an event writes none.", ["rule"])
DELIVERIES = Counter(
    "notify_deliveries_total",
    "Attempts to deliver by what came of them: sent, later, failed, answer_lost, unknown; unreachable counts sessions. "
    "Rising later or unreachable: the mail server. Rising failed: wrong addresses; read the reasons.",
    ["channel", "result"],
)
UNKNOWN = Gauge("notify_unknown", "Deliveries whose answer was lost twice. Not 0: a person looks at the mail server's log and decides.")
OLDEST_WAITING = Gauge("notify_oldest_waiting_seconds", "Age of the oldest message that is not delivered yet. High: the mail server.")
