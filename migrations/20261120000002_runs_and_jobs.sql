-- A run is a list and its rules; a job is one number of it.
-- Hot rows (job, attempt) have no foreign keys to business or run: a key check would lock the parent row at each dial.

CREATE TABLE run (
    run_id               uuid PRIMARY KEY,
    business_id          uuid NOT NULL,
    name                 text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    external_id          text,
    carriers             text[] NOT NULL,
    caller_ids           text[] NOT NULL DEFAULT '{}',
    agent_id             uuid,
    message              jsonb,
    default_region       text NOT NULL,
    max_concurrent_calls integer,
    weight               integer NOT NULL DEFAULT 1,
    ring_timeout_secs    integer NOT NULL CHECK (ring_timeout_secs BETWEEN 5 AND 600),
    call_time_limit_secs integer NOT NULL CHECK (call_time_limit_secs BETWEEN 1 AND 14400),
    record               boolean NOT NULL DEFAULT false,
    machine              jsonb,
    calling_window       jsonb,
    retry                jsonb,
    breaker              jsonb,
    budget               jsonb,
    start_at             timestamptz,
    end_at               timestamptz,
    state                text NOT NULL DEFAULT 'draft'
        CHECK (state IN ('draft', 'scheduled', 'running', 'paused', 'cancelling', 'cancelled', 'completed')),
    pause_reason         text CHECK (pause_reason IN ('person', 'breaker', 'budget', 'abandon_guard', 'caller_id_refused')),
    paused_by            text,
    paused_at            timestamptz,
    rows                 bigint NOT NULL DEFAULT 0,
    accepted             bigint NOT NULL DEFAULT 0,
    duplicates           bigint NOT NULL DEFAULT 0,
    suppressed           bigint NOT NULL DEFAULT 0,
    rejected             bigint NOT NULL DEFAULT 0,
    lead_variables       text[],
    created_at           timestamptz NOT NULL DEFAULT now(),
    started_at           timestamptz,
    ended_at             timestamptz,
    archived_at          timestamptz,
    CONSTRAINT pause_is_told CHECK ((state = 'paused') = (pause_reason IS NOT NULL)),
    CONSTRAINT end_is_timed CHECK ((state IN ('cancelled', 'completed')) = (ended_at IS NOT NULL)),
    CONSTRAINT rows_add_up CHECK (rows = accepted + duplicates + suppressed + rejected)
);
COMMENT ON COLUMN run.lead_variables IS 'Variables that every accepted lead has; null before the first lead. Start compares the message with it, whatever the size of the list.';
CREATE INDEX run_business ON run (business_id, run_id DESC);
CREATE INDEX run_active ON run (business_id) WHERE state IN ('running', 'paused', 'cancelling');

-- One upload of leads. It counts as a whole or not at all.
CREATE TABLE lead_import (
    import_id   uuid PRIMARY KEY,
    run_id      uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    business_id uuid NOT NULL,
    rows        bigint NOT NULL,
    accepted    bigint NOT NULL,
    duplicates  bigint NOT NULL,
    suppressed  bigint NOT NULL,
    rejected    bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX lead_import_run ON lead_import (run_id);

-- Rows that did not become jobs, as they came, each with its reason.
CREATE TABLE rejected_lead (
    run_id    uuid NOT NULL REFERENCES run ON DELETE CASCADE,
    import_id uuid NOT NULL REFERENCES lead_import ON DELETE CASCADE,
    line      bigint NOT NULL,
    field     text,
    code      text NOT NULL,
    detail    text NOT NULL,
    value     text
);
CREATE INDEX rejected_lead_run ON rejected_lead (run_id, import_id, line);

CREATE TABLE job (
    job_id           uuid PRIMARY KEY,
    run_id           uuid NOT NULL,
    business_id      uuid NOT NULL,
    line             bigint,
    to_number        text NOT NULL CHECK (to_number ~ '^\+[1-9][0-9]{1,14}$'),
    external_id      text,
    variables        jsonb NOT NULL DEFAULT '{}',
    time_zone        text,
    time_zones       text[] NOT NULL DEFAULT '{}',
    priority         smallint NOT NULL DEFAULT 0,
    not_before       timestamptz,
    not_after        timestamptz,
    state            text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'waiting', 'dialing', 'completed', 'unreached', 'failed', 'skipped', 'cancelled')),
    disposition      text,
    reason           text CHECK (reason IN ('attempts_used', 'attempt_cap', 'suppressed', 'window_ended', 'run_ended', 'expired',
        'invalid_at_carrier', 'blocked_at_carrier', 'refused', 'not_placed', 'cancelled', 'erased')),
    attempt_count    integer NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
    dials            integer NOT NULL DEFAULT 0,
    not_placed_count smallint NOT NULL DEFAULT 0,
    next_at          timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,
    CONSTRAINT final_is_timed CHECK ((state IN ('completed', 'unreached', 'failed', 'skipped', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT waiting_has_a_time CHECK (state <> 'waiting' OR next_at IS NOT NULL)
) WITH (fillfactor = 80);
COMMENT ON COLUMN job.line IS 'Physical line of the upload it came from, so that a person finds the row again.';
COMMENT ON COLUMN job.attempt_count IS 'Attempts charged to the job. dials counts every attempt row, charged or not, and numbers them.';
CREATE UNIQUE INDEX job_number_once_per_run ON job (run_id, to_number);
CREATE INDEX job_due ON job (run_id, priority DESC, job_id) WHERE state = 'queued';
CREATE INDEX job_unfinished ON job (run_id) WHERE state IN ('waiting', 'dialing');
CREATE INDEX job_next ON job (next_at) WHERE state = 'waiting';
CREATE INDEX job_list ON job (run_id, job_id);
CREATE INDEX job_number ON job (business_id, to_number);
CREATE INDEX job_external ON job (business_id, external_id) WHERE external_id IS NOT NULL;

-- I4: a final state never changes.
CREATE FUNCTION forbid_change_of_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% % is final and never changes', TG_TABLE_NAME, to_jsonb(OLD) ->> (TG_TABLE_NAME || '_id')
        USING ERRCODE = 'RC001';
END $$;
CREATE TRIGGER job_final BEFORE UPDATE ON job FOR EACH ROW
    WHEN (OLD.finished_at IS NOT NULL
          AND (NEW.state, NEW.disposition, NEW.reason, NEW.finished_at, NEW.attempt_count)
              IS DISTINCT FROM (OLD.state, OLD.disposition, OLD.reason, OLD.finished_at, OLD.attempt_count))
    EXECUTE FUNCTION forbid_change_of_final();

-- I5: progress is a tally per run, key and shard, moved by the statement that moves the job, so that no path can forget it.
-- Keys: the eight states; 'd:' and a disposition; 'attempts' (charged); 'changes' (grows with every change: the sequence).
CREATE TABLE tally (
    run_id uuid NOT NULL,
    key    text NOT NULL,
    shard  smallint NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (run_id, key, shard)
) WITH (fillfactor = 50);

-- Shard 15 belongs to imports, which may hold their rows for long; the other fifteen to everyone else.
CREATE FUNCTION tally_shard() RETURNS smallint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN current_setting('rollcall.importing', true) = 'on' THEN 15 ELSE pg_backend_pid() % 15 END::smallint
$$;

CREATE FUNCTION tally_inserted_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally (run_id, key, shard, n)
    SELECT run_id, key, tally_shard(), sum(n) FROM (
        SELECT run_id, state AS key, count(*) AS n FROM new_rows GROUP BY run_id, state
        UNION ALL SELECT run_id, 'changes', count(*) FROM new_rows GROUP BY run_id
    ) moved GROUP BY run_id, key ORDER BY run_id, key
    ON CONFLICT (run_id, key, shard) DO UPDATE SET n = tally.n + excluded.n;
    RETURN NULL;
END $$;
CREATE TRIGGER job_inserted AFTER INSERT ON job REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tally_inserted_jobs();

CREATE FUNCTION tally_updated_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally (run_id, key, shard, n)
    SELECT run_id, key, tally_shard(), sum(n) FROM (
        SELECT run_id, state AS key, -1 AS n FROM old_rows
        UNION ALL SELECT run_id, state, 1 FROM new_rows
        UNION ALL SELECT run_id, 'd:' || disposition, -1 FROM old_rows WHERE disposition IS NOT NULL
        UNION ALL SELECT run_id, 'd:' || disposition, 1 FROM new_rows WHERE disposition IS NOT NULL
        UNION ALL SELECT run_id, 'attempts', -attempt_count FROM old_rows
        UNION ALL SELECT run_id, 'attempts', attempt_count FROM new_rows
        UNION ALL SELECT run_id, 'changes', 1 FROM new_rows
    ) moved GROUP BY run_id, key HAVING sum(n) <> 0 ORDER BY run_id, key
    ON CONFLICT (run_id, key, shard) DO UPDATE SET n = tally.n + excluded.n;
    RETURN NULL;
END $$;
CREATE TRIGGER job_updated AFTER UPDATE ON job REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tally_updated_jobs();
