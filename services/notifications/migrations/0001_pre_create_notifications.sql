-- Offices that are told of things; role addresses, no persons.
CREATE TABLE recipient (
    recipient text NOT NULL,
    name_vi text NOT NULL,
    scope text NOT NULL,
    address text NOT NULL,
    CONSTRAINT recipient_pk PRIMARY KEY (recipient)
);

-- Every message once for ever; the row is the in-app delivery.
CREATE TABLE message (
    message_id uuid NOT NULL,
    rule text NOT NULL,
    subject text NOT NULL,
    recipient text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL,
    read_at timestamptz,
    CONSTRAINT message_pk PRIMARY KEY (message_id),
    CONSTRAINT message_once UNIQUE (rule, subject, recipient)
);

-- What became of a message on its way out. The token tells a process that its lease was taken over.
CREATE TABLE delivery (
    message_id uuid NOT NULL REFERENCES message,
    channel text NOT NULL,
    state text NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    lost_answers int NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    next_attempt_at timestamptz NOT NULL,
    sent_at timestamptz,
    reason text,
    CONSTRAINT delivery_pk PRIMARY KEY (message_id),
    CONSTRAINT delivery_state CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'unknown'))
);
CREATE INDEX delivery_due ON delivery (next_attempt_at) WHERE state IN ('pending', 'sending');
