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
CREATE TABLE public.delivery (
    message_id uuid NOT NULL,
    channel text NOT NULL,
    state text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    lost_answers integer DEFAULT 0 NOT NULL,
    token bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone,
    next_attempt_at timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    reason text,
    CONSTRAINT delivery_state CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'sent'::text, 'failed'::text, 'unknown'::text])))
);
CREATE TABLE public.lease (
    name text NOT NULL,
    holder text NOT NULL,
    token bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.message (
    message_id uuid NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    recipient text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    read_at timestamp with time zone
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
CREATE TABLE public.recipient (
    recipient text NOT NULL,
    name_vi text NOT NULL,
    scope text NOT NULL,
    address text NOT NULL
);
CREATE TABLE public.schema_migration (
    room text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY public.consumed_offset
    ADD CONSTRAINT consumed_offset_pk PRIMARY KEY (consumer_group, topic, partition);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_pk PRIMARY KEY (dead_letter_id);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_position UNIQUE (consumer_group, topic, partition, record_offset);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_pk PRIMARY KEY (message_id);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pk PRIMARY KEY (name);
ALTER TABLE ONLY public.message
    ADD CONSTRAINT message_once UNIQUE (rule, subject, recipient);
ALTER TABLE ONLY public.message
    ADD CONSTRAINT message_pk PRIMARY KEY (message_id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pk PRIMARY KEY (seq);
ALTER TABLE ONLY public.recipient
    ADD CONSTRAINT recipient_pk PRIMARY KEY (recipient);
ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pk PRIMARY KEY (room, name);
CREATE INDEX delivery_due ON public.delivery USING btree (next_attempt_at) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text]));
CREATE INDEX delivery_unknown ON public.delivery USING btree (message_id) WHERE (state = 'unknown'::text);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_message_id_fkey FOREIGN KEY (message_id) REFERENCES public.message(message_id);
