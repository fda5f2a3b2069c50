-- Whose offsets these are, and what a person has decided about records that are gone.

ALTER TABLE consumed_offset
    -- Kafka's id of the topic the partition was begun on; empty in rows from before it was noted.
    ADD COLUMN topic_id uuid,
    -- Where the partition was begun; above 0, older records were gone before the group came.
    ADD COLUMN first_offset bigint,
    -- Where the log once ended although more had been applied.
    ADD COLUMN cut_back_to bigint,
    -- Bad records before this offset may all be set aside; the fuse does not count them.
    ADD COLUMN bad_until bigint NOT NULL DEFAULT 0,
    -- How often the offsets of the partition have begun to come again, on a topic that was made again or a log that was cut back.
    ADD COLUMN era int NOT NULL DEFAULT 0;

-- The position of a dead letter names one record of an era only.
ALTER TABLE dead_letter
    ADD COLUMN era int NOT NULL DEFAULT 0,
    DROP CONSTRAINT dead_letter_position,
    ADD CONSTRAINT dead_letter_position UNIQUE (consumer_group, topic, partition, era, record_offset);

-- Who let a partition go on that stood still, and why.
CREATE TABLE halt_decision (
    halt_decision_id bigint GENERATED ALWAYS AS IDENTITY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    reason text NOT NULL,
    told text NOT NULL,
    offset_before bigint NOT NULL,
    offset_after bigint NOT NULL,
    topic_id_before uuid,
    topic_id_after uuid NOT NULL,
    decided_by text NOT NULL,
    why text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT halt_decision_pk PRIMARY KEY (halt_decision_id)
);
