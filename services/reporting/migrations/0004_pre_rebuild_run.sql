-- What the rebuilds found: names of the tables that were not byte for byte what was made again.
CREATE TABLE rebuild_run (
    rebuild_run_id bigint GENERATED ALWAYS AS IDENTITY,
    ended_at timestamptz NOT NULL,
    records bigint NOT NULL,
    differing text[] NOT NULL,
    figures_differing bigint NOT NULL,
    seconds double precision NOT NULL,
    switch_seconds double precision NOT NULL,
    CONSTRAINT rebuild_run_pk PRIMARY KEY (rebuild_run_id)
);
