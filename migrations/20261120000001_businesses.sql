-- Tenants and what belongs to them for longer than a run.
-- Every claim locks the business row first, so whatever may change a claim's verdict (limit, state, suppression,
-- credentials' health) is written under the same lock.

CREATE TABLE installation (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    max_lines integer NOT NULL CHECK (max_lines >= 1)
);
COMMENT ON TABLE installation IS 'One row: what holds for all businesses together. Workers read max_lines here and nowhere else.';

CREATE TABLE business (
    business_id          uuid PRIMARY KEY,
    name                 text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    state                text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    max_concurrent_calls integer NOT NULL CHECK (max_concurrent_calls BETWEEN 1 AND 10000),
    default_region       text NOT NULL CHECK (default_region ~ '^[A-Z]{2}$'),
    time_zone            text,
    allowed_countries    text[],
    carriers             text[] NOT NULL CHECK (carriers <@ ARRAY['twilio', 'telnyx'] AND cardinality(carriers) >= 1),
    calling_window       jsonb,
    window_version       bigint NOT NULL DEFAULT 0,
    cap_per_day          integer CHECK (cap_per_day >= 1),
    cap_per_24h          integer CHECK (cap_per_24h >= 1),
    cap_lifetime         integer CHECK (cap_lifetime >= 1),
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now()
);

COMMENT ON COLUMN business.window_version IS 'Grows with every change of calling_window and of a calendar: see run_zone.';
COMMENT ON COLUMN business.cap_per_day IS 'Dials of one number by all runs together, in a day of the callee; cap_per_24h and cap_lifetime likewise. Null: no limit.';

-- Days on which nobody is called, by a name that windows refer to.
CREATE TABLE calendar (
    business_id uuid NOT NULL REFERENCES business,
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    dates       date[] NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (business_id, name)
);

-- Only the hash of a key is kept: SHA-256 over 256 random bits needs no salt.
CREATE TABLE api_key (
    key_id      uuid PRIMARY KEY,
    business_id uuid NOT NULL REFERENCES business,
    prefix      text NOT NULL,
    key_hash    bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    role        text NOT NULL CHECK (role IN ('viewer', 'manager')),
    name        text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);
CREATE INDEX api_key_business ON api_key (business_id);

-- The secret is an AEAD envelope bound to business and carrier; sealing_key names the key that opens it.
CREATE TABLE carrier_account (
    business_id        uuid NOT NULL REFERENCES business,
    carrier            text NOT NULL CHECK (carrier IN ('twilio', 'telnyx')),
    reference          text NOT NULL,
    caller_ids         text[] NOT NULL CHECK (cardinality(caller_ids) >= 1),
    calls_per_second   double precision NOT NULL CHECK (calls_per_second > 0 AND calls_per_second <= 10000),
    api_base_url       text,
    secret             bytea NOT NULL,
    sealing_key        text NOT NULL,
    secret_updated_at  timestamptz NOT NULL DEFAULT now(),
    public_key         text,
    former_secret      bytea,
    former_sealing_key text,
    former_public_key  text,
    former_until       timestamptz,
    health             text NOT NULL DEFAULT 'unchecked' CHECK (health IN ('ok', 'refused', 'down', 'unchecked')),
    health_detail      text,
    hold_until         timestamptz,
    held_at            timestamptz,
    turned_away        integer NOT NULL DEFAULT 0,
    unreadable_since   timestamptz,
    unreadable_refused boolean NOT NULL DEFAULT false,
    live_look_at       timestamptz NOT NULL DEFAULT now(),
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (business_id, carrier),
    CONSTRAINT carrier_account_public_key CHECK (carrier <> 'telnyx' OR public_key IS NOT NULL)
);
COMMENT ON COLUMN carrier_account.reference IS 'The carrier''s own name of the account: Twilio AccountSid, Telnyx connection id.';
COMMENT ON COLUMN carrier_account.public_key IS 'What signs the webhooks, where the secret does not: base64 of an Ed25519 key.';
COMMENT ON COLUMN carrier_account.former_secret IS 'The secret before the last change: what it signed counts until former_until.';
COMMENT ON COLUMN carrier_account.hold_until IS 'No claim before this: back-off after 429, or the next single try of a refused account.';
COMMENT ON COLUMN carrier_account.held_at IS 'When it was last held back: a call that was sent before that proves nothing against the hold.';
COMMENT ON COLUMN carrier_account.turned_away IS 'How often in a row the carrier was too full for a call of it; begins anew where one came through.';
COMMENT ON COLUMN carrier_account.unreadable_since IS 'Since when the carrier cannot be asked about this account''s calls; null while it can.';
COMMENT ON COLUMN carrier_account.unreadable_refused IS 'True where that is because the carrier refuses its credentials.';
COMMENT ON COLUMN carrier_account.live_look_at IS 'When the live list of this account is read next; taking it forward is the lease.';

CREATE TABLE suppression (
    business_id uuid NOT NULL REFERENCES business,
    number      text NOT NULL CHECK (number ~ '^\+[1-9][0-9]{1,14}$'),
    source      text NOT NULL,
    note        text,
    expires_at  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (business_id, number)
);
-- Numbers that were suppressed since a run was made: those before were never queued.
CREATE INDEX suppression_newest ON suppression (business_id, created_at);

-- One row per POST that carried an Idempotency-Key; answered_at is null while the first request runs.
CREATE TABLE idempotency (
    scope        text NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL,
    status       integer,
    content_type text,
    body         bytea,
    started_at   timestamptz NOT NULL DEFAULT now(),
    answered_at  timestamptz,
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_age ON idempotency (started_at);
COMMENT ON COLUMN idempotency.scope IS 'business (or operator), method and route.';

-- What people and keys did that others may ask about later.
CREATE TABLE audit (
    audit_id    uuid PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    business_id uuid,
    actor       text NOT NULL,
    action      text NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_business ON audit (business_id, audit_id);
