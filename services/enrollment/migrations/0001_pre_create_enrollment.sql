-- What platforms told, every fact once. Nothing is changed or deleted here.
CREATE TABLE fact (
    fact_id uuid NOT NULL,
    digest bytea NOT NULL,
    kind smallint NOT NULL,
    entity_id uuid NOT NULL,
    person_ref uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    content bytea NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    record_offset bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fact_pk PRIMARY KEY (fact_id)
);
CREATE INDEX fact_entity ON fact (entity_id);

-- Persons behind accounts, folded from their facts.
CREATE TABLE person (
    person_ref uuid NOT NULL,
    assurance smallint NOT NULL,
    residences jsonb NOT NULL,
    groups jsonb NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT person_pk PRIMARY KEY (person_ref)
) WITH (fillfactor = 80);

-- Enrollments, folded from their facts.
CREATE TABLE enrollment (
    enrollment_id uuid NOT NULL,
    person_ref uuid NOT NULL,
    course text,
    status text NOT NULL,
    registered_at timestamptz,
    started_at timestamptz,
    withdrawn_at timestamptz,
    version bigint NOT NULL,
    CONSTRAINT enrollment_pk PRIMARY KEY (enrollment_id),
    CONSTRAINT enrollment_status CHECK (status IN ('AWAITING', 'ACTIVE', 'CANCELLED', 'VOIDED'))
) WITH (fillfactor = 80);

-- The register of territory.
CREATE TABLE territory_unit (
    code text NOT NULL,
    level text NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    province text NOT NULL,
    valid_from date NOT NULL,
    valid_to date,
    version bigint NOT NULL,
    CONSTRAINT territory_unit_pk PRIMARY KEY (code),
    CONSTRAINT territory_unit_level CHECK (level IN ('province', 'commune'))
);

-- The register of courses.
CREATE TABLE course (
    code text NOT NULL,
    title text NOT NULL,
    launched_by text NOT NULL,
    course_sets text[] NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT course_pk PRIMARY KEY (code)
);
