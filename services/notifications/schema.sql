CREATE TABLE public.consumed_offset (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    moved_at timestamp with time zone DEFAULT now() NOT NULL,
    topic_id uuid,
    first_offset bigint,
    cut_back_to bigint,
    bad_until bigint DEFAULT 0 NOT NULL,
    era integer DEFAULT 0 NOT NULL
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
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    settled_at timestamp with time zone,
    settled_by text,
    edited_at timestamp with time zone,
    edited_by text,
    edited_value bytea,
    edited_header_names text[],
    edited_header_values bytea[],
    era integer DEFAULT 0 NOT NULL,
    CONSTRAINT dead_letter_edited CHECK ((((edited_at IS NULL) = (edited_by IS NULL)) AND ((edited_at IS NULL) = (edited_header_names IS NULL)) AND ((edited_at IS NULL) = (edited_header_values IS NULL)))),
    CONSTRAINT dead_letter_settled CHECK ((((state = 'open'::text) = (settled_at IS NULL)) AND ((settled_at IS NULL) = (settled_by IS NULL)))),
    CONSTRAINT dead_letter_state CHECK ((state = ANY (ARRAY['open'::text, 'redriven'::text, 'dropped'::text])))
);
CREATE TABLE public.dead_letter_act (
    act_id bigint NOT NULL,
    dead_letter_id bigint NOT NULL,
    act text NOT NULL,
    done_by text NOT NULL,
    done_at timestamp with time zone DEFAULT now() NOT NULL,
    why text,
    changed text[],
    outcome text NOT NULL,
    CONSTRAINT dead_letter_act_kind CHECK ((act = ANY (ARRAY['edit'::text, 'redrive'::text, 'drop'::text])))
);
ALTER TABLE public.dead_letter_act ALTER COLUMN act_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dead_letter_act_act_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
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
CREATE TABLE public.halt_decision (
    halt_decision_id bigint NOT NULL,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    reason text NOT NULL,
    told text NOT NULL,
    offset_before bigint NOT NULL,
    offset_after bigint NOT NULL,
    topic_id_before uuid,
    topic_id_after uuid NOT NULL,
    decided_by text NOT NULL,
    why text NOT NULL,
    decided_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.halt_decision ALTER COLUMN halt_decision_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.halt_decision_halt_decision_id_seq
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
ALTER TABLE ONLY public.dead_letter_act
    ADD CONSTRAINT dead_letter_act_pk PRIMARY KEY (act_id);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_pk PRIMARY KEY (dead_letter_id);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_position UNIQUE (consumer_group, topic, partition, era, record_offset);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_pk PRIMARY KEY (message_id);
ALTER TABLE ONLY public.halt_decision
    ADD CONSTRAINT halt_decision_pk PRIMARY KEY (halt_decision_id);
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
CREATE INDEX dead_letter_act_of ON public.dead_letter_act USING btree (dead_letter_id, act_id);
CREATE INDEX dead_letter_open ON public.dead_letter USING btree (dead_letter_id) INCLUDE (consumer_group, reason) WHERE (state = 'open'::text);
CREATE INDEX delivery_due ON public.delivery USING btree (next_attempt_at) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text]));
CREATE INDEX delivery_unknown ON public.delivery USING btree (message_id) WHERE (state = 'unknown'::text);
ALTER TABLE ONLY public.dead_letter_act
    ADD CONSTRAINT dead_letter_act_letter FOREIGN KEY (dead_letter_id) REFERENCES public.dead_letter(dead_letter_id);
ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_message_id_fkey FOREIGN KEY (message_id) REFERENCES public.message(message_id);
