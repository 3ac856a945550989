-- The steps of the dial protocol that must be one round trip and one transaction.
-- They are plpgsql, not one statement with CTEs: each statement inside takes a fresh snapshot, so what is counted after a
-- lock was waited for is newer than the lock.

-- Key of the advisory lock over installation.max_lines: claims share it, a change of max_lines takes it alone.
CREATE FUNCTION lines_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7239001 $$;
-- Key of the advisory lock that claims take alone while more lines are open than a lowered max_lines allows.
CREATE FUNCTION lowered_lines_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7239002 $$;

CREATE FUNCTION transition(p_seq integer, p_source text, p_from text, p_to text) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_array(jsonb_build_object('seq', p_seq, 'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'source', p_source, 'from', p_from, 'to', p_to))
$$;

-- Counts a change that no job's move accounts for: of the run itself.
CREATE FUNCTION tally_changed(p_run uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally_shard AS t (run_id, shard, changes) VALUES (p_run, tally_shard(), 1)
    ON CONFLICT (run_id, shard) DO UPDATE SET changes = t.changes + 1;
END $$;

-- Counts calls that a carrier took.
CREATE FUNCTION tally_calls_started(p_calls bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tally_shard AS t (run_id, shard, calls_started) VALUES ('00000000-0000-0000-0000-000000000000', tally_shard(), p_calls)
    ON CONFLICT (run_id, shard) DO UPDATE SET calls_started = t.calls_started + p_calls;
END $$;

-- How many attempts may be inserted now: the business is locked by the caller. Never negative.
CREATE FUNCTION room_for_calls(p_business uuid, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_max_lines integer;
    v_room      integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lines_lock());
    SELECT max_lines INTO v_max_lines FROM installation;
    SELECT p_limit - count(*) INTO v_room FROM attempt WHERE business_id = p_business AND open;
    -- Unique lines below max_lines are proof enough, unless max_lines was lowered while higher lines are open.
    IF EXISTS (SELECT 1 FROM attempt WHERE open AND line > v_max_lines) THEN
        PERFORM pg_advisory_xact_lock(lowered_lines_lock());
        SELECT least(v_room, v_max_lines - count(*)) INTO v_room FROM attempt WHERE open;
    END IF;
    RETURN greatest(v_room, 0);
END $$;

-- True where the run has a queued job. The place that its claims begin at comes first: one step into the index, even while the
-- statistics call most jobs queued. Only where nothing is found there is the whole list looked at.
CREATE FUNCTION has_queued(p_run uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_place smallint;
    v_job   uuid;
BEGIN
    SELECT first_place, first_job INTO v_place, v_job FROM run WHERE run_id = p_run;
    PERFORM 1 FROM job WHERE run_id = p_run AND state = 'queued' AND ((- priority), job_id) >= (v_place, v_job)
        ORDER BY (- priority), job_id LIMIT 1;
    IF FOUND THEN
        RETURN true;
    END IF;
    PERFORM 1 FROM job WHERE run_id = p_run AND state = 'queued' ORDER BY (- priority), job_id LIMIT 1;
    RETURN FOUND;
END $$;

-- Moves the place that the claims of a run begin at up to its first queued job, or back to p_job where that stands before it.
-- A run row that somebody else has locked is left as it is: a place that is too early costs time, and one that is too late is
-- corrected by the claim that finds too little.
CREATE FUNCTION begin_claims_at(p_run uuid, p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r       run;
    v_place smallint := -32768;
    v_job   uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    SELECT * INTO r FROM run WHERE run_id = p_run FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- A snapshot that is newer than the lock: what was given back before it is seen, and what comes after waits or moves it back.
    IF p_job IS NULL THEN
        SELECT (- priority), job_id INTO v_place, v_job FROM job
            WHERE run_id = p_run AND state = 'queued' AND ((- priority), job_id) >= (r.first_place, r.first_job)
            ORDER BY (- priority), job_id LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    ELSIF r.first_job = v_job THEN
        RETURN;
    END IF;
    UPDATE run SET first_place = v_place, first_job = v_job WHERE run_id = p_run;
END $$;

-- Claims due jobs of one business for the given holders: locks the business, counts, checks run, suppression and account,
-- inserts the attempts as intents and moves the jobs. Returns one row per attempt inserted; holders without a row are free again.
CREATE FUNCTION claim_jobs(p_business uuid, p_owner text, p_attempts uuid[], p_slots integer[], p_lines integer[],
    p_intent_grace_ms integer, p_refused_retry_ms integer)
RETURNS TABLE (attempt_id uuid, job_id uuid, run_id uuid, account text, from_number text, to_number text,
               ring_timeout_secs integer, call_time_limit_secs integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    b       business;
    acct    carrier_account;
    v_room  integer;
    v_lines integer;
    v_taken integer := 0;
    v_run   record;
BEGIN
    SELECT * INTO b FROM business WHERE business_id = p_business FOR NO KEY UPDATE;
    IF NOT FOUND OR b.state <> 'active' THEN
        RETURN;
    END IF;
    SELECT * INTO acct FROM carrier_account WHERE business_id = p_business AND carrier = ANY (b.carriers)
        ORDER BY array_position(b.carriers, carrier) LIMIT 1;
    IF NOT FOUND OR acct.hold_until > clock_timestamp() THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = p_business AND a.open AND a.owner IS NULL) THEN
        -- Single calls hold their slot and line already; they go ahead of lists.
        RETURN QUERY
        UPDATE attempt a SET owner = p_owner, intent_at = clock_timestamp(),
            next_look_at = clock_timestamp() + make_interval(secs => p_intent_grace_ms / 1000.0)
        WHERE a.business_id = p_business AND a.open AND a.owner IS NULL AND a.state = 'intent'
            AND a.dial_by > clock_timestamp() AND NOT a.hangup_wanted
        RETURNING a.attempt_id, a.job_id, a.run_id, a.account, a.from_number, a.to_number, a.ring_timeout_secs,
                  a.call_time_limit_secs;
    END IF;

    v_room := room_for_calls(p_business, b.max_concurrent_calls);
    IF acct.health = 'refused' THEN
        v_room := least(v_room, 1);
    END IF;
    v_room := least(v_room, cardinality(p_attempts));
    IF v_room = 0 THEN
        RETURN;
    END IF;
    SELECT max_lines INTO v_lines FROM installation;

    FOR v_run IN
        WITH pick AS (
            SELECT j.job_id, j.run_id, j.to_number, j.dials, j.place, r.ring_timeout_secs, r.call_time_limit_secs,
                   CASE WHEN cardinality(r.caller_ids) > 0 THEN r.caller_ids ELSE acct.caller_ids END AS callers
            FROM run r CROSS JOIN LATERAL (
                SELECT *, (- priority) AS place FROM job WHERE run_id = r.run_id AND state = 'queued'
                    AND ((- priority), job_id) >= (r.first_place, r.first_job)
                    AND NOT EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = to_number
                                    AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) OFFSET 0)
                    AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = p_business AND a.to_number = job.to_number AND a.open OFFSET 0)
                    AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.account = acct.reference AND a.to_number = job.to_number AND a.open OFFSET 0)
                ORDER BY (- priority), job_id LIMIT v_room FOR NO KEY UPDATE SKIP LOCKED) j
            WHERE r.business_id = p_business AND r.state = 'running'
            ORDER BY j.place, j.job_id LIMIT v_room
        ), numbered AS (
            SELECT *, row_number() OVER (ORDER BY place, job_id) AS i FROM pick
        ), held AS (
            SELECT attempt, slot, line, row_number() OVER (ORDER BY slot) AS i
            FROM unnest(p_attempts, p_slots, p_lines) AS h (attempt, slot, line)
            WHERE slot BETWEEN 1 AND b.max_concurrent_calls AND line BETWEEN 1 AND v_lines
        ), inserted AS (
            INSERT INTO attempt AS a (attempt_id, job_id, run_id, business_id, n, carrier, account, from_number, to_number, slot, line,
                                 ring_timeout_secs, call_time_limit_secs, owner, next_look_at)
            SELECT attempt, job_id, run_id, p_business, dials + 1, acct.carrier, acct.reference,
                   callers[(1 + (dials::bigint + (hashtext(to_number) & 2147483647)) % cardinality(callers))::integer], to_number,
                   slot, line, ring_timeout_secs, call_time_limit_secs, p_owner,
                   clock_timestamp() + make_interval(secs => p_intent_grace_ms / 1000.0)
            FROM numbered JOIN held USING (i)
            ON CONFLICT DO NOTHING
            RETURNING a.attempt_id, a.job_id, a.run_id, a.from_number, a.to_number, a.ring_timeout_secs, a.call_time_limit_secs
        ), moved AS (
            UPDATE job SET state = 'dialing', dials = dials + 1, attempt_count = attempt_count + 1, next_at = NULL
            FROM inserted WHERE job.job_id = inserted.job_id
        )
        SELECT i.*, count(*) OVER (PARTITION BY i.run_id) AS of_run, row_number() OVER (PARTITION BY i.run_id) AS nth
        FROM inserted i ORDER BY i.run_id
    LOOP
        v_taken := v_taken + 1;
        IF v_run.nth = 1 THEN
            PERFORM tally_moved(v_run.run_id, 'queued', 'dialing', NULL, v_run.of_run, v_run.of_run);
            IF random() < 0.02 THEN
                PERFORM begin_claims_at(v_run.run_id, NULL);
            END IF;
        END IF;
        attempt_id := v_run.attempt_id;
        job_id := v_run.job_id;
        run_id := v_run.run_id;
        account := acct.reference;
        from_number := v_run.from_number;
        to_number := v_run.to_number;
        ring_timeout_secs := v_run.ring_timeout_secs;
        call_time_limit_secs := v_run.call_time_limit_secs;
        RETURN NEXT;
    END LOOP;

    IF v_taken > 0 AND acct.health = 'refused' THEN
        UPDATE carrier_account SET hold_until = clock_timestamp() + make_interval(secs => p_refused_retry_ms / 1000.0)
            WHERE business_id = p_business AND carrier = acct.carrier;
    END IF;
    IF v_taken < v_room THEN
        -- What was given back may stand before the place that claims begin at: the next claim looks at the whole list.
        -- (One that is locked just now keeps its place: waiting for it here could deadlock.)
        UPDATE run SET first_place = DEFAULT, first_job = DEFAULT
        WHERE run_id IN (SELECT r.run_id FROM run r WHERE r.business_id = p_business AND r.state = 'running'
                             AND r.first_job <> '00000000-0000-0000-0000-000000000000' FOR NO KEY UPDATE SKIP LOCKED);
        IF NOT FOUND AND v_taken = 0 THEN
            PERFORM skip_suppressed(p_business);
        END IF;
    END IF;
END $$;

-- Where nothing is left to a running run of the business but what suppression keeps back, that is ended, so that the run can end.
-- (Suppressing a number and taking a list both end such jobs at once; this is for a suppression that came in between.)
CREATE FUNCTION skip_suppressed(p_business uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v record;
BEGIN
    IF EXISTS (
        SELECT 1 FROM run r CROSS JOIN LATERAL (
            SELECT 1 FROM job WHERE run_id = r.run_id AND state = 'queued'
                AND NOT EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = to_number
                                AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()))
            ORDER BY (- priority), job_id LIMIT 1) j
        WHERE r.business_id = p_business AND r.state = 'running') THEN
        RETURN;
    END IF;
    FOR v IN
        WITH skipped AS (
            UPDATE job SET state = 'skipped', reason = 'suppressed', finished_at = clock_timestamp(), next_at = NULL
            FROM run r
            WHERE r.business_id = p_business AND r.state = 'running' AND job.run_id = r.run_id AND job.state = 'queued'
                AND EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = job.to_number
                            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()))
            RETURNING job.run_id)
        SELECT run_id, count(*) AS n FROM skipped GROUP BY run_id ORDER BY run_id
    LOOP
        PERFORM tally_moved(v.run_id, 'queued', 'skipped', NULL, v.n, 0);
    END LOOP;
END $$;

-- Ends a run whose jobs are all final. A run row locked by someone else is left to the sweep: waiting here could deadlock
-- with a cancel, which locks the run before its attempts.
CREATE FUNCTION end_run_if_done(p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF has_queued(p_run) OR EXISTS (SELECT 1 FROM job WHERE run_id = p_run AND state IN ('waiting', 'dialing')) THEN
        RETURN false;
    END IF;
    -- An upload into the run holds this lock: its leads may be about to come.
    IF NOT pg_try_advisory_xact_lock_shared(hashtextextended('rollcall.import:' || p_run::text, 0)) THEN
        RETURN false;
    END IF;
    PERFORM 1 FROM run WHERE run_id = p_run AND state IN ('running', 'paused', 'cancelling') FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE run SET state = CASE state WHEN 'cancelling' THEN 'cancelled' ELSE 'completed' END, ended_at = clock_timestamp(),
        pause_reason = NULL, paused_by = NULL, paused_at = NULL
    WHERE run_id = p_run
        AND NOT EXISTS (SELECT 1 FROM job WHERE run_id = p_run AND state = 'queued')
        AND NOT EXISTS (SELECT 1 FROM job WHERE run_id = p_run AND state IN ('waiting', 'dialing'));
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM tally_changed(p_run);
    RETURN true;
END $$;

-- What became of the job of a closed attempt: its tally is moved by who called, who knows what else there is to move.
CREATE TYPE settled_job AS (run_id uuid, state text, disposition text, charged integer);

-- Gives the job of a closed attempt its next state. p_action: 'final' with state, disposition and reason; 'requeue' (uncharged);
-- 'not_placed' (requeue, at most twice). Nothing (a null run) where the job is not being dialed.
CREATE FUNCTION settle_job(p_job uuid, p_action text, p_state text, p_disposition text, p_reason text) RETURNS settled_job
LANGUAGE plpgsql AS $$
DECLARE
    v          settled_job;
    v_run_over boolean;
    v_before   integer;
BEGIN
    v.charged := 0;
    IF p_action <> 'final' THEN
        SELECT r.state IN ('cancelling', 'cancelled'), j.not_placed_count INTO v_run_over, v_before
            FROM job j JOIN run r USING (run_id) WHERE j.job_id = p_job;
        IF p_action = 'not_placed' AND v_before >= 2 AND NOT v_run_over THEN
            p_state := 'failed';
            p_disposition := 'not_placed';
            p_reason := 'not_placed';
        ELSE
            v.charged := -1;
            p_state := CASE WHEN v_run_over THEN 'cancelled' ELSE 'queued' END;
            p_disposition := CASE WHEN v_run_over THEN 'cancelled' END;
            p_reason := p_disposition;
        END IF;
    END IF;
    v.state := p_state;
    v.disposition := p_disposition;
    UPDATE job SET state = p_state, disposition = p_disposition, reason = p_reason,
        finished_at = CASE WHEN p_state <> 'queued' THEN clock_timestamp() END,
        attempt_count = attempt_count + v.charged,
        not_placed_count = not_placed_count + CASE WHEN p_action = 'not_placed' THEN 1 ELSE 0 END
    WHERE job_id = p_job AND state = 'dialing' RETURNING run_id INTO v.run_id;
    IF v.run_id IS NOT NULL AND p_state = 'queued' THEN
        PERFORM begin_claims_at(v.run_id, p_job);
    END IF;
    RETURN v;
END $$;

-- What apply_event and close_attempt say. verdict: applied | stale (nothing moved) | late (the attempt was closed without a
-- call) | other_call (the attempt has another call id) | no_attempt. job: what became of its job, where this closed it. started: a
-- carrier is known to have taken the call from now on. job: what became of its job, where it was closed by this.
CREATE TYPE attempt_change AS (
    verdict text, closed boolean, run_ended boolean, business_id uuid, run_id uuid, job_id uuid, state text,
    carrier text, account text, carrier_call_id text, hangup_wanted boolean, to_number text, job settled_job, started boolean
);

-- Writes down a call that this attempt does not answer for, or its end. One that was thought to be over and is heard of again
-- is hung up again.
CREATE FUNCTION note_stray(a attempt, p_call_id text, p_state text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_state = 'ended' THEN
        UPDATE stray_call SET ended_at = clock_timestamp() WHERE account = a.account AND call_id = p_call_id AND ended_at IS NULL;
    ELSE
        INSERT INTO stray_call (business_id, carrier, account, call_id, attempt_id)
        VALUES (a.business_id, a.carrier, a.account, p_call_id, a.attempt_id)
        ON CONFLICT (account, call_id) DO UPDATE SET ended_at = NULL;
    END IF;
END $$;

-- What an event does that moves nothing: it may fill in a time or a fact that was missed, once, or speak of a call that its
-- attempt does not answer for. The caller has locked the attempt.
CREATE FUNCTION note_unmoved(a attempt, p_source text, p_call_id text, p_state text, p_answered_by text, p_price numeric,
    p_currency text, p_sent_ms_ago integer) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v     attempt_change;
BEGIN
    v := ROW('stale', false, false, a.business_id, a.run_id, a.job_id, a.state, a.carrier, a.account,
             coalesce(a.carrier_call_id, p_call_id), a.hangup_wanted, a.to_number, NULL, false);
    IF NOT a.open AND a.state <> 'ended' THEN
        IF p_call_id IS NOT NULL THEN
            v.verdict := 'late';
            PERFORM note_stray(a, p_call_id, p_state);
            UPDATE attempt SET late_events = late_events + 1, events = CASE WHEN late_events < 8
                THEN events || transition(jsonb_array_length(events) + 1, p_source, a.state, a.state) ELSE events END
            WHERE attempt_id = a.attempt_id;
        END IF;
        RETURN v;
    END IF;
    IF p_call_id IS NOT NULL AND (a.carrier_call_id <> p_call_id OR (NOT a.open AND a.carrier_call_id IS NULL)) THEN
        v.verdict := 'other_call';
        v.carrier_call_id := p_call_id;
        PERFORM note_stray(a, p_call_id, p_state);
        UPDATE attempt SET late_events = late_events + 1 WHERE attempt_id = a.attempt_id;
        RETURN v;
    END IF;
    UPDATE attempt SET
        heard_at = v_now,
        sent_at = coalesce(sent_at, CASE WHEN p_sent_ms_ago IS NOT NULL THEN v_now - make_interval(secs => p_sent_ms_ago / 1000.0) END),
        placed_at = coalesce(placed_at, CASE WHEN p_state = 'placed' THEN v_now END),
        answered_by = coalesce(answered_by, p_answered_by),
        price = coalesce(price, p_price), currency = coalesce(currency, p_currency)
    WHERE attempt_id = a.attempt_id AND (open
        OR (p_sent_ms_ago IS NOT NULL AND sent_at IS NULL) OR (p_state = 'placed' AND placed_at IS NULL)
        OR (p_answered_by IS NOT NULL AND answered_by IS NULL) OR (p_price IS NOT NULL AND price IS NULL));
    RETURN v;
END $$;

-- Applies what the carrier said about a call, whoever asked. The rank only grows and the first final state wins; a call id
-- may be learned here. p_state: unknown, placed, initiated, ringing, answered or ended (then with p_disposition).
CREATE FUNCTION apply_event(p_business uuid, p_attempt uuid, p_source text, p_call_id text, p_state text, p_disposition text,
    p_duration_secs integer, p_answered_by text, p_carrier_status text, p_carrier_code integer, p_sip_code integer,
    p_price numeric, p_currency text, p_sent_ms_ago integer) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    a       attempt;
    v_now   timestamptz := clock_timestamp();
    v_rank  smallint := attempt_rank(p_state);
    v       attempt_change;
BEGIN
    LOOP
        -- Nearly always it moves, and this is all there is to it.
        UPDATE attempt SET
            state = p_state,
            carrier_call_id = coalesce(carrier_call_id, p_call_id),
            disposition = CASE WHEN fenced AND p_disposition IN ('answered', 'machine', 'fax') THEN 'abandoned' ELSE p_disposition END,
            heard_at = v_now,
            sent_at = coalesce(sent_at, CASE WHEN p_sent_ms_ago IS NOT NULL THEN v_now - make_interval(secs => p_sent_ms_ago / 1000.0) END),
            placed_at = coalesce(placed_at, CASE WHEN p_state = 'placed' THEN v_now END),
            initiated_at = coalesce(initiated_at, CASE WHEN p_state = 'initiated' THEN v_now END),
            ringing_at = coalesce(ringing_at, CASE WHEN p_state = 'ringing' THEN v_now END),
            answered_at = coalesce(answered_at, CASE WHEN p_state = 'answered' THEN v_now
                WHEN p_disposition IN ('answered', 'machine', 'fax', 'abandoned') THEN v_now - make_interval(secs => coalesce(p_duration_secs, 0)) END),
            ended_at = CASE WHEN p_state = 'ended' THEN v_now END,
            duration_secs = coalesce(p_duration_secs, duration_secs),
            answered_by = coalesce(p_answered_by, answered_by),
            carrier_status = coalesce(p_carrier_status, carrier_status),
            carrier_code = coalesce(p_carrier_code, carrier_code),
            sip_code = coalesce(p_sip_code, sip_code),
            price = coalesce(p_price, price), currency = coalesce(p_currency, currency),
            needs_person = false, needs_person_since = NULL,
            -- An attempt in doubt is looked for at once; one with a call id is found through its account's live list.
            next_look_at = CASE WHEN p_state = 'unknown' THEN v_now END,
            events = events || transition(jsonb_array_length(events) + 1, p_source, state, p_state)
        WHERE attempt_id = p_attempt AND business_id = p_business AND rank < v_rank
            AND (carrier_call_id IS NULL OR p_call_id IS NULL OR carrier_call_id = p_call_id)
        RETURNING * INTO a;
        EXIT WHEN FOUND;

        SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt AND business_id = p_business FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            v.verdict := 'no_attempt';
            RETURN v;
        END IF;
        -- It came to a state that the event moves while its row was waited for: now the row is locked, and moves.
        CONTINUE WHEN a.open AND a.rank < v_rank AND (a.carrier_call_id IS NULL OR p_call_id IS NULL OR a.carrier_call_id = p_call_id);
        RETURN note_unmoved(a, p_source, p_call_id, p_state, p_answered_by, p_price, p_currency, p_sent_ms_ago);
    END LOOP;
    v := ROW('applied', a.state = 'ended', false, a.business_id, a.run_id, a.job_id, a.state, a.carrier, a.account,
             a.carrier_call_id, a.hangup_wanted, a.to_number, NULL, false);
    v.started := v_rank >= 2 AND (a.events -> -1 ->> 'from') IN ('intent', 'unknown');
    IF a.state <> 'ended' OR a.job_id IS NULL THEN
        RETURN v;
    END IF;
    p_disposition := a.disposition;
    IF p_disposition = 'cancelled' AND a.queue_cancelled_at IS NOT NULL AND NOT a.hangup_wanted THEN
        v.job := settle_job(a.job_id, 'requeue', NULL, NULL, NULL);
    ELSIF p_disposition IN ('answered', 'machine', 'voicemail_left', 'fax') THEN
        v.job := settle_job(a.job_id, 'final', 'completed', p_disposition, NULL);
    ELSIF p_disposition = 'abandoned' AND a.reason = 'expired' THEN
        v.job := settle_job(a.job_id, 'final', 'unreached', 'abandoned', 'expired');
    ELSIF a.hangup_wanted OR p_disposition = 'cancelled' THEN
        v.job := settle_job(a.job_id, 'final', 'cancelled', CASE p_disposition WHEN 'abandoned' THEN 'abandoned' ELSE 'cancelled' END, 'cancelled');
    ELSE
        v.job := settle_job(a.job_id, 'final', 'unreached', p_disposition, 'attempts_used');
    END IF;
    RETURN v;
END $$;

-- The same for any number of events, in their order, with the tallies and the ends of their runs. Everybody locks attempts first,
-- each with its job, and then tallies in the order of their runs, so that no two wait for each other: callers sort by attempt.
CREATE FUNCTION apply_events(p_businesses uuid[], p_attempts uuid[], p_sources text[], p_call_ids text[], p_states text[],
    p_dispositions text[], p_durations_secs integer[], p_answered_by text[], p_carrier_statuses text[], p_carrier_codes integer[],
    p_sip_codes integer[], p_prices text[], p_currencies text[], p_sent_ms_ago integer[]) RETURNS SETOF attempt_change
LANGUAGE plpgsql AS $$
DECLARE
    v_changes attempt_change[];
    v_jobs    settled_job[];
    v         attempt_change;
    v_run     record;
    v_started bigint := 0;
BEGIN
    IF NOT 'ended' = ANY (p_states) THEN
        -- Losing this in a crash of Postgres costs a look at the carrier, nothing else.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    FOR i IN 1..cardinality(p_attempts) LOOP
        v := apply_event(p_businesses[i], p_attempts[i], p_sources[i], p_call_ids[i], p_states[i], p_dispositions[i],
            p_durations_secs[i], p_answered_by[i], p_carrier_statuses[i], p_carrier_codes[i], p_sip_codes[i], p_prices[i]::numeric,
            p_currencies[i], p_sent_ms_ago[i]);
        v_changes[i] := v;
        v_started := v_started + (v.started IS TRUE)::integer;
        IF (v.job).run_id IS NOT NULL THEN
            v_jobs := v_jobs || v.job;
        END IF;
    END LOOP;
    IF v_started > 0 THEN
        PERFORM tally_calls_started(v_started);
    END IF;
    IF v_jobs IS NOT NULL THEN
        FOR v_run IN
            SELECT run_id, state, disposition, count(*) AS jobs, sum(charged) AS charged,
                   row_number() OVER (PARTITION BY run_id ORDER BY state, disposition DESC) AS nth,
                   count(*) OVER (PARTITION BY run_id) AS kinds
            FROM unnest(v_jobs) GROUP BY run_id, state, disposition ORDER BY run_id, nth
        LOOP
            PERFORM tally_moved(v_run.run_id, 'dialing', v_run.state, v_run.disposition, v_run.jobs, v_run.charged::bigint);
            IF v_run.nth = v_run.kinds AND end_run_if_done(v_run.run_id) THEN
                FOR i IN REVERSE cardinality(v_changes)..1 LOOP
                    IF (v_changes[i].job).run_id = v_run.run_id THEN
                        v_changes[i].run_ended := true;
                        EXIT;
                    END IF;
                END LOOP;
            END IF;
        END LOOP;
    END IF;
    RETURN QUERY SELECT * FROM unnest(v_changes);
END $$;

-- Closes an attempt that never became a call: p_state refused, not_sent or not_placed, only from intent or unknown and only
-- while no call id is known. p_action as in settle_job. A single call keeps p_reason itself.
CREATE FUNCTION close_attempt(p_attempt uuid, p_source text, p_state text, p_action text, p_disposition text, p_reason text,
    p_carrier_status text, p_carrier_code integer) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    a attempt;
    v attempt_change;
BEGIN
    SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        v.verdict := 'no_attempt';
        RETURN v;
    END IF;
    v := ROW('stale', false, false, a.business_id, a.run_id, a.job_id, a.state, a.carrier, a.account, a.carrier_call_id,
             a.hangup_wanted, a.to_number, NULL, false);
    IF a.rank > 1 OR a.carrier_call_id IS NOT NULL THEN
        RETURN v;
    END IF;
    IF p_state = 'not_sent' AND p_action = 'requeue' AND a.job_id IS NULL AND a.state = 'intent'
       AND a.dial_by > clock_timestamp() AND NOT a.hangup_wanted THEN
        -- No byte of this single call left and it has time: it is sent by whoever takes it next, and keeps its slot. One that
        -- was refused or not placed was sent, and an attempt is sent once.
        UPDATE attempt SET owner = NULL, next_look_at = NULL WHERE attempt_id = p_attempt;
        v.verdict := 'applied';
        RETURN v;
    END IF;
    UPDATE attempt SET state = p_state, ended_at = clock_timestamp(), heard_at = clock_timestamp(), disposition = p_disposition,
        reason = coalesce(p_reason, CASE WHEN a.job_id IS NOT NULL THEN NULL WHEN a.hangup_wanted THEN 'cancelled'
            WHEN p_state = 'refused' THEN 'refused' ELSE 'expired' END),
        carrier_status = p_carrier_status, carrier_code = p_carrier_code, next_look_at = NULL,
        needs_person = false, needs_person_since = NULL,
        events = events || transition(jsonb_array_length(events) + 1, p_source, a.state, p_state)
    WHERE attempt_id = p_attempt;
    v.verdict := 'applied';
    v.closed := true;
    v.state := p_state;
    IF a.job_id IS NULL THEN
        RETURN v;
    END IF;
    IF p_action = 'requeue' AND a.hangup_wanted THEN
        v.job := settle_job(a.job_id, 'final', 'cancelled', 'cancelled', 'cancelled');
    ELSIF p_action = 'requeue' AND p_state = 'not_placed' THEN
        v.job := settle_job(a.job_id, 'not_placed', NULL, NULL, NULL);
    ELSE
        v.job := settle_job(a.job_id, p_action, 'failed', p_disposition, p_reason);
    END IF;
    IF (v.job).run_id IS NOT NULL THEN
        PERFORM tally_moved((v.job).run_id, 'dialing', (v.job).state, (v.job).disposition, 1, (v.job).charged);
    END IF;
    v.run_ended := end_run_if_done(a.run_id);
    RETURN v;
END $$;

-- Closes a single call that no worker took within its time. A worker that takes it at the last moment wins: the row's lock
-- decides, and afterwards the owner is there.
CREATE FUNCTION expire_call(p_attempt uuid) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    v attempt_change;
BEGIN
    PERFORM 1 FROM attempt WHERE attempt_id = p_attempt AND state = 'intent' AND owner IS NULL AND dial_by < clock_timestamp()
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        v.verdict := 'no_attempt';
        RETURN v;
    END IF;
    RETURN close_attempt(p_attempt, 'reconcile', 'not_sent', 'final', NULL, 'expired', NULL, NULL);
END $$;

-- Admits a single call: its holder becomes an intent without an owner, if a slot and a line are its own now. True if inserted.
CREATE FUNCTION admit_call(p_business uuid, p_attempt uuid, p_slot integer, p_line integer, p_carrier text, p_from text, p_to text,
    p_external_id text, p_variables jsonb, p_message jsonb, p_ring_timeout_secs integer, p_call_time_limit_secs integer,
    p_max_wait_secs integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    b    business;
    acct carrier_account;
BEGIN
    SELECT * INTO b FROM business WHERE business_id = p_business FOR NO KEY UPDATE;
    IF NOT FOUND OR b.state <> 'active' THEN
        RETURN 'business';
    END IF;
    SELECT * INTO acct FROM carrier_account WHERE business_id = p_business AND carrier = p_carrier;
    IF NOT FOUND THEN
        RETURN 'account';
    END IF;
    IF acct.health = 'refused' OR acct.hold_until > clock_timestamp() THEN
        RETURN 'held';
    END IF;
    IF EXISTS (SELECT 1 FROM suppression WHERE business_id = p_business AND number = p_to
               AND (expires_at IS NULL OR expires_at > clock_timestamp())) THEN
        RETURN 'suppressed';
    END IF;
    IF EXISTS (SELECT 1 FROM attempt WHERE business_id = p_business AND to_number = p_to AND open)
       OR EXISTS (SELECT 1 FROM attempt WHERE account = acct.reference AND to_number = p_to AND open) THEN
        RETURN 'in_call';
    END IF;
    IF room_for_calls(p_business, b.max_concurrent_calls) < 1 OR p_slot > b.max_concurrent_calls
       OR p_line > (SELECT max_lines FROM installation) THEN
        RETURN 'full';
    END IF;
    INSERT INTO attempt (attempt_id, business_id, external_id, variables, message, carrier, account, from_number, to_number, slot, line,
                         ring_timeout_secs, call_time_limit_secs, dial_by)
    VALUES (p_attempt, p_business, p_external_id, p_variables, p_message, p_carrier, acct.reference, coalesce(p_from, acct.caller_ids[1]),
            p_to, p_slot, p_line, p_ring_timeout_secs, p_call_time_limit_secs,
            clock_timestamp() + make_interval(secs => p_max_wait_secs))
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN 'admitted' ELSE 'full' END;
END $$;

-- What answered calls are to hear, behind the fence: an attempt that is closed, cancelled, or answered later than anybody can
-- have wanted it hears nothing. Applies the answers as events in the same round trip; callers sort as for apply_events.
CREATE FUNCTION answer_calls(p_businesses uuid[], p_attempts uuid[], p_call_ids text[], p_answered_by text[], p_fence_ms integer[])
RETURNS TABLE (speak boolean, message jsonb, variables jsonb) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    a       attempt;
    v       attempt_change;
    v_speak boolean;
    v_started bigint := 0;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR i IN 1..cardinality(p_attempts) LOOP
        v := apply_event(p_businesses[i], p_attempts[i], 'webhook', p_call_ids[i], 'answered', NULL, NULL, p_answered_by[i],
                         'in-progress', NULL, NULL, NULL, NULL, NULL);
        v_started := v_started + (v.started IS TRUE)::integer;
        IF v.verdict NOT IN ('applied', 'stale') THEN
            RETURN QUERY SELECT false, NULL::jsonb, NULL::jsonb;
            CONTINUE;
        END IF;
        SELECT * INTO a FROM attempt WHERE attempt_id = p_attempts[i];
        IF a.open AND clock_timestamp() > a.intent_at + make_interval(secs => a.ring_timeout_secs + p_fence_ms[i] / 1000.0) THEN
            UPDATE attempt SET hangup_wanted = true, reason = 'expired' WHERE attempt_id = a.attempt_id;
            a.hangup_wanted := true;
        END IF;
        v_speak := a.open AND NOT a.hangup_wanted
            AND NOT EXISTS (SELECT 1 FROM run WHERE run_id = a.run_id AND state IN ('cancelling', 'cancelled'));
        IF a.open AND NOT v_speak THEN
            UPDATE attempt SET fenced = true WHERE attempt_id = a.attempt_id;
        END IF;
        RETURN QUERY
        SELECT v_speak, coalesce(a.message, r.message), coalesce(j.variables, a.variables)
        FROM (SELECT 1) one LEFT JOIN run r ON r.run_id = a.run_id LEFT JOIN job j ON j.job_id = a.job_id;
    END LOOP;
    IF v_started > 0 THEN
        PERFORM tally_calls_started(v_started);
    END IF;
END $$;
