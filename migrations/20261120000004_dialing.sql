-- The steps of the dial protocol that must be one round trip and one transaction.
-- They are plpgsql, not one statement with CTEs: each statement inside takes a fresh snapshot, so what is counted after a
-- lock was waited for is newer than the lock.

-- Key of the advisory lock over installation.max_lines: claims share it, a change of max_lines takes it alone.
CREATE FUNCTION lines_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7239001 $$;
-- Key of the advisory lock that claims take alone while more lines are open than a lowered max_lines allows.
CREATE FUNCTION lowered_lines_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7239002 $$;

CREATE FUNCTION attempt_rank(p_state text) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT (CASE p_state WHEN 'intent' THEN 0 WHEN 'unknown' THEN 1 WHEN 'placed' THEN 2 WHEN 'initiated' THEN 3
        WHEN 'ringing' THEN 4 WHEN 'answered' THEN 5 ELSE 9 END)::smallint
$$;

CREATE FUNCTION transition(p_seq integer, p_source text, p_from text, p_to text) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_array(jsonb_build_object('seq', p_seq, 'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'source', p_source, 'from', p_from, 'to', p_to))
$$;

-- Adds one to a tally that no job's move accounts for: a move of the run itself, or a call placed (the nil run: all of them).
CREATE FUNCTION tally_one(p_run uuid, p_key text) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO tally (run_id, key, shard, n) VALUES (p_run, p_key, tally_shard(), 1)
    ON CONFLICT (run_id, key, shard) DO UPDATE SET n = tally.n + 1
$$;

-- How many attempts may be inserted now: the business is locked by the caller. Never negative.
CREATE FUNCTION room_for_calls(p_business uuid, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_max_lines integer;
    v_room      integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lines_lock());
    SELECT max_lines INTO v_max_lines FROM installation;
    SELECT p_limit - count(*) INTO v_room FROM attempt WHERE business_id = p_business AND rank < 9;
    -- Unique lines below max_lines are proof enough, unless max_lines was lowered while higher lines are open.
    IF EXISTS (SELECT 1 FROM attempt WHERE rank < 9 AND line > v_max_lines) THEN
        PERFORM pg_advisory_xact_lock(lowered_lines_lock());
        SELECT least(v_room, v_max_lines - count(*)) INTO v_room FROM attempt WHERE rank < 9;
    END IF;
    RETURN greatest(v_room, 0);
END $$;

-- Claims due jobs of one business for the given holders: locks the business, counts, checks run, suppression and account,
-- inserts the attempts as intents and moves the jobs. Returns one row per attempt inserted; holders without a row are free again.
CREATE FUNCTION claim_jobs(p_business uuid, p_owner text, p_attempts uuid[], p_slots integer[], p_lines integer[],
    p_intent_grace_ms integer, p_refused_retry_ms integer)
RETURNS TABLE (attempt_id uuid, job_id uuid, run_id uuid, carrier text, account text, from_number text, to_number text,
               ring_timeout_secs integer, call_time_limit_secs integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    b           business;
    acct        carrier_account;
    v_room      integer;
    v_holders   uuid[];
    v_slots     integer[];
    v_lines     integer[];
    v_taken     integer;
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
    -- Single calls hold their slot and line already; they go ahead of lists.
    RETURN QUERY
    UPDATE attempt a SET owner = p_owner, intent_at = clock_timestamp(),
        next_look_at = clock_timestamp() + make_interval(secs => p_intent_grace_ms / 1000.0)
    WHERE a.business_id = p_business AND a.state = 'intent' AND a.owner IS NULL AND a.dial_by > clock_timestamp() AND NOT a.hangup_wanted
    RETURNING a.attempt_id, a.job_id, a.run_id, a.carrier, a.account, a.from_number, a.to_number, a.ring_timeout_secs,
              a.call_time_limit_secs;

    v_room := room_for_calls(p_business, b.max_concurrent_calls);
    IF acct.health = 'refused' THEN
        v_room := least(v_room, 1);
    END IF;
    SELECT array_agg(h), array_agg(s), array_agg(l) INTO v_holders, v_slots, v_lines FROM (
        SELECT h, s, l FROM unnest(p_attempts, p_slots, p_lines) AS held(h, s, l)
        WHERE s BETWEEN 1 AND b.max_concurrent_calls AND l BETWEEN 1 AND (SELECT max_lines FROM installation)
        ORDER BY s LIMIT v_room) usable;
    v_room := coalesce(cardinality(v_holders), 0);
    IF v_room = 0 THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH pick AS (
        SELECT j.job_id, j.run_id, j.to_number, j.dials, j.priority, r.ring_timeout_secs, r.call_time_limit_secs,
               CASE WHEN cardinality(r.caller_ids) > 0 THEN r.caller_ids ELSE acct.caller_ids END AS callers
        FROM run r CROSS JOIN LATERAL (
            SELECT * FROM job WHERE run_id = r.run_id AND state = 'queued'
                AND NOT EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = to_number
                                AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()))
                AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = p_business AND a.to_number = job.to_number AND a.rank < 9)
                AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.account = acct.reference AND a.to_number = job.to_number AND a.rank < 9)
            ORDER BY priority DESC, job_id LIMIT v_room FOR NO KEY UPDATE SKIP LOCKED) j
        WHERE r.business_id = p_business AND r.state = 'running'
        ORDER BY j.priority DESC, j.job_id LIMIT v_room
    ), numbered AS (
        SELECT *, row_number() OVER (ORDER BY priority DESC, job_id) AS i FROM pick
    ), inserted AS (
        INSERT INTO attempt AS a (attempt_id, job_id, run_id, business_id, n, carrier, account, from_number, to_number, slot, line,
                             ring_timeout_secs, call_time_limit_secs, owner, next_look_at)
        SELECT v_holders[i], job_id, run_id, p_business, dials + 1, acct.carrier, acct.reference,
               callers[(1 + (dials::bigint + (hashtext(to_number) & 2147483647)) % cardinality(callers))::integer], to_number, v_slots[i], v_lines[i],
               ring_timeout_secs, call_time_limit_secs, p_owner, clock_timestamp() + make_interval(secs => p_intent_grace_ms / 1000.0)
        FROM numbered
        ON CONFLICT DO NOTHING
        RETURNING a.attempt_id, a.job_id, a.run_id, a.from_number, a.to_number, a.ring_timeout_secs, a.call_time_limit_secs
    ), moved AS (
        UPDATE job SET state = 'dialing', dials = dials + 1, attempt_count = attempt_count + 1, next_at = NULL
        FROM inserted WHERE job.job_id = inserted.job_id
    )
    SELECT i.attempt_id, i.job_id, i.run_id, acct.carrier, acct.reference, i.from_number, i.to_number,
           i.ring_timeout_secs, i.call_time_limit_secs
    FROM inserted i;
    GET DIAGNOSTICS v_taken = ROW_COUNT;

    IF v_taken > 0 AND acct.health = 'refused' THEN
        UPDATE carrier_account SET hold_until = clock_timestamp() + make_interval(secs => p_refused_retry_ms / 1000.0)
            WHERE business_id = p_business AND carrier = acct.carrier;
    END IF;
    IF v_taken = 0 AND NOT EXISTS (
        SELECT 1 FROM run r CROSS JOIN LATERAL (
            SELECT 1 FROM job WHERE run_id = r.run_id AND state = 'queued'
                AND NOT EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = to_number
                                AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()))
            ORDER BY priority DESC, job_id LIMIT 1) j
        WHERE r.business_id = p_business AND r.state = 'running') THEN
        -- Nothing is left but what suppression keeps back: it is ended, so that the run can end. (Suppressing a number and
        -- taking a list both end such jobs at once; this is for a suppression that came in between.)
        UPDATE job SET state = 'skipped', reason = 'suppressed', finished_at = clock_timestamp(), next_at = NULL
        FROM run r
        WHERE r.business_id = p_business AND r.state = 'running' AND job.run_id = r.run_id AND job.state = 'queued'
            AND EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = job.to_number
                        AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()));
    END IF;
END $$;

-- Ends a run whose jobs are all final. A run row locked by someone else is left to the sweep: waiting here could deadlock
-- with a cancel, which locks the run before its attempts.
CREATE FUNCTION end_run_if_done(p_run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- The order makes this one step into the index of queued jobs, even while the statistics call most jobs queued.
    PERFORM 1 FROM job WHERE run_id = p_run AND state = 'queued' ORDER BY priority DESC, job_id LIMIT 1;
    IF FOUND OR EXISTS (SELECT 1 FROM job WHERE run_id = p_run AND state IN ('waiting', 'dialing')) THEN
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
    PERFORM tally_one(p_run, 'changes');
    RETURN true;
END $$;

-- Gives the job of a closed attempt its next state, in one statement: two would take the tally's rows in two orders.
-- p_action: 'final' with state, disposition and reason; 'requeue' (uncharged); 'not_placed' (requeue, at most twice).
CREATE FUNCTION settle_job(p_job uuid, p_action text, p_state text, p_disposition text, p_reason text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_run_over boolean;
    v_before   integer;
BEGIN
    IF p_action = 'final' THEN
        UPDATE job SET state = p_state, disposition = p_disposition, reason = p_reason, finished_at = clock_timestamp()
        WHERE job_id = p_job AND state = 'dialing';
        RETURN;
    END IF;
    SELECT r.state IN ('cancelling', 'cancelled'), j.not_placed_count INTO v_run_over, v_before
        FROM job j JOIN run r USING (run_id) WHERE j.job_id = p_job;
    IF p_action = 'not_placed' AND v_before >= 2 AND NOT v_run_over THEN
        UPDATE job SET state = 'failed', disposition = 'not_placed', reason = 'not_placed', finished_at = clock_timestamp(),
            not_placed_count = not_placed_count + 1
        WHERE job_id = p_job AND state = 'dialing';
        RETURN;
    END IF;
    UPDATE job SET
        state = CASE WHEN v_run_over THEN 'cancelled' ELSE 'queued' END,
        disposition = CASE WHEN v_run_over THEN 'cancelled' END,
        reason = CASE WHEN v_run_over THEN 'cancelled' END,
        finished_at = CASE WHEN v_run_over THEN clock_timestamp() END,
        attempt_count = attempt_count - 1,
        not_placed_count = not_placed_count + CASE WHEN p_action = 'not_placed' THEN 1 ELSE 0 END
    WHERE job_id = p_job AND state = 'dialing';
END $$;

-- What apply_event and close_attempt say. verdict: applied | stale (nothing moved) | late (the attempt was closed without a
-- call) | other_call (the attempt has another call id) | no_attempt.
CREATE TYPE attempt_change AS (
    verdict text, closed boolean, run_ended boolean, business_id uuid, run_id uuid, job_id uuid, state text,
    carrier text, account text, carrier_call_id text, hangup_wanted boolean, to_number text
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
    IF p_state <> 'ended' THEN
        -- Losing this in a crash of Postgres costs a look at the carrier, nothing else.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt AND business_id = p_business FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        v.verdict := 'no_attempt';
        RETURN v;
    END IF;
    v := ROW('stale', false, false, a.business_id, a.run_id, a.job_id, a.state, a.carrier, a.account,
             coalesce(a.carrier_call_id, p_call_id), a.hangup_wanted, a.to_number);
    IF a.rank = 9 AND a.state <> 'ended' THEN
        IF p_call_id IS NOT NULL THEN
            v.verdict := 'late';
            PERFORM note_stray(a, p_call_id, p_state);
            UPDATE attempt SET late_events = late_events + 1, events = CASE WHEN late_events < 8
                THEN events || transition(jsonb_array_length(events) + 1, p_source, a.state, a.state) ELSE events END
            WHERE attempt_id = p_attempt;
        END IF;
        RETURN v;
    END IF;
    IF p_call_id IS NOT NULL AND (a.carrier_call_id <> p_call_id OR (a.rank = 9 AND a.carrier_call_id IS NULL)) THEN
        v.verdict := 'other_call';
        v.carrier_call_id := p_call_id;
        PERFORM note_stray(a, p_call_id, p_state);
        UPDATE attempt SET late_events = late_events + 1 WHERE attempt_id = p_attempt;
        RETURN v;
    END IF;
    IF a.rank = 9 OR v_rank <= a.rank THEN
        -- Nothing moves, but a time or a fact that was missed is filled in, once.
        UPDATE attempt SET
            heard_at = v_now,
            sent_at = coalesce(sent_at, CASE WHEN p_sent_ms_ago IS NOT NULL THEN v_now - make_interval(secs => p_sent_ms_ago / 1000.0) END),
            placed_at = coalesce(placed_at, CASE WHEN p_state = 'placed' THEN v_now END),
            answered_by = coalesce(answered_by, p_answered_by),
            price = coalesce(price, p_price), currency = coalesce(currency, p_currency)
        WHERE attempt_id = p_attempt AND (rank < 9
            OR (p_sent_ms_ago IS NOT NULL AND sent_at IS NULL) OR (p_state = 'placed' AND placed_at IS NULL)
            OR (p_answered_by IS NOT NULL AND answered_by IS NULL) OR (p_price IS NOT NULL AND price IS NULL));
        RETURN v;
    END IF;

    IF a.fenced AND p_disposition IN ('answered', 'machine', 'fax') THEN
        p_disposition := 'abandoned';
    END IF;
    UPDATE attempt SET
        state = p_state,
        carrier_call_id = coalesce(carrier_call_id, p_call_id),
        disposition = p_disposition,
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
        events = events || transition(jsonb_array_length(events) + 1, p_source, a.state, p_state)
    WHERE attempt_id = p_attempt;
    v.verdict := 'applied';
    v.state := p_state;
    IF a.rank < 2 AND v_rank >= 2 THEN
        PERFORM tally_one('00000000-0000-0000-0000-000000000000', 'calls_started');
    END IF;
    IF p_state <> 'ended' THEN
        RETURN v;
    END IF;

    v.closed := true;
    IF a.job_id IS NULL THEN
        RETURN v;
    END IF;
    IF p_disposition = 'cancelled' AND a.queue_cancelled_at IS NOT NULL AND NOT a.hangup_wanted THEN
        PERFORM settle_job(a.job_id, 'requeue', NULL, NULL, NULL);
    ELSIF p_disposition IN ('answered', 'machine', 'voicemail_left', 'fax') THEN
        PERFORM settle_job(a.job_id, 'final', 'completed', p_disposition, NULL);
    ELSIF p_disposition = 'abandoned' AND a.reason = 'expired' THEN
        PERFORM settle_job(a.job_id, 'final', 'unreached', 'abandoned', 'expired');
    ELSIF a.hangup_wanted OR p_disposition = 'cancelled' THEN
        PERFORM settle_job(a.job_id, 'final', 'cancelled', CASE p_disposition WHEN 'abandoned' THEN 'abandoned' ELSE 'cancelled' END, 'cancelled');
    ELSE
        PERFORM settle_job(a.job_id, 'final', 'unreached', p_disposition, 'attempts_used');
    END IF;
    v.run_ended := end_run_if_done(a.run_id);
    RETURN v;
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
             a.hangup_wanted, a.to_number);
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
        PERFORM settle_job(a.job_id, 'final', 'cancelled', 'cancelled', 'cancelled');
    ELSIF p_action = 'requeue' AND p_state = 'not_placed' THEN
        PERFORM settle_job(a.job_id, 'not_placed', NULL, NULL, NULL);
    ELSE
        PERFORM settle_job(a.job_id, p_action, 'failed', p_disposition, p_reason);
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
    IF EXISTS (SELECT 1 FROM attempt WHERE business_id = p_business AND to_number = p_to AND rank < 9)
       OR EXISTS (SELECT 1 FROM attempt WHERE account = acct.reference AND to_number = p_to AND rank < 9) THEN
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

-- What an answered call is to hear, behind the fence: an attempt that is closed, cancelled, or answered later than anybody
-- can have wanted it hears nothing. Applies the answer as an event in the same round trip.
CREATE FUNCTION answer_call(p_business uuid, p_attempt uuid, p_call_id text, p_answered_by text, p_fence_ms integer)
RETURNS TABLE (verdict text, speak boolean, message jsonb, variables jsonb) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    a       attempt;
    v       attempt_change;
    v_speak boolean;
BEGIN
    v := apply_event(p_business, p_attempt, 'webhook', p_call_id, 'answered', NULL, NULL, p_answered_by, 'in-progress',
                     NULL, NULL, NULL, NULL, NULL);
    IF v.verdict NOT IN ('applied', 'stale') THEN
        RETURN QUERY SELECT v.verdict, false, NULL::jsonb, NULL::jsonb;
        RETURN;
    END IF;
    SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt;
    IF a.rank < 9 AND clock_timestamp() > a.intent_at + make_interval(secs => a.ring_timeout_secs + p_fence_ms / 1000.0) THEN
        UPDATE attempt SET hangup_wanted = true, reason = 'expired' WHERE attempt_id = p_attempt;
        a.hangup_wanted := true;
    END IF;
    v_speak := a.rank < 9 AND NOT a.hangup_wanted
        AND NOT EXISTS (SELECT 1 FROM run WHERE run_id = a.run_id AND state IN ('cancelling', 'cancelled'));
    IF a.rank < 9 AND NOT v_speak THEN
        UPDATE attempt SET fenced = true WHERE attempt_id = p_attempt;
    END IF;
    RETURN QUERY
    SELECT v.verdict, v_speak,
           coalesce(a.message, r.message), coalesce(j.variables, a.variables)
    FROM (SELECT 1) one LEFT JOIN run r ON r.run_id = a.run_id LEFT JOIN job j ON j.job_id = a.job_id;
END $$;
