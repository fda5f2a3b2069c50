-- Everything known of one person, packed: all entities at their highest version. Nothing else is stored per person.
CREATE TABLE person_document (
    person_ref uuid NOT NULL,
    document bytea NOT NULL,
    CONSTRAINT person_document_pk PRIMARY KEY (person_ref)
) WITH (fillfactor = 70);

-- What the figures changed by on a day, at every node. A stock is the running sum, a flow the sum over a period.
CREATE TABLE figure (
    indicator text COLLATE "C" NOT NULL,
    course_set text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    day date NOT NULL,
    n_all int NOT NULL,
    n_cit int NOT NULL,
    n_stu int NOT NULL,
    n_pub int NOT NULL,
    n_ent int NOT NULL,
    n_ungrouped int NOT NULL,
    CONSTRAINT figure_pk PRIMARY KEY (indicator, course_set, node, day)
) WITH (fillfactor = 70);
CREATE INDEX figure_node ON figure (node, indicator, course_set, day);

-- Cells of nation and provinces that changed since they were last published; the day is the earliest that changed.
CREATE TABLE figure_change (
    indicator text COLLATE "C" NOT NULL,
    course_set text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    day date NOT NULL
);

-- What was last published of a cell.
CREATE TABLE published_figure (
    cell text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT published_figure_pk PRIMARY KEY (cell)
);

-- Persons who met a code that no register knew.
CREATE TABLE awaiting (
    code text COLLATE "C" NOT NULL,
    person_ref uuid NOT NULL,
    CONSTRAINT awaiting_pk PRIMARY KEY (code, person_ref)
);

-- The registers, as far as figures and readers need them.
CREATE TABLE territory_unit (
    code text NOT NULL,
    level text NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    province text NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT territory_unit_pk PRIMARY KEY (code)
);

CREATE TABLE course (
    code text NOT NULL,
    title text NOT NULL,
    launched_by text NOT NULL,
    course_sets text[] NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT course_pk PRIMARY KEY (code)
);

CREATE TABLE register_version (
    version bigint NOT NULL
);
INSERT INTO register_version (version) VALUES (0);

-- Frozen reports: what was signed never moves.
CREATE TABLE report (
    report_id uuid NOT NULL,
    definition text NOT NULL,
    scope text NOT NULL,
    period text NOT NULL,
    first_day date NOT NULL,
    last_day date NOT NULL,
    frozen_at timestamptz NOT NULL,
    data_as_of jsonb NOT NULL,
    figures int NOT NULL,
    sha256 text NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT report_pk PRIMARY KEY (report_id)
);

CREATE TABLE report_figure (
    report_id uuid NOT NULL REFERENCES report,
    indicator text COLLATE "C" NOT NULL,
    course_set text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    n_all bigint NOT NULL,
    n_cit bigint NOT NULL,
    n_stu bigint NOT NULL,
    n_pub bigint NOT NULL,
    n_ent bigint NOT NULL,
    n_ungrouped bigint NOT NULL,
    CONSTRAINT report_figure_pk PRIMARY KEY (report_id, indicator, course_set, node)
);

-- What the auditor found.
CREATE TABLE audit_run (
    audit_run_id bigint GENERATED ALWAYS AS IDENTITY,
    ended_at timestamptz NOT NULL,
    cells_compared bigint NOT NULL,
    cells_differing bigint NOT NULL,
    seconds double precision NOT NULL,
    CONSTRAINT audit_run_pk PRIMARY KEY (audit_run_id)
);
