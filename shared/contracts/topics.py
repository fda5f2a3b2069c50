"""The closed list of topics: who writes, who reads, by what they are keyed, how long they live. The stack creates exactly these."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

PERSON_PARTITIONS = 12
"""Partitions of every topic that is partitioned by account or person. Chosen once (adding partitions moves keys); 12 divides by 2, 3, 4 and 6."""

SMALL_PARTITIONS = 4
"""Partitions of topics with little traffic."""

RECORD_BYTES = 1_048_576
"""Largest value of a record that we write or accept, 1 MiB."""

REFUSED_RECORD_BYTES = 8 * 1_048_576
"""Largest batch of records, as compressed, that a broker takes on topics that strangers write to and on dead-letter topics,
8 MiB: what is too large for us must still arrive to be refused with a reason."""

DEAD_LETTER_BYTES = REFUSED_RECORD_BYTES + 131_072
"""Largest dead letter: the largest record a broker takes, and the headers that say why it was set aside."""

PROVINCE_CODES = (
    "01", "04", "08", "11", "12", "14", "15", "19", "20", "22", "24", "25", "31", "33", "37", "38", "40",
    "42", "44", "46", "48", "51", "52", "56", "66", "68", "75", "79", "80", "82", "86", "91", "92", "96",
)  # fmt: skip
"""The 34 provinces in force since 1 July 2025 (Decision 19/2025/QD-TTg); each has a topic of its own figures."""


PLATFORMS = "platforms"
"""Owner of topics that learning platforms and others outside write to."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the closed list.

    Attributes:
        name: hyphens only, because a dot and an underscore collide in metric names.
        owner: who writes (a service, or `PLATFORMS`).
        key: what the record key holds.
        partitioned_by: what decides the partition; readers may rely on order within it.
        partitions: chosen once.
        cleanup: Kafka's cleanup.policy.
        retention: for `delete`; None keeps for ever.
        readers: the consumer groups.
        max_bytes: largest record.
        meaning: one sentence.
        handed_over_by: services that write here too, what was handed to them over HTTP.
    """

    name: str
    owner: str
    key: str
    partitioned_by: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention: timedelta | None
    readers: tuple[str, ...]
    meaning: str
    max_bytes: int = RECORD_BYTES
    handed_over_by: tuple[str, ...] = ()

    @property
    def written_by_us(self) -> bool:
        """Whether one of our services writes here, so that our readers of yesterday meet our records of today."""
        return self.owner != PLATFORMS or bool(self.handed_over_by)

    def dead_letters(self, group: str) -> "Topic":
        """The topic where `group` sets aside what it cannot use of this one."""
        return Topic(
            name=f"{self.name}-{group}-dlq",
            owner=group,
            key="as the record",
            partitioned_by="as the record",
            partitions=SMALL_PARTITIONS,
            cleanup="delete",
            retention=timedelta(days=400),
            readers=(),
            meaning=f"Records of {self.name} that {group} set aside, with reason, original bytes, headers and position.",
            max_bytes=DEAD_LETTER_BYTES,
        )

    def config(self) -> dict[str, str]:
        """The topic's Kafka settings."""
        # A compacted record stays readable for a day after a newer one, so that an audit or a rebuild that reads up
        # to a moment finds what was the last record at that moment.
        settings = {"cleanup.policy": self.cleanup, "max.message.bytes": str(self.max_bytes + 65_536)}
        if self.cleanup == "compact":
            settings["min.compaction.lag.ms"] = str(int(timedelta(days=1).total_seconds() * 1000))
        elif self.retention is not None:
            settings["retention.ms"] = str(int(self.retention.total_seconds() * 1000))
        return settings


PLATFORM_EVENTS = Topic(
    "platform-events", PLATFORMS, "source and account", "source and account", PERSON_PARTITIONS, "delete", timedelta(days=30),
    ("enrollment",), "Facts of learning platforms, from Kafka, HTTP and files alike.", REFUSED_RECORD_BYTES, ("enrollment",),
)  # fmt: skip
ENROLLMENT_EVENTS = Topic(
    "enrollment-events", "enrollment", "entity id", "person_ref", PERSON_PARTITIONS, "compact", None,
    ("reporting",), "Persons and enrollments, whole, with their version.",
)  # fmt: skip
REGISTRY_EVENTS = Topic(
    "registry-events", "enrollment", "kind and code", "kind and code", SMALL_PARTITIONS, "compact", None,
    ("reporting",), "The registers of territory and courses.",
)  # fmt: skip
OUTCOME_FACTS = Topic(
    "outcome-facts", "enrollment", "fact id", "person_ref", PERSON_PARTITIONS, "delete", timedelta(days=90),
    ("assessment",), "What platforms said about outcomes, with the person's pseudonym.",
)  # fmt: skip
ASSESSMENT_EVENTS = Topic(
    "assessment-events", "assessment", "entity id", "person_ref", PERSON_PARTITIONS, "compact", None,
    ("reporting",), "Completions, whole, with their version.",
)  # fmt: skip
TASK_UPDATES = Topic(
    "task-updates", PLATFORMS, "task instance", "task instance", SMALL_PARTITIONS, "delete", timedelta(days=90),
    (), "Task progress from provinces' and units' own systems. No writer or reader yet.", REFUSED_RECORD_BYTES,
)  # fmt: skip
PLAN_EVENTS = Topic(
    "plan-events", "reporting", "document", "document", SMALL_PARTITIONS, "compact", None, (), "Plans and targets. No writer or reader yet.",
)  # fmt: skip
TASK_EVENTS = Topic(
    "task-events", "reporting", "task instance", "task instance", SMALL_PARTITIONS, "compact", None, (), "Task instances. No writer or reader yet.",
)  # fmt: skip
REPORT_EVENTS = Topic(
    "report-events", "reporting", "report id", "report id", SMALL_PARTITIONS, "delete", timedelta(days=400),
    ("notifications",), "The life of reports.",
)  # fmt: skip
FIGURES = Topic(
    "figures", "reporting", "cell", "cell", SMALL_PARTITIONS, "compact", None, (), "Figures of the nation and the provinces, absolute, with version.",
)  # fmt: skip
PROVINCE_FIGURES = tuple(
    Topic(
        f"figures-{code}", "reporting", "cell", "cell", 1, "compact", None, (), f"Figures below province {code}. No writer yet.",
    )
    for code in PROVINCE_CODES
)  # fmt: skip

EVENT_TOPICS = (
    PLATFORM_EVENTS, ENROLLMENT_EVENTS, REGISTRY_EVENTS, OUTCOME_FACTS, ASSESSMENT_EVENTS,
    TASK_UPDATES, PLAN_EVENTS, TASK_EVENTS, REPORT_EVENTS, FIGURES, *PROVINCE_FIGURES,
)  # fmt: skip
"""Every topic that carries events."""

TOPICS = EVENT_TOPICS + tuple(topic.dead_letters(group) for topic in EVENT_TOPICS for group in topic.readers)
"""The closed list, dead letters included."""
