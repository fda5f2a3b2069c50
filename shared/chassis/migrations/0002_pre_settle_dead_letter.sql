-- A dead letter waits until a clerk settles it. The columns it came with are never written again; what was mended stands beside them.
ALTER TABLE dead_letter
    ADD COLUMN state text NOT NULL DEFAULT 'open',
    ADD COLUMN settled_at timestamptz,
    ADD COLUMN settled_by text,
    ADD COLUMN edited_at timestamptz,
    ADD COLUMN edited_by text,
    ADD COLUMN edited_value bytea,
    ADD COLUMN edited_header_names text[],
    ADD COLUMN edited_header_values bytea[],
    ADD CONSTRAINT dead_letter_state CHECK (state IN ('open', 'redriven', 'dropped')),
    ADD CONSTRAINT dead_letter_settled CHECK ((state = 'open') = (settled_at IS NULL) AND (settled_at IS NULL) = (settled_by IS NULL)),
    ADD CONSTRAINT dead_letter_edited CHECK (
        (edited_at IS NULL) = (edited_by IS NULL)
        AND (edited_at IS NULL) = (edited_header_names IS NULL)
        AND (edited_at IS NULL) = (edited_header_values IS NULL)
    );

-- What waits, walked in order and counted by reason without a look at the table.
CREATE INDEX dead_letter_open ON dead_letter (dead_letter_id) INCLUDE (consumer_group, reason) WHERE state = 'open';

-- Who did what to which dead letter, and what came of it. Rows are added only; no value of a field stands here.
CREATE TABLE dead_letter_act (
    act_id bigint GENERATED ALWAYS AS IDENTITY,
    dead_letter_id bigint NOT NULL,
    act text NOT NULL,
    done_by text NOT NULL,
    done_at timestamptz NOT NULL DEFAULT now(),
    why text,
    changed text[],
    outcome text NOT NULL,
    CONSTRAINT dead_letter_act_pk PRIMARY KEY (act_id),
    CONSTRAINT dead_letter_act_letter FOREIGN KEY (dead_letter_id) REFERENCES dead_letter (dead_letter_id),
    CONSTRAINT dead_letter_act_kind CHECK (act IN ('edit', 'redrive', 'drop'))
);

CREATE INDEX dead_letter_act_of ON dead_letter_act (dead_letter_id, act_id);
