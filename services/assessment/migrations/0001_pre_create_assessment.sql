-- What platforms said about outcomes, every fact once. Nothing is changed or deleted here.
CREATE TABLE outcome_fact (
    fact_id uuid NOT NULL,
    kind smallint NOT NULL,
    enrollment_id uuid NOT NULL,
    person_ref uuid NOT NULL,
    course text NOT NULL,
    source text NOT NULL,
    occurred_at timestamptz NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    record_offset bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outcome_fact_pk PRIMARY KEY (fact_id)
);
CREATE INDEX outcome_fact_enrollment ON outcome_fact (enrollment_id);

-- Completions, folded from their facts.
CREATE TABLE completion (
    enrollment_id uuid NOT NULL,
    person_ref uuid NOT NULL,
    course text NOT NULL,
    completed_at timestamptz,
    version bigint NOT NULL,
    CONSTRAINT completion_pk PRIMARY KEY (enrollment_id)
) WITH (fillfactor = 80);
