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

-- How many more calls the whole installation may have now: unique lines below max_lines are proof enough, unless max_lines was
-- lowered while higher lines are open. Then they are counted, by one claim at a time.
CREATE FUNCTION room_on_lines() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_max_lines integer;
    v_room      bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lines_lock());
    SELECT max_lines INTO v_max_lines FROM installation;
    IF NOT EXISTS (SELECT 1 FROM attempt WHERE open AND line > v_max_lines) THEN
        RETURN v_max_lines;
    END IF;
    PERFORM pg_advisory_xact_lock(lowered_lines_lock());
    SELECT greatest(v_max_lines - count(*), 0) INTO v_room FROM attempt WHERE open AND line IS NOT NULL;
    RETURN v_room;
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

-- The carrier that a run dials through now: the first in its order that the business uses, has an account at, and that is not
-- left alone. Nothing where there is none. An attempt in doubt keeps its job from being claimed at all, whichever is next.
CREATE FUNCTION carrier_of_run(p_business uuid, p_carriers text[]) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT c.carrier FROM carrier_account c JOIN business b USING (business_id)
    WHERE c.business_id = p_business AND c.carrier = ANY (p_carriers) AND c.carrier = ANY (b.carriers)
        AND (c.hold_until > clock_timestamp()) IS NOT TRUE
    ORDER BY array_position(p_carriers, c.carrier) LIMIT 1
$$;

-- The numbers that a run calls from at an account: those of its own that the account has, or else all of the account's.
CREATE FUNCTION callers_of_run(p_run text[], p_account text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_run && p_account THEN ARRAY (SELECT n FROM unnest(p_run) WITH ORDINALITY AS own (n, i)
        WHERE n = ANY (p_account) ORDER BY i) ELSE p_account END
$$;

-- Claims due jobs of some businesses for the given holders: locks the businesses, counts, checks run, suppression and account,
-- inserts the attempts as intents and moves the jobs. Returns one row per attempt inserted; holders without a row are free again.
-- Where there are several businesses, one that somebody else has locked, or that has nothing due from where its claims begin, is
-- named without an attempt: it is to be claimed for alone. So nobody waits for another's lock, and tallies are locked in one order.
-- A claim is for one carrier of each business (p_carriers), whose pace token the caller holds.
CREATE FUNCTION claim_jobs(p_businesses uuid[], p_carriers text[], p_owners text[], p_holding uuid[], p_attempts uuid[], p_slots integer[], p_lines integer[],
    p_intent_grace_ms integer, p_refused_retry_ms integer)
RETURNS TABLE (business_id uuid, attempt_id uuid, job_id uuid, run_id uuid, account text, from_number text, to_number text,
               ring_timeout_secs integer, call_time_limit_secs integer, record boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_alone   boolean := cardinality(p_businesses) = 1;
    v_locked  uuid[];
    v_look_at timestamptz := clock_timestamp() + make_interval(secs => p_intent_grace_ms / 1000.0);
    v_lines   integer;
    v_room    bigint;
    v         record;
BEGIN
    IF v_alone THEN
        PERFORM 1 FROM business b WHERE b.business_id = p_businesses[1] FOR NO KEY UPDATE;
        v_locked := p_businesses;
    ELSE
        SELECT array_agg(business_id) INTO v_locked FROM (
            SELECT business_id FROM business WHERE business_id = ANY (p_businesses) FOR NO KEY UPDATE SKIP LOCKED) b;
        RETURN QUERY SELECT b, NULL::uuid, NULL::uuid, NULL::uuid, NULL, NULL, NULL, NULL::integer, NULL::integer, NULL::boolean
            FROM unnest(p_businesses) b WHERE b = ANY (v_locked) IS NOT TRUE;
    END IF;
    IF EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = ANY (v_locked) AND a.open AND a.owner IS NULL) THEN
        -- Single calls hold their slot and line already; they go ahead of lists.
        RETURN QUERY
        UPDATE attempt a SET owner = p_owners[array_position(p_businesses, a.business_id)], intent_at = clock_timestamp(), next_look_at = v_look_at
        FROM business b JOIN carrier_account c USING (business_id)
        WHERE a.business_id = ANY (v_locked) AND a.open AND a.owner IS NULL AND a.state = 'intent' AND a.dial_by > clock_timestamp()
            AND NOT a.hangup_wanted AND b.business_id = a.business_id AND b.state = 'active' AND c.reference = a.account
            AND (c.hold_until > clock_timestamp()) IS NOT TRUE
        RETURNING a.business_id, a.attempt_id, a.job_id, a.run_id, a.account, a.from_number, a.to_number, a.ring_timeout_secs,
                  a.call_time_limit_secs, a.record;
    END IF;
    v_room := room_on_lines();
    SELECT max_lines INTO v_lines FROM installation;

    FOR v IN
        WITH able AS (
            SELECT b.business_id, b.max_concurrent_calls, acct.carrier, acct.reference, acct.caller_ids, acct.health,
                   least(CASE acct.health WHEN 'refused' THEN 1 ELSE b.max_concurrent_calls END,
                         b.max_concurrent_calls - (SELECT count(*) FROM attempt a WHERE a.business_id = b.business_id AND a.open),
                         (SELECT count(*) FROM unnest(p_holding) h WHERE h = b.business_id)) AS room
            FROM business b JOIN carrier_account acct ON acct.business_id = b.business_id
                AND acct.carrier = p_carriers[array_position(p_businesses, b.business_id)] AND acct.carrier = ANY (b.carriers)
            WHERE b.business_id = ANY (v_locked) AND b.state = 'active' AND (acct.hold_until > clock_timestamp()) IS NOT TRUE
        ), pick AS (
            SELECT b.*, j.*, row_number() OVER (PARTITION BY b.business_id ORDER BY j.place, j.job_id) AS i
            FROM able b CROSS JOIN LATERAL (
                SELECT j.*, r.ring_timeout_secs, r.call_time_limit_secs, r.record, callers_of_run(r.caller_ids, b.caller_ids) AS callers
                FROM run r CROSS JOIN LATERAL (
                    SELECT job_id, run_id, to_number, dials, (- priority) AS place FROM job
                    WHERE run_id = r.run_id AND state = 'queued' AND ((- priority), job_id) >= (r.first_place, r.first_job)
                        AND NOT EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = b.business_id AND s.number = to_number
                                        AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) OFFSET 0)
                        AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = b.business_id AND a.to_number = job.to_number AND a.open OFFSET 0)
                        AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.account = b.reference AND a.to_number = job.to_number AND a.open OFFSET 0)
                    ORDER BY (- priority), job_id LIMIT greatest(b.room, 0) FOR NO KEY UPDATE SKIP LOCKED) j
                WHERE r.business_id = b.business_id AND r.state = 'running'
                    AND (r.carriers = ARRAY[b.carrier] OR carrier_of_run(r.business_id, r.carriers) = b.carrier)
                ORDER BY j.place, j.job_id LIMIT greatest(b.room, 0)) j
        ), held AS (
            SELECT holding, attempt, slot, line, row_number() OVER (PARTITION BY holding ORDER BY slot) AS i
            FROM unnest(p_holding, p_attempts, p_slots, p_lines) AS h (holding, attempt, slot, line) JOIN able b ON b.business_id = holding
            WHERE slot BETWEEN 1 AND b.max_concurrent_calls AND line BETWEEN 1 AND v_lines
        ), inserted AS (
            INSERT INTO attempt AS a (attempt_id, job_id, run_id, business_id, n, carrier, account, from_number, to_number, slot, line,
                                 ring_timeout_secs, call_time_limit_secs, record, owner, next_look_at)
            SELECT attempt, job_id, run_id, business_id, dials + 1, carrier, reference,
                   callers[(1 + (dials::bigint + (hashtext(to_number) & 2147483647)) % cardinality(callers))::integer], to_number,
                   slot, line, ring_timeout_secs, call_time_limit_secs, p.record, p_owners[array_position(p_businesses, business_id)], v_look_at
            FROM pick p JOIN held h ON h.holding = p.business_id AND h.i = p.i ORDER BY line LIMIT v_room
            ON CONFLICT DO NOTHING
            RETURNING a.business_id, a.attempt_id, a.job_id, a.run_id, a.account, a.from_number, a.to_number, a.ring_timeout_secs,
                      a.call_time_limit_secs, a.record
        ), moved AS (
            UPDATE job SET state = 'dialing', dials = dials + 1, attempt_count = attempt_count + 1, next_at = NULL
            FROM inserted WHERE job.job_id = inserted.job_id
        ), tallied AS (
            INSERT INTO tally_shard AS t (run_id, shard, changes, attempts, queued, dialing)
            SELECT run_id, tally_shard(), count(*), count(*), - count(*), count(*) FROM inserted GROUP BY run_id ORDER BY run_id
            ON CONFLICT (run_id, shard) DO UPDATE SET changes = t.changes + excluded.changes, attempts = t.attempts + excluded.attempts,
                queued = t.queued + excluded.queued, dialing = t.dialing + excluded.dialing
        )
        SELECT b.business_id AS business, b.room, b.carrier, b.health, count(i.attempt_id) OVER own AS taken, row_number() OVER own AS nth, i.*
        FROM able b LEFT JOIN inserted i ON i.business_id = b.business_id WHERE b.room > 0
        WINDOW own AS (PARTITION BY b.business_id)
    LOOP
        business_id := v.business;
        attempt_id := v.attempt_id;
        job_id := v.job_id;
        run_id := v.run_id;
        account := v.account;
        from_number := v.from_number;
        to_number := v.to_number;
        ring_timeout_secs := v.ring_timeout_secs;
        call_time_limit_secs := v.call_time_limit_secs;
        record := v.record;
        IF v.attempt_id IS NOT NULL THEN
            RETURN NEXT;
            IF v.health = 'refused' THEN
                UPDATE carrier_account c SET hold_until = clock_timestamp() + make_interval(secs => p_refused_retry_ms / 1000.0)
                    WHERE c.business_id = v.business AND c.carrier = v.carrier;
            END IF;
            IF random() < 0.02 THEN
                PERFORM begin_claims_at(v.run_id, NULL);
            END IF;
        END IF;
        IF v.taken < v.room AND v.nth = 1 THEN
            IF NOT v_alone THEN
                RETURN QUERY SELECT v.business, NULL::uuid, NULL::uuid, NULL::uuid, NULL, NULL, NULL, NULL::integer, NULL::integer, NULL::boolean;
                CONTINUE;
            END IF;
            -- What was given back may stand before the place that claims begin at: the next claim looks at the whole list.
            -- (One that is locked just now keeps its place: waiting for it here could deadlock.)
            UPDATE run SET first_place = DEFAULT, first_job = DEFAULT
            WHERE run_id IN (SELECT r.run_id FROM run r WHERE r.business_id = v.business AND r.state = 'running'
                                 AND r.first_job <> '00000000-0000-0000-0000-000000000000' FOR NO KEY UPDATE SKIP LOCKED);
            IF NOT FOUND AND v.taken = 0 THEN
                PERFORM skip_suppressed(v.business);
            END IF;
        END IF;
    END LOOP;
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

-- What apply_events and close_attempt say. verdict: applied | stale (nothing moved) | late (the attempt was closed without a
-- call) | other_call (the attempt has another call id) | no_attempt. requeue: its job is dialed again, uncharged. speak: an answered
-- call may hear the message with these variables.
CREATE TYPE attempt_change AS (
    verdict text, closed boolean, run_ended boolean, business_id uuid, run_id uuid, job_id uuid, account text,
    carrier_call_id text, hangup_wanted boolean, requeue boolean, speak boolean, message jsonb, variables jsonb
);

-- Closes an attempt that never became a call: p_state refused, not_sent or not_placed, only from intent or unknown and only
-- while no call id is known. p_action as in settle_job. A single call keeps p_reason itself.
CREATE FUNCTION close_attempt(p_attempt uuid, p_source text, p_state text, p_action text, p_disposition text, p_reason text,
    p_carrier_status text, p_carrier_code integer) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    a     attempt;
    v     attempt_change;
    v_job settled_job;
BEGIN
    SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        v.verdict := 'no_attempt';
        RETURN v;
    END IF;
    v := ROW('stale', false, false, a.business_id, a.run_id, a.job_id, a.account, a.carrier_call_id, a.hangup_wanted, false,
             NULL, NULL, NULL);
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
    IF a.job_id IS NULL THEN
        RETURN v;
    END IF;
    IF p_action = 'requeue' AND a.hangup_wanted THEN
        v_job := settle_job(a.job_id, 'final', 'cancelled', 'cancelled', 'cancelled');
    ELSIF p_action = 'requeue' AND p_state = 'not_placed' THEN
        v_job := settle_job(a.job_id, 'not_placed', NULL, NULL, NULL);
    ELSE
        v_job := settle_job(a.job_id, p_action, 'failed', p_disposition, p_reason);
    END IF;
    IF v_job.run_id IS NOT NULL THEN
        PERFORM tally_moved(v_job.run_id, 'dialing', v_job.state, v_job.disposition, 1, v_job.charged);
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
    p_max_wait_secs integer, p_record boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    b    business;
    acct carrier_account;
BEGIN
    SELECT * INTO b FROM business WHERE business_id = p_business FOR NO KEY UPDATE;
    IF NOT FOUND OR b.state <> 'active' THEN
        RETURN 'business';
    END IF;
    SELECT * INTO acct FROM carrier_account WHERE business_id = p_business AND carrier = p_carrier AND carrier = ANY (b.carriers);
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
    IF (SELECT count(*) FROM attempt WHERE business_id = p_business AND open) >= b.max_concurrent_calls
       OR room_on_lines() < 1 OR p_slot > b.max_concurrent_calls
       OR p_line > (SELECT max_lines FROM installation) THEN
        RETURN 'full';
    END IF;
    INSERT INTO attempt (attempt_id, business_id, external_id, variables, message, carrier, account, from_number, to_number, slot, line,
                         ring_timeout_secs, call_time_limit_secs, dial_by, record)
    VALUES (p_attempt, p_business, p_external_id, p_variables, p_message, p_carrier, acct.reference, coalesce(p_from, acct.caller_ids[1]),
            p_to, p_slot, p_line, p_ring_timeout_secs, p_call_time_limit_secs,
            clock_timestamp() + make_interval(secs => p_max_wait_secs), p_record)
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN 'admitted' ELSE 'full' END;
END $$;
