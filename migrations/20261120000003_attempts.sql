-- The dial ledger: one row per dial, written before the carrier hears of it.
-- An open attempt holds a slot and a line. The unique indexes below are the proof behind the gate. What the indexes are made of
-- changes twice in a call's life, when its id is known and when it is over: every other update touches no index (HOT).

CREATE DOMAIN attempt_state AS text
    CHECK (VALUE IN ('intent', 'unknown', 'placed', 'initiated', 'ringing', 'answered', 'ended', 'refused', 'not_sent', 'not_placed'));
CREATE DOMAIN attempt_disposition AS text
    CHECK (VALUE IN ('answered', 'machine', 'voicemail_left', 'fax', 'busy', 'no_answer', 'failed', 'cancelled', 'abandoned',
                     'refused', 'not_placed'));
CREATE DOMAIN attempt_direction AS text CHECK (VALUE IN ('outbound', 'inbound'));
CREATE DOMAIN carrier_name AS text CHECK (VALUE IN ('twilio', 'telnyx'));
-- Of a slot or a line.
CREATE DOMAIN place_number AS integer CHECK (VALUE >= 1);

CREATE TABLE attempt (
    attempt_id           uuid PRIMARY KEY,
    job_id               uuid,
    run_id               uuid,
    business_id          uuid NOT NULL,
    direction            attempt_direction NOT NULL DEFAULT 'outbound',
    n                    integer NOT NULL DEFAULT 1,
    external_id          text,
    variables            jsonb NOT NULL DEFAULT '{}',
    message              jsonb,
    carrier              carrier_name NOT NULL,
    account              text NOT NULL,
    carrier_call_id      text,
    from_number          text NOT NULL,
    to_number            text NOT NULL,
    slot                 place_number NOT NULL,
    line                 place_number NOT NULL,
    state                attempt_state NOT NULL DEFAULT 'intent',
    rank                 smallint NOT NULL DEFAULT 0,
    open                 boolean NOT NULL DEFAULT true,
    disposition          attempt_disposition,
    reason               text,
    needs_person         boolean NOT NULL DEFAULT false,
    needs_person_since   timestamptz,
    answered_by          text,
    carrier_status       text,
    carrier_code         integer,
    sip_code             integer,
    ring_timeout_secs    integer NOT NULL,
    call_time_limit_secs integer NOT NULL,
    owner                text,
    dial_by              timestamptz,
    time_zones           text[],
    window_version       bigint,
    hangup_wanted        boolean NOT NULL DEFAULT false,
    fenced               boolean NOT NULL DEFAULT false,
    hangup_asked_at      timestamptz,
    queue_cancelled_at   timestamptz,
    intent_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at              timestamptz,
    placed_at            timestamptz,
    initiated_at         timestamptz,
    ringing_at           timestamptz,
    answered_at          timestamptz,
    said_at              timestamptz,
    speech_over_at       timestamptz,
    ended_at             timestamptz,
    heard_at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_secs        integer,
    price                numeric,
    currency             text,
    record               boolean NOT NULL DEFAULT false,
    guarded              boolean NOT NULL DEFAULT false,
    call_back_at         timestamptz,
    recording_url        text,
    next_look_at         timestamptz,
    empty_looks          smallint NOT NULL DEFAULT 0,
    first_empty_at       timestamptz,
    late_events          integer NOT NULL DEFAULT 0,
    events               text NOT NULL DEFAULT ''
) WITH (fillfactor = 60);
COMMENT ON COLUMN attempt.rank IS 'Of state, kept by attempt_guard; open is rank < 9.';
COMMENT ON COLUMN attempt.account IS 'carrier_account.reference at the time of the intent.';
COMMENT ON COLUMN attempt.owner IS 'The claim of a worker process that may send it; null: a single call that no worker has taken yet.';
COMMENT ON COLUMN attempt.window_version IS 'Of a single call: business.window_version when the window was looked at for its number, in time_zones. Where that is another by now, nobody dials it before somebody has looked again.';
COMMENT ON COLUMN attempt.reason IS 'Of a single call: why it ended. Of a job''s: cancelled, where somebody cancelled the job meanwhile, or expired, where it was answered too late.';
COMMENT ON COLUMN attempt.message IS 'What a single call says, a template over variables; a run''s message is read from the run.';
COMMENT ON COLUMN attempt.fenced IS 'Whoever picked up heard nothing, behind the answer fence or for a fault of ours: its end is abandoned, never answered.';
COMMENT ON COLUMN attempt.said_at IS 'When the carrier took the command to speak; only where it is told, not where it asks.';
COMMENT ON COLUMN attempt.speech_over_at IS 'When all was said: a call that is open after it is hung up.';
COMMENT ON COLUMN attempt.record IS 'The call is to be recorded from the answer on.';
COMMENT ON COLUMN attempt.guarded IS 'Its run has a breaker or an abandon_guard, which look at its end.';
COMMENT ON COLUMN attempt.call_back_at IS 'When the callee wants to be called again: the job waits for it, whatever retries the run has.';
COMMENT ON COLUMN attempt.heard_at IS 'When the carrier was last heard about it, by answer, callback or look.';
COMMENT ON COLUMN attempt.events IS 'Every transition, each behind a line break: when (UTC), who said it, from, to. Appended by the statement that moves the state, read by transitions(). Text, because each of a call''s four moves copies all of it.';

-- A partial index of few rows looks so cheap to the planner that it reads all of it, for a row that has a key: the plan is kept,
-- the rows grow. So each predicate also names its columns as not null, which only a query that names them implies.
-- What reads every open attempt says "line IS NOT NULL".
CREATE UNIQUE INDEX attempt_open_slot ON attempt (business_id, slot) WHERE open AND business_id IS NOT NULL;
CREATE UNIQUE INDEX attempt_open_line ON attempt (line) WHERE open AND line IS NOT NULL;
CREATE UNIQUE INDEX attempt_open_job ON attempt (job_id) WHERE open AND job_id IS NOT NULL;
CREATE UNIQUE INDEX attempt_open_number_at_account ON attempt (account, to_number, from_number)
    WHERE open AND account IS NOT NULL AND to_number IS NOT NULL;
CREATE UNIQUE INDEX attempt_open_number ON attempt (business_id, to_number)
    WHERE open AND business_id IS NOT NULL AND to_number IS NOT NULL;
CREATE UNIQUE INDEX attempt_call ON attempt (account, carrier_call_id) WHERE carrier_call_id IS NOT NULL;
-- What was dialed to a number before: caps, and the question whether somebody was called.
-- As for the others: only a query that names the number and the time may use it. One by the key might read a whole business, and
-- one for the open calls to a number, which an account may have of any business, every call that there ever was.
CREATE INDEX attempt_number ON attempt (business_id, to_number, intent_at) WHERE to_number IS NOT NULL AND intent_at IS NOT NULL;
-- The last ends of a run: what its breaker and its abandon_guard look at, and what its eta is measured by.
CREATE INDEX attempt_ended ON attempt (run_id, guarded, ended_at) WHERE run_id IS NOT NULL AND ended_at IS NOT NULL;
CREATE INDEX attempt_placed ON attempt (account, intent_at) WHERE carrier_call_id IS NOT NULL;
CREATE INDEX attempt_job ON attempt (job_id, n);
CREATE INDEX attempt_single ON attempt (business_id, attempt_id) WHERE job_id IS NULL;
CREATE INDEX attempt_unowned ON attempt (business_id) WHERE open AND owner IS NULL;

-- Calls that no open attempt answers for: second calls, and calls of attempts that were closed without one. A worker hangs
-- them up; whoever learns of one only writes it down.
CREATE TABLE stray_call (
    business_id uuid NOT NULL,
    carrier     text NOT NULL,
    account     text NOT NULL,
    call_id     text NOT NULL,
    attempt_id  uuid NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    asked_at    timestamptz,
    ended_at    timestamptz,
    PRIMARY KEY (account, call_id)
);
CREATE INDEX stray_call_open ON stray_call (seen_at) WHERE ended_at IS NULL;

CREATE FUNCTION attempt_rank(p_state text) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT (CASE p_state WHEN 'intent' THEN 0 WHEN 'unknown' THEN 1 WHEN 'placed' THEN 2 WHEN 'initiated' THEN 3
        WHEN 'ringing' THEN 4 WHEN 'answered' THEN 5 ELSE 9 END)::smallint
$$;

-- A closed attempt never changes, an open one has no end, a call id is known of none that never became a call, and transitions
-- are only ever added to.
CREATE FUNCTION attempt_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT OLD.open AND (NEW.state, NEW.disposition, NEW.ended_at, NEW.carrier_call_id, NEW.slot, NEW.line)
           IS DISTINCT FROM (OLD.state, OLD.disposition, OLD.ended_at, OLD.carrier_call_id, OLD.slot, OLD.line) THEN
        RAISE EXCEPTION 'attempt % is final and never changes', OLD.attempt_id USING ERRCODE = 'RC001';
    END IF;
    -- The end of a call that a machine answered is a machine's, whatever word the carrier ended it with.
    IF OLD.open AND NEW.answered_by IN ('machine', 'fax') AND NEW.disposition IN ('answered', 'machine', 'fax') THEN
        NEW.disposition := CASE
            WHEN NEW.answered_by = 'fax' THEN 'fax'
            WHEN EXISTS (SELECT 1 FROM detection WHERE attempt_id = NEW.attempt_id AND left_at IS NOT NULL) THEN 'voicemail_left'
            ELSE 'machine' END;
    END IF;
    NEW.rank := attempt_rank(NEW.state);
    NEW.open := NEW.rank < 9;
    IF NEW.open <> (NEW.ended_at IS NULL)
       OR (NEW.carrier_call_id IS NOT NULL AND (NEW.rank < 2 OR (NEW.rank = 9 AND NEW.state <> 'ended'))) THEN
        RAISE EXCEPTION 'attempt % would be % with ended_at % and call id %', OLD.attempt_id, NEW.state, NEW.ended_at,
            NEW.carrier_call_id USING ERRCODE = 'check_violation';
    END IF;
    -- As they were, or with one more behind.
    IF NEW.events <> OLD.events AND NOT (starts_with(NEW.events, OLD.events || E'\n')
           AND strpos(substr(NEW.events, length(OLD.events) + 2), E'\n') = 0) THEN
        RAISE EXCEPTION 'the transitions of attempt % are only ever added to', OLD.attempt_id USING ERRCODE = 'RC002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER attempt_guard BEFORE UPDATE OF state, rank, open, disposition, ended_at, carrier_call_id, slot, line, events ON attempt
    FOR EACH ROW EXECUTE FUNCTION attempt_guard();

CREATE FUNCTION attempt_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'attempts are kept: the dial ledger only grows' USING ERRCODE = 'RC002';
END $$;
CREATE TRIGGER attempt_is_kept BEFORE DELETE OR TRUNCATE ON attempt FOR EACH STATEMENT EXECUTE FUNCTION attempt_is_kept();
