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
    abandon_guard        jsonb,
    guarded_from         timestamptz NOT NULL DEFAULT '-infinity',
    start_at             timestamptz,
    end_at               timestamptz,
    max_attempts         integer NOT NULL DEFAULT 1,
    window_version       bigint NOT NULL DEFAULT 0,
    state                text NOT NULL DEFAULT 'draft'
        CHECK (state IN ('draft', 'scheduled', 'running', 'paused', 'cancelling', 'cancelled', 'completed')),
    pause_reason         text CHECK (pause_reason IN ('person', 'breaker', 'budget', 'abandon_guard', 'caller_id_refused')),
    paused_by            text,
    paused_at            timestamptz,
    finish_calls         boolean NOT NULL DEFAULT false,
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
COMMENT ON COLUMN run.max_attempts IS 'Of retry: so that a run without retries is told by a number.';
COMMENT ON COLUMN run.guarded_from IS 'Attempts that ended before it do not count for breaker and abandon_guard: when a person resumed the run.';
COMMENT ON COLUMN run.finish_calls IS 'It was cancelled, and the calls in flight go on to their end.';
COMMENT ON COLUMN run.window_version IS 'Grows with every change of calling_window; 0: there is none. See run_zone.';
-- Partial indexes name their first column as not null: see attempt_open_slot. This one names what only lists of runs name, so that
-- no plan that looks for the runs which dial reads every run that a business ever had.
CREATE INDEX run_business ON run (business_id, run_id DESC) WHERE name IS NOT NULL;
-- What waits for its time: a start, or an end.
CREATE INDEX run_scheduled ON run (start_at) WHERE state = 'scheduled' AND start_at IS NOT NULL;
CREATE INDEX run_active ON run (business_id) WHERE state IN ('running', 'paused', 'cancelling') AND business_id IS NOT NULL;

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

-- job and attempt have no CHECK constraints, generated columns or WHEN clauses: Postgres reads the text of each again at every
-- single statement, which was half of what a call cost. Domains and the guards below keep the same promises for less.
CREATE DOMAIN e164 AS text CHECK (VALUE ~ '^\+[1-9][0-9]{1,14}$');
CREATE DOMAIN job_state AS text
    CHECK (VALUE IN ('queued', 'waiting', 'dialing', 'completed', 'unreached', 'failed', 'skipped', 'cancelled'));
CREATE DOMAIN job_reason AS text
    CHECK (VALUE IN ('attempts_used', 'attempt_cap', 'suppressed', 'window_ended', 'run_ended', 'expired', 'invalid_at_carrier',
                     'blocked_at_carrier', 'refused', 'not_placed', 'cancelled', 'erased'));

CREATE TABLE job (
    job_id           uuid PRIMARY KEY,
    run_id           uuid NOT NULL,
    business_id      uuid NOT NULL,
    line             bigint,
    to_number        e164 NOT NULL,
    external_id      text,
    variables        jsonb NOT NULL DEFAULT '{}',
    time_zone        text,
    time_zones       text[] NOT NULL DEFAULT '{}',
    zone_set         bigint NOT NULL DEFAULT 0,
    priority         smallint NOT NULL DEFAULT 0,
    not_before       timestamptz,
    not_after        timestamptz,
    state            job_state NOT NULL DEFAULT 'queued',
    disposition      text,
    reason           job_reason,
    attempt_count    integer NOT NULL DEFAULT 0,
    dials            integer NOT NULL DEFAULT 0,
    not_placed_count smallint NOT NULL DEFAULT 0,
    next_at          timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz
) WITH (fillfactor = 80);
COMMENT ON COLUMN job.zone_set IS 'zone_set(time_zones): what jobs with the same possible zones are found by.';
COMMENT ON COLUMN job.line IS 'Physical line of the upload it came from, so that a person finds the row again.';
COMMENT ON COLUMN job.attempt_count IS 'Attempts charged to the job. dials counts every attempt row, charged or not, and numbers them.';
CREATE UNIQUE INDEX job_number_once_per_run ON job (run_id, to_number);
-- One direction, so that "from this job on" is one step into it. By zones, so that a claim never reads past a list that sleeps.
CREATE INDEX job_due ON job (run_id, zone_set, (- priority), job_id) WHERE state = 'queued' AND run_id IS NOT NULL;
CREATE INDEX job_unfinished ON job (run_id) WHERE state IN ('waiting', 'dialing') AND run_id IS NOT NULL;
CREATE INDEX job_next ON job (next_at) WHERE state = 'waiting' AND next_at IS NOT NULL;
CREATE INDEX job_expires ON job (not_after) WHERE state IN ('queued', 'waiting') AND not_after IS NOT NULL;
CREATE INDEX job_list ON job (run_id, job_id);
CREATE INDEX job_number ON job (business_id, to_number) WHERE to_number IS NOT NULL;
-- In the order of the list too: a name may be that of every lead of a campaign.
CREATE INDEX job_external ON job (business_id, external_id, job_id) WHERE external_id IS NOT NULL;
-- Lists by a final state. A job enters once, at its end, and never moves: nothing here is ever dead.
CREATE INDEX job_final ON job (run_id, state, job_id) WHERE finished_at IS NOT NULL AND run_id IS NOT NULL;

-- A number for a set of possible zones, 0 where none is known. 64 bits of a hash: sets come from a table of some hundreds.
CREATE FUNCTION zone_set(p_zones text[]) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN cardinality(p_zones) = 0 THEN 0 ELSE hashtextextended(array_to_string(p_zones, ','), 0) END
$$;

-- The jobs of a run whose numbers may be in the same zones: when they may be dialed, and where their claims begin.
CREATE TABLE run_zone (
    run_id      uuid NOT NULL,
    zone_set    bigint NOT NULL,
    zones       text[] NOT NULL,
    version     bigint NOT NULL DEFAULT 0,
    opens_at    timestamptz NOT NULL DEFAULT '-infinity',
    closes_at   timestamptz NOT NULL DEFAULT 'infinity',
    first_place smallint NOT NULL DEFAULT -32768,
    first_job   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    PRIMARY KEY (run_id, zone_set)
) WITH (fillfactor = 50);
COMMENT ON COLUMN run_zone.version IS 'Of the windows that opens_at and closes_at come from: run.window_version + business.window_version. Where it is another, nothing is dialed before they are worked out again.';
COMMENT ON COLUMN run_zone.opens_at IS 'The present or the next time to call, in every one of the zones; infinity: there is none.';
COMMENT ON COLUMN run_zone.closes_at IS 'Until when a call may begin to ring for the last time, with what a carrier''s queue may take before it taken off; not the time of ringing.';
COMMENT ON COLUMN run_zone.first_job IS 'With first_place: no job of these zones that comes before this one is queued, as far as the sweep has seen. A claim begins here, because the index before it is full of entries of jobs that were claimed. Where nothing is found from here on, the whole list is looked at.';

-- Why a job was not dialed when its turn had come; of a whole set of zones where job_id is null. One row where the verdict or its
-- rule changes, never one per look. That it was dialed is said by its attempts.
CREATE TABLE decision (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id uuid NOT NULL,
    run_id      uuid NOT NULL,
    job_id      uuid,
    zone_set    bigint,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    verdict     text NOT NULL CHECK (verdict IN ('held', 'skipped')),
    rule        text NOT NULL,
    detail      text NOT NULL,
    next_at     timestamptz
);
CREATE INDEX decision_job ON decision (job_id, decision_id) WHERE job_id IS NOT NULL;
CREATE INDEX decision_run ON decision (run_id, decision_id);
CREATE INDEX decision_zone ON decision (run_id, zone_set, decision_id) WHERE job_id IS NULL AND run_id IS NOT NULL AND zone_set IS NOT NULL;

-- An id (UUIDv7, RFC 9562) of this transaction's time that sorts by p_n, up to 2^30, among those made in the same millisecond.
CREATE FUNCTION id_in_order(p_n bigint) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(p_n >> 18), 3, '0')
        || to_hex(8 + ((p_n >> 16) & 3)) || lpad(to_hex(p_n & 65535), 4, '0') || right(replace(gen_random_uuid()::text, '-', ''), 11))::uuid
$$;

-- I4: a final state never changes, and has a time.
CREATE FUNCTION job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.finished_at IS NOT NULL THEN
        RAISE EXCEPTION 'job % is final and never changes', OLD.job_id USING ERRCODE = 'RC001';
    END IF;
    IF (NEW.finished_at IS NULL) <> (NEW.state IN ('queued', 'waiting', 'dialing')) OR (NEW.state = 'waiting' AND NEW.next_at IS NULL)
       OR NEW.attempt_count < 0 THEN
        RAISE EXCEPTION 'job % would be % with finished_at %, next_at %, % attempts', OLD.job_id, NEW.state, NEW.finished_at,
            NEW.next_at, NEW.attempt_count USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER job_guard BEFORE UPDATE OF state, disposition, reason, finished_at, attempt_count ON job
    FOR EACH ROW EXECUTE FUNCTION job_guard();

-- I5: progress is a tally per run and shard, moved in the transaction that moves the job. Whoever inserts jobs is counted by
-- the trigger; whoever moves them says so to tally_moved. Every test ends by comparing the tallies with a count.
-- One row takes all that one transaction changes: a column per state and disposition, attempts (charged), changes (grows with
-- every change: the sequence), calls_started (the nil run's: calls that a carrier took, of all runs and of none) and call_secs (seconds
-- of calls that ended).
CREATE TABLE tally_shard (
    run_id           uuid NOT NULL,
    shard            smallint NOT NULL,
    changes          bigint NOT NULL DEFAULT 0,
    attempts         bigint NOT NULL DEFAULT 0,
    calls_started    bigint NOT NULL DEFAULT 0,
    call_secs        bigint NOT NULL DEFAULT 0,
    queued           bigint NOT NULL DEFAULT 0,
    waiting          bigint NOT NULL DEFAULT 0,
    dialing          bigint NOT NULL DEFAULT 0,
    completed        bigint NOT NULL DEFAULT 0,
    unreached        bigint NOT NULL DEFAULT 0,
    failed           bigint NOT NULL DEFAULT 0,
    skipped          bigint NOT NULL DEFAULT 0,
    cancelled        bigint NOT NULL DEFAULT 0,
    d_answered       bigint NOT NULL DEFAULT 0,
    d_machine        bigint NOT NULL DEFAULT 0,
    d_voicemail_left bigint NOT NULL DEFAULT 0,
    d_fax            bigint NOT NULL DEFAULT 0,
    d_busy           bigint NOT NULL DEFAULT 0,
    d_no_answer      bigint NOT NULL DEFAULT 0,
    d_failed         bigint NOT NULL DEFAULT 0,
    d_cancelled      bigint NOT NULL DEFAULT 0,
    d_abandoned      bigint NOT NULL DEFAULT 0,
    d_refused        bigint NOT NULL DEFAULT 0,
    d_not_placed     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, shard)
) WITH (fillfactor = 50);

-- The same by key, as it is read: the states, 'd:' and a disposition, attempts, changes, calls_started.
CREATE VIEW tally AS
SELECT t.run_id, t.shard, k.key, k.n
FROM tally_shard t CROSS JOIN LATERAL (VALUES
    ('changes', t.changes),
    ('attempts', t.attempts),
    ('calls_started', t.calls_started),
    ('queued', t.queued),
    ('waiting', t.waiting),
    ('dialing', t.dialing),
    ('completed', t.completed),
    ('unreached', t.unreached),
    ('failed', t.failed),
    ('skipped', t.skipped),
    ('cancelled', t.cancelled),
    ('d:answered', t.d_answered),
    ('d:machine', t.d_machine),
    ('d:voicemail_left', t.d_voicemail_left),
    ('d:fax', t.d_fax),
    ('d:busy', t.d_busy),
    ('d:no_answer', t.d_no_answer),
    ('d:failed', t.d_failed),
    ('d:cancelled', t.d_cancelled),
    ('d:abandoned', t.d_abandoned),
    ('d:refused', t.d_refused),
    ('d:not_placed', t.d_not_placed)
) AS k (key, n);

-- Shard 15 belongs to imports, which may hold their row for long; the other fifteen to everyone else.
CREATE FUNCTION tally_shard() RETURNS smallint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN current_setting('rollcall.importing', true) = 'on' THEN 15 ELSE pg_backend_pid() % 15 END::smallint
$$;

-- Jobs are inserted as queued.
CREATE FUNCTION tally_inserted_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally_shard AS t (run_id, shard, changes, queued)
    SELECT run_id, tally_shard(), count(*), count(*) FROM new_rows GROUP BY run_id ORDER BY run_id
    ON CONFLICT (run_id, shard) DO UPDATE SET changes = t.changes + excluded.changes, queued = t.queued + excluded.queued;
    INSERT INTO run_zone AS z (run_id, zone_set, zones)
    SELECT DISTINCT ON (run_id, zone_set) run_id, zone_set, time_zones FROM new_rows ORDER BY run_id, zone_set
    -- What is added may come before the place that claims begin at.
    ON CONFLICT (run_id, zone_set) DO UPDATE SET first_place = DEFAULT, first_job = DEFAULT
        WHERE z.first_job <> '00000000-0000-0000-0000-000000000000';
    RETURN NULL;
END $$;
CREATE TRIGGER job_inserted AFTER INSERT ON job REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tally_inserted_jobs();

-- p_jobs jobs of a run moved from one state to another, with p_disposition where the new state has one, and p_attempts charged
-- (below zero: given back).
CREATE FUNCTION tally_moved(p_run uuid, p_from text, p_to text, p_disposition text, p_jobs bigint, p_attempts bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_shard smallint := tally_shard();
BEGIN
    LOOP
        UPDATE tally_shard SET
            changes = changes + p_jobs,
            attempts = attempts + p_attempts,
            queued = queued + CASE 'queued' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            waiting = waiting + CASE 'waiting' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            dialing = dialing + CASE 'dialing' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            completed = completed + CASE 'completed' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            unreached = unreached + CASE 'unreached' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            failed = failed + CASE 'failed' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            skipped = skipped + CASE 'skipped' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            cancelled = cancelled + CASE 'cancelled' WHEN p_to THEN p_jobs WHEN p_from THEN - p_jobs ELSE 0 END,
            d_answered = d_answered + CASE p_disposition WHEN 'answered' THEN p_jobs ELSE 0 END,
            d_machine = d_machine + CASE p_disposition WHEN 'machine' THEN p_jobs ELSE 0 END,
            d_voicemail_left = d_voicemail_left + CASE p_disposition WHEN 'voicemail_left' THEN p_jobs ELSE 0 END,
            d_fax = d_fax + CASE p_disposition WHEN 'fax' THEN p_jobs ELSE 0 END,
            d_busy = d_busy + CASE p_disposition WHEN 'busy' THEN p_jobs ELSE 0 END,
            d_no_answer = d_no_answer + CASE p_disposition WHEN 'no_answer' THEN p_jobs ELSE 0 END,
            d_failed = d_failed + CASE p_disposition WHEN 'failed' THEN p_jobs ELSE 0 END,
            d_cancelled = d_cancelled + CASE p_disposition WHEN 'cancelled' THEN p_jobs ELSE 0 END,
            d_abandoned = d_abandoned + CASE p_disposition WHEN 'abandoned' THEN p_jobs ELSE 0 END,
            d_refused = d_refused + CASE p_disposition WHEN 'refused' THEN p_jobs ELSE 0 END,
            d_not_placed = d_not_placed + CASE p_disposition WHEN 'not_placed' THEN p_jobs ELSE 0 END
        WHERE run_id = p_run AND shard = v_shard;
        EXIT WHEN FOUND;
        INSERT INTO tally_shard (run_id, shard) VALUES (p_run, v_shard) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Writes the tally of a run anew by a count, for the engineer who found it wrong. Nothing moves any job meanwhile.
CREATE FUNCTION tally_recount(p_run uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_changes bigint;
    v_secs    bigint;
BEGIN
    LOCK TABLE tally_shard IN EXCLUSIVE MODE;
    SELECT coalesce(sum(changes), 0) + 1 INTO v_changes FROM tally_shard WHERE run_id = p_run;
    SELECT coalesce(sum(a.duration_secs), 0) INTO v_secs FROM job j JOIN attempt a USING (job_id) WHERE j.run_id = p_run AND NOT a.open;
    DELETE FROM tally_shard WHERE run_id = p_run;
    INSERT INTO tally_shard
    SELECT p_run, 0, v_changes, coalesce(sum(attempt_count), 0), 0, v_secs,
        count(*) FILTER (WHERE state = 'queued'),
        count(*) FILTER (WHERE state = 'waiting'),
        count(*) FILTER (WHERE state = 'dialing'),
        count(*) FILTER (WHERE state = 'completed'),
        count(*) FILTER (WHERE state = 'unreached'),
        count(*) FILTER (WHERE state = 'failed'),
        count(*) FILTER (WHERE state = 'skipped'),
        count(*) FILTER (WHERE state = 'cancelled'),
        count(*) FILTER (WHERE disposition = 'answered'),
        count(*) FILTER (WHERE disposition = 'machine'),
        count(*) FILTER (WHERE disposition = 'voicemail_left'),
        count(*) FILTER (WHERE disposition = 'fax'),
        count(*) FILTER (WHERE disposition = 'busy'),
        count(*) FILTER (WHERE disposition = 'no_answer'),
        count(*) FILTER (WHERE disposition = 'failed'),
        count(*) FILTER (WHERE disposition = 'cancelled'),
        count(*) FILTER (WHERE disposition = 'abandoned'),
        count(*) FILTER (WHERE disposition = 'refused'),
        count(*) FILTER (WHERE disposition = 'not_placed')
    FROM job WHERE run_id = p_run;
END $$;
