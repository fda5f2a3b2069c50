-- Machinery tables that stand in every service's database.

-- How far each partition has been applied. The row moves in the transaction of the effect.
CREATE TABLE consumed_offset (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT consumed_offset_pk PRIMARY KEY (consumer_group, topic, partition)
) WITH (fillfactor = 50);

-- Events that are true but not yet published. The relay reads in order of seq and deletes what the broker has.
CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    topic text NOT NULL,
    partition int,
    key bytea,
    headers bytea NOT NULL,
    value bytea,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_pk PRIMARY KEY (seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- Records set aside, with all that is needed to read them, mend them and put them back.
CREATE TABLE dead_letter (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    record_offset bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    event_type text,
    key bytea,
    value bytea,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letter_pk PRIMARY KEY (dead_letter_id),
    CONSTRAINT dead_letter_position UNIQUE (consumer_group, topic, partition, record_offset)
);

-- Work that one process at a time should do.
CREATE TABLE lease (
    name text NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT lease_pk PRIMARY KEY (name)
);
