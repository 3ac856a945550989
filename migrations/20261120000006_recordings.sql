-- Recordings of calls. The sound stays at the carrier: only its name is kept here.

CREATE TABLE recording (
    attempt_id           uuid NOT NULL,
    business_id          uuid NOT NULL,
    account              text NOT NULL,
    carrier_recording_id text NOT NULL,
    duration_secs        integer,
    channels             smallint,
    created_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (attempt_id, carrier_recording_id)
);
CREATE INDEX recording_of_business ON recording (business_id, attempt_id);
