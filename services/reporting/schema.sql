CREATE TABLE public.audit_run (
    audit_run_id bigint NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    cells_compared bigint NOT NULL,
    cells_differing bigint NOT NULL,
    seconds double precision NOT NULL
);
ALTER TABLE public.audit_run ALTER COLUMN audit_run_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_run_audit_run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.awaiting (
    code text NOT NULL COLLATE pg_catalog."C",
    person_ref uuid NOT NULL
);
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
CREATE TABLE public.course (
    code text NOT NULL,
    title text NOT NULL,
    launched_by text NOT NULL,
    course_sets text[] NOT NULL,
    version bigint NOT NULL
);
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
CREATE TABLE public.figure (
    indicator text NOT NULL COLLATE pg_catalog."C",
    course_set text NOT NULL COLLATE pg_catalog."C",
    node text NOT NULL COLLATE pg_catalog."C",
    day date NOT NULL,
    n_all integer NOT NULL,
    n_cit integer NOT NULL,
    n_stu integer NOT NULL,
    n_pub integer NOT NULL,
    n_ent integer NOT NULL,
    n_ungrouped integer NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.figure_change (
    indicator text NOT NULL COLLATE pg_catalog."C",
    course_set text NOT NULL COLLATE pg_catalog."C",
    node text NOT NULL COLLATE pg_catalog."C",
    day date NOT NULL
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
CREATE TABLE public.person_document (
    person_ref uuid NOT NULL,
    document bytea NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.published_figure (
    cell text NOT NULL COLLATE pg_catalog."C",
    digest bytea NOT NULL,
    version bigint NOT NULL
);
CREATE TABLE public.rebuild_run (
    rebuild_run_id bigint NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    records bigint NOT NULL,
    differing text[] NOT NULL,
    figures_differing bigint NOT NULL,
    seconds double precision NOT NULL,
    switch_seconds double precision NOT NULL
);
ALTER TABLE public.rebuild_run ALTER COLUMN rebuild_run_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.rebuild_run_rebuild_run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.register_version (
    version bigint NOT NULL
);
CREATE TABLE public.report (
    report_id uuid NOT NULL,
    definition text NOT NULL,
    scope text NOT NULL,
    period text NOT NULL,
    first_day date NOT NULL,
    last_day date NOT NULL,
    frozen_at timestamp with time zone NOT NULL,
    data_as_of jsonb NOT NULL,
    figures integer NOT NULL,
    sha256 text NOT NULL,
    version bigint NOT NULL
);
CREATE TABLE public.report_figure (
    report_id uuid NOT NULL,
    indicator text NOT NULL COLLATE pg_catalog."C",
    course_set text NOT NULL COLLATE pg_catalog."C",
    node text NOT NULL COLLATE pg_catalog."C",
    n_all bigint NOT NULL,
    n_cit bigint NOT NULL,
    n_stu bigint NOT NULL,
    n_pub bigint NOT NULL,
    n_ent bigint NOT NULL,
    n_ungrouped bigint NOT NULL
);
CREATE TABLE public.report_place (
    report_id uuid NOT NULL,
    node text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL
);
CREATE TABLE public.schema_migration (
    room text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.territory_unit (
    code text NOT NULL,
    level text NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    province text NOT NULL,
    version bigint NOT NULL
);
ALTER TABLE ONLY public.audit_run
    ADD CONSTRAINT audit_run_pk PRIMARY KEY (audit_run_id);
ALTER TABLE ONLY public.awaiting
    ADD CONSTRAINT awaiting_pk PRIMARY KEY (code, person_ref);
ALTER TABLE ONLY public.consumed_offset
    ADD CONSTRAINT consumed_offset_pk PRIMARY KEY (consumer_group, topic, partition);
ALTER TABLE ONLY public.course
    ADD CONSTRAINT course_pk PRIMARY KEY (code);
ALTER TABLE ONLY public.dead_letter_act
    ADD CONSTRAINT dead_letter_act_pk PRIMARY KEY (act_id);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_pk PRIMARY KEY (dead_letter_id);
ALTER TABLE ONLY public.dead_letter
    ADD CONSTRAINT dead_letter_position UNIQUE (consumer_group, topic, partition, era, record_offset);
ALTER TABLE ONLY public.figure
    ADD CONSTRAINT figure_pk PRIMARY KEY (node, indicator, course_set, day);
ALTER TABLE ONLY public.halt_decision
    ADD CONSTRAINT halt_decision_pk PRIMARY KEY (halt_decision_id);
ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pk PRIMARY KEY (name);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pk PRIMARY KEY (seq);
ALTER TABLE ONLY public.person_document
    ADD CONSTRAINT person_document_pk PRIMARY KEY (person_ref);
ALTER TABLE ONLY public.published_figure
    ADD CONSTRAINT published_figure_pk PRIMARY KEY (cell);
ALTER TABLE ONLY public.rebuild_run
    ADD CONSTRAINT rebuild_run_pk PRIMARY KEY (rebuild_run_id);
ALTER TABLE ONLY public.report_figure
    ADD CONSTRAINT report_figure_pk PRIMARY KEY (report_id, indicator, course_set, node);
ALTER TABLE ONLY public.report
    ADD CONSTRAINT report_pk PRIMARY KEY (report_id);
ALTER TABLE ONLY public.report_place
    ADD CONSTRAINT report_place_pk PRIMARY KEY (report_id, node);
ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pk PRIMARY KEY (room, name);
ALTER TABLE ONLY public.territory_unit
    ADD CONSTRAINT territory_unit_pk PRIMARY KEY (code);
CREATE INDEX dead_letter_act_of ON public.dead_letter_act USING btree (dead_letter_id, act_id);
CREATE INDEX dead_letter_open ON public.dead_letter USING btree (dead_letter_id) INCLUDE (consumer_group, reason) WHERE (state = 'open'::text);
ALTER TABLE ONLY public.dead_letter_act
    ADD CONSTRAINT dead_letter_act_letter FOREIGN KEY (dead_letter_id) REFERENCES public.dead_letter(dead_letter_id);
ALTER TABLE ONLY public.report_figure
    ADD CONSTRAINT report_figure_report_id_fkey FOREIGN KEY (report_id) REFERENCES public.report(report_id);
ALTER TABLE ONLY public.report_place
    ADD CONSTRAINT report_place_report_id_fkey FOREIGN KEY (report_id) REFERENCES public.report(report_id);
