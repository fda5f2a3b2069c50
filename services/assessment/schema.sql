CREATE TABLE public.completion (
    enrollment_id uuid NOT NULL,
    person_ref uuid NOT NULL,
    course text NOT NULL,
    completed_at timestamp with time zone,
    version bigint NOT NULL
)
WITH (fillfactor='80');
CREATE TABLE public.consumed_offset (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    moved_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.dead_letter (
    dead_letter_id bigint NOT NULL,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    event_type text,
    key bytea,
    value bytea,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.dead_letter ALTER COLUMN dead_letter_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dead_letter_dead_letter_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.lease (
    name text NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.outbox (
    seq bigint NOT NULL,
    topic text NOT NULL,
    partition integer,
    key bytea,
    headers bytea NOT NULL,
    value bytea,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_cost_delay='0');
ALTER TABLE public.outbox ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.outcome_fact (
    fact_id uuid NOT NULL,
    kind smallint NOT NULL,
    enrollment_id uuid NOT NULL,
    person_ref uuid NOT NULL,
    course text NOT NULL,
    source text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.schema_migration (
    room text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.completion
    ADD CONSTRAINT completion_pk PRIMARY KEY (enrollment_id);
ALTER TABLE ONLY public.consumed_offset
    ADD CONSTRAINT consumed_offset_pk PRIMARY KEY (consumer_group, topic, partition);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_pk PRIMARY KEY (dead_letter_id);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_position UNIQUE (consumer_group, topic, partition, record_offset);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pk PRIMARY KEY (name);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pk PRIMARY KEY (seq);
ALTER TABLE ONLY public.outcome_fact
    ADD CONSTRAINT outcome_fact_pk PRIMARY KEY (fact_id);
ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pk PRIMARY KEY (room, name);
CREATE INDEX outcome_fact_enrollment ON public.outcome_fact USING btree (enrollment_id);
