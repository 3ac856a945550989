-- What the carrier says of calls, applied to the ledger: any number of events in one round trip and one transaction.
-- Nearly all of them move an open attempt, and one statement does that for all; what is left over is looked at one by one.

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

-- When something happened that was heard of now: by the carrier's clock, where that can be right.
CREATE FUNCTION happened_at(p_at timestamptz, p_heard timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_at BETWEEN p_heard - interval '10 min' AND p_heard THEN p_at ELSE p_heard END
$$;

-- What an event does that moves nothing: it may fill in a time or a fact that was missed, once, or speak of a call that its
-- attempt does not answer for. The caller has locked the attempt.
CREATE FUNCTION note_unmoved(a attempt, p_source text, p_call_id text, p_state text, p_answered_by text, p_price numeric,
    p_currency text, p_sent_ms_ago integer) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v     attempt_change;
BEGIN
    v := ROW('stale', false, false, a.business_id, a.run_id, a.job_id, a.account, coalesce(a.carrier_call_id, p_call_id),
             a.hangup_wanted, false, NULL, NULL, NULL);
    IF NOT a.open AND a.state <> 'ended' THEN
        IF p_call_id IS NOT NULL THEN
            v.verdict := 'late';
            PERFORM note_stray(a, p_call_id, p_state);
            UPDATE attempt SET late_events = late_events + 1, events = CASE WHEN late_events < 8
                THEN events || transition(p_source, a.state, a.state) ELSE events END
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

-- Applies what the carrier said about calls, whoever asked. The rank only grows and the first final state wins; a call id may be
-- learned here. p_states: unknown, placed, initiated, ringing, answered or ended (then with a disposition). p_fence_ms: set where the
-- call asks what it may hear, so long after its ringing should have ended it is too late to speak. p_at: when it happened, by the
-- carrier's clock.
-- Callers name each attempt once and sort by attempt: everybody locks attempts first, then their jobs, and then tallies in the
-- order of their runs, so that no two wait for each other. An attempt that is not moved is locked behind all that, so it is not waited
-- for: where somebody else has it, its event is to be applied again.
CREATE FUNCTION apply_events(p_businesses uuid[], p_attempts uuid[], p_sources text[], p_call_ids text[], p_states text[],
    p_dispositions text[], p_durations_secs integer[], p_answered_by text[], p_carrier_statuses text[], p_carrier_codes integer[],
    p_sip_codes integer[], p_prices text[], p_currencies text[], p_sent_ms_ago integer[], p_fence_ms integer[],
    p_at timestamptz[] DEFAULT '{}') RETURNS SETOF attempt_change
LANGUAGE plpgsql AS $$
DECLARE
    v_now     timestamptz := clock_timestamp();
    v_ends    boolean := 'ended' = ANY (p_states);
    v_alone   boolean := cardinality(p_attempts) = 1;
    v_changes attempt_change[];
    v_odd     boolean;
    v_run     record;
    v_asked   record;
    v_flush   text;
BEGIN
    -- Losing what moves no job costs a look at the carrier. An end is flushed by whoever must tell the carrier of it, or by the
    -- first claim that sees it: a commit that waits for the disk takes every commit before it along.
    v_flush := set_config('synchronous_commit', 'off', true);
    WITH said AS MATERIALIZED (
        -- By subscript: unnest with fifteen arrays is fifteen functions, each set up for every batch.
        SELECT i, attempt, p_businesses[i] AS business, p_sources[i] AS source, p_call_ids[i] AS call_id, p_states[i] AS state,
            attempt_rank(p_states[i]) AS rank, p_dispositions[i] AS disposition, p_durations_secs[i] AS duration_secs,
            p_answered_by[i] AS answered_by, p_carrier_statuses[i] AS carrier_status, p_carrier_codes[i] AS carrier_code,
            p_sip_codes[i] AS sip_code, p_prices[i]::numeric AS price, p_currencies[i] AS currency, p_sent_ms_ago[i] AS sent_ms_ago,
            p_at[i] AS at
        FROM (SELECT attempt, i::integer FROM unnest(p_attempts) WITH ORDINALITY AS e (attempt, i) OFFSET 0) e
    ), moved AS (
        UPDATE attempt a SET
            state = e.state,
            carrier_call_id = coalesce(a.carrier_call_id, e.call_id),
            disposition = CASE WHEN a.fenced AND e.disposition IN ('answered', 'machine', 'fax') THEN 'abandoned'
                -- It left the carrier's queue while it was being cancelled there: it may have rung, and counts as a call. (Telnyx has no
                -- queue; there the mark says that it had no room, and begins and ends such a call at once.)
                WHEN e.disposition = 'cancelled' AND a.carrier = 'twilio' AND NOT a.hangup_wanted
                    AND greatest(a.initiated_at, a.ringing_at) > a.queue_cancelled_at
                THEN 'no_answer' ELSE e.disposition END,
            heard_at = v_now,
            sent_at = coalesce(a.sent_at, v_now - make_interval(secs => e.sent_ms_ago / 1000.0)),
            placed_at = coalesce(a.placed_at, CASE e.state WHEN 'placed' THEN v_now END),
            initiated_at = coalesce(a.initiated_at, CASE e.state WHEN 'initiated' THEN v_now END),
            ringing_at = coalesce(a.ringing_at, CASE e.state WHEN 'ringing' THEN v_now END),
            answered_at = coalesce(a.answered_at, CASE WHEN e.state = 'answered' THEN greatest(happened_at(e.at, v_now), a.intent_at)
                WHEN e.disposition IN ('answered', 'machine', 'fax', 'abandoned') THEN v_now - make_interval(secs => coalesce(e.duration_secs, 0)) END),
            ended_at = CASE e.state WHEN 'ended' THEN v_now END,
            duration_secs = coalesce(e.duration_secs, a.duration_secs),
            answered_by = coalesce(e.answered_by, a.answered_by),
            carrier_status = coalesce(e.carrier_status, a.carrier_status),
            carrier_code = coalesce(e.carrier_code, a.carrier_code),
            sip_code = coalesce(e.sip_code, a.sip_code),
            price = coalesce(e.price, a.price), currency = coalesce(e.currency, a.currency),
            needs_person = false, needs_person_since = NULL,
            -- An attempt in doubt is looked for at once; one with a call id is found through its account's live list.
            next_look_at = CASE e.state WHEN 'unknown' THEN v_now END,
            events = a.events || transition(e.source, a.state, e.state)
        FROM said e
        WHERE a.attempt_id = e.attempt AND a.business_id = e.business AND a.rank < e.rank
            AND (a.carrier_call_id IS NULL OR e.call_id IS NULL OR a.carrier_call_id = e.call_id)
        RETURNING e.i, a.business_id, a.run_id, a.job_id, a.state, a.disposition, a.duration_secs, a.call_back_at, a.reason, a.account, a.carrier_call_id, a.hangup_wanted,
            a.state = 'ended' AND a.disposition = 'cancelled' AND a.queue_cancelled_at IS NOT NULL AND NOT a.hangup_wanted AS requeue,
            a.state = 'ended' AND (a.hangup_wanted OR a.disposition = 'cancelled')
                AND a.disposition NOT IN ('answered', 'machine', 'voicemail_left', 'fax') AS given_up,
            -- A carrier is known to have taken it from now on.
            a.rank >= 2 AND split_part(split_part(a.events, E'\n', -1), ' ', 3) IN ('intent', 'unknown') AS started,
            -- Nobody knows what became of it.
            e.source = 'reconcile' AND e.carrier_status IS NOT DISTINCT FROM 'expired' AS expired
    ), settled AS (
        UPDATE job j SET state = CASE WHEN o.again_at IS NULL THEN o.state ELSE 'waiting' END, next_at = o.again_at,
            finished_at = CASE WHEN o.again_at IS NULL THEN v_now END,
            reason = CASE WHEN o.again_at IS NULL THEN o.reason END,
            disposition = CASE WHEN o.again_at IS NULL THEN o.disposition END
        FROM (SELECT job_id, disposition AS ended_as, duration_secs,
                  -- Who was taken from the list is not dialed again, whoever picked up meanwhile and whatever was agreed.
                  CASE WHEN given_up OR reason = 'cancelled' OR expired THEN NULL
                       WHEN call_back_at IS NOT NULL THEN agreed_at(run_id, job_id, call_back_at)
                       WHEN disposition <> 'answered' THEN retry_at(run_id, job_id, disposition) END AS again_at, call_back_at IS NOT NULL AS agreed,
                  CASE WHEN given_up AND NOT (disposition = 'abandoned' AND reason IS NOT DISTINCT FROM 'expired') THEN 'cancelled'
                       WHEN disposition IN ('answered', 'machine', 'voicemail_left', 'fax') THEN 'completed' ELSE 'unreached' END AS state,
                  CASE WHEN disposition IN ('answered', 'machine', 'voicemail_left', 'fax') THEN NULL
                       WHEN disposition = 'abandoned' AND reason = 'expired' THEN 'expired'
                       WHEN given_up THEN 'cancelled' WHEN expired THEN 'expired' ELSE 'attempts_used' END AS reason,
                  CASE WHEN given_up AND disposition <> 'abandoned' THEN 'cancelled' ELSE disposition END AS disposition
              FROM moved WHERE state = 'ended' AND NOT requeue) o
        WHERE j.job_id = o.job_id AND j.state = 'dialing'
        RETURNING j.business_id, j.run_id, j.job_id, j.state, j.disposition, j.next_at, o.ended_as, o.duration_secs, o.agreed
    ), told AS (
        INSERT INTO decision (business_id, run_id, job_id, verdict, rule, detail, next_at)
        SELECT business_id, run_id, job_id, 'held', 'retry_wait', CASE WHEN agreed THEN 'The callee agreed on this time.' ELSE 'It ended as ' || ended_as || '.' END, next_at FROM settled WHERE state = 'waiting'
    ), tallied AS (
        INSERT INTO tally_shard AS t (run_id, shard, changes, calls_started, call_secs, dialing, waiting, completed, unreached, cancelled, d_answered, d_machine,
            d_voicemail_left, d_fax, d_busy, d_no_answer, d_failed, d_cancelled, d_abandoned)
        SELECT run_id, tally_shard(), count(*) FILTER (WHERE state <> 'started'), count(*) FILTER (WHERE state = 'started'),
            coalesce(sum(duration_secs), 0), - count(*) FILTER (WHERE state <> 'started'), count(*) FILTER (WHERE state = 'waiting'),
            count(*) FILTER (WHERE state = 'completed'), count(*) FILTER (WHERE state = 'unreached'),
            count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE disposition = 'answered'),
            count(*) FILTER (WHERE disposition = 'machine'), count(*) FILTER (WHERE disposition = 'voicemail_left'),
            count(*) FILTER (WHERE disposition = 'fax'), count(*) FILTER (WHERE disposition = 'busy'),
            count(*) FILTER (WHERE disposition = 'no_answer'), count(*) FILTER (WHERE disposition = 'failed'),
            count(*) FILTER (WHERE disposition = 'cancelled'), count(*) FILTER (WHERE disposition = 'abandoned')
        FROM (SELECT run_id, state::text, disposition, duration_secs FROM settled
              UNION ALL
              -- The nil run's row counts the calls that a carrier took.
              SELECT '00000000-0000-0000-0000-000000000000', 'started', NULL, NULL FROM moved WHERE started) counted
        GROUP BY run_id ORDER BY run_id
        ON CONFLICT (run_id, shard) DO UPDATE SET changes = t.changes + excluded.changes,
            calls_started = t.calls_started + excluded.calls_started, call_secs = t.call_secs + excluded.call_secs, dialing = t.dialing + excluded.dialing,
            waiting = t.waiting + excluded.waiting, completed = t.completed + excluded.completed, unreached = t.unreached + excluded.unreached,
            cancelled = t.cancelled + excluded.cancelled, d_answered = t.d_answered + excluded.d_answered,
            d_machine = t.d_machine + excluded.d_machine, d_voicemail_left = t.d_voicemail_left + excluded.d_voicemail_left,
            d_fax = t.d_fax + excluded.d_fax, d_busy = t.d_busy + excluded.d_busy, d_no_answer = t.d_no_answer + excluded.d_no_answer,
            d_failed = t.d_failed + excluded.d_failed, d_cancelled = t.d_cancelled + excluded.d_cancelled,
            d_abandoned = t.d_abandoned + excluded.d_abandoned
    )
    SELECT array_agg(CASE WHEN m.i IS NOT NULL THEN ROW('applied', m.state = 'ended', false, m.business_id, m.run_id, m.job_id, m.account,
               m.carrier_call_id, m.hangup_wanted, m.requeue, NULL, NULL, NULL)::attempt_change END ORDER BY e.i),
           bool_or(m.i IS NULL OR m.requeue)
    INTO v_changes, v_odd
    FROM said e LEFT JOIN moved m USING (i);

    IF v_odd THEN
        FOR i IN 1..cardinality(p_attempts) LOOP
            IF v_changes[i].verdict IS NULL THEN
                v_changes[i] := apply_unmoved(p_businesses[i], p_attempts[i], p_sources[i], p_call_ids[i], p_states[i], p_dispositions[i],
                    p_durations_secs[i], p_answered_by[i], p_carrier_statuses[i], p_carrier_codes[i], p_sip_codes[i], p_prices[i],
                    p_currencies[i], p_sent_ms_ago[i], p_at[i], v_alone);
            ELSIF v_changes[i].requeue THEN
                PERFORM tally_moved(j.run_id, 'dialing', j.state, j.disposition, 1, j.charged)
                FROM settle_job(v_changes[i].job_id, 'requeue', NULL, NULL, NULL) j WHERE j.run_id IS NOT NULL;
            END IF;
        END LOOP;
    END IF;
    IF v_ends THEN
        -- The last event of a run that ended with it is told so. Most runs have a queued job where their claims begin.
        FOR v_run IN
            SELECT r.run_id, max(c.i)::integer AS last
            FROM unnest(v_changes) WITH ORDINALITY AS c (verdict, closed, run_ended, business_id, run_id, job_id, account, carrier_call_id,
                                                         hangup_wanted, requeue, speak, message, variables, i) JOIN run r USING (run_id)
            WHERE c.closed AND NOT EXISTS (SELECT 1 FROM run_zone z CROSS JOIN LATERAL (SELECT 1 FROM job j
                WHERE j.run_id = z.run_id AND j.zone_set = z.zone_set AND j.state = 'queued'
                    AND ((- j.priority), j.job_id) >= (z.first_place, z.first_job) LIMIT 1) q WHERE z.run_id = r.run_id OFFSET 0)
            GROUP BY r.run_id ORDER BY r.run_id
        LOOP
            IF end_run_if_done(v_run.run_id) THEN
                v_changes[v_run.last].run_ended := true;
            END IF;
        END LOOP;
    END IF;
    IF array_length(array_remove(p_fence_ms, NULL), 1) > 0 THEN
        FOR v_asked IN
            SELECT q.i::integer, q.attempt, a.open, a.hangup_wanted, coalesce(a.message, r.message) AS message,
                coalesce(j.variables, a.variables) AS variables, r.state IN ('cancelling', 'cancelled') AND NOT r.finish_calls AS over,
                clock_timestamp() > a.intent_at + make_interval(secs => a.ring_timeout_secs + q.fence_ms / 1000.0) AS late
            FROM unnest(p_businesses, p_attempts, p_call_ids, p_fence_ms) WITH ORDINALITY AS q (business, attempt, call_id, fence_ms, i)
                JOIN attempt a ON a.attempt_id = q.attempt
                LEFT JOIN run r ON r.run_id = a.run_id
                LEFT JOIN job j ON j.job_id = a.job_id
            -- Not by an index: the key above is the shortest way.
            WHERE q.fence_ms IS NOT NULL AND v_changes[q.i].verdict <> 'again' AND (a.business_id, a.carrier_call_id) IS NOT DISTINCT FROM (q.business, q.call_id)
        LOOP
            -- An attempt that is closed, cancelled, or answered later than anybody can have wanted it hears nothing.
            v_changes[v_asked.i].speak := v_asked.open AND NOT v_asked.hangup_wanted AND NOT v_asked.late AND v_asked.over IS NOT TRUE;
            v_changes[v_asked.i].message := v_asked.message;
            v_changes[v_asked.i].variables := v_asked.variables;
            IF v_asked.open AND NOT v_changes[v_asked.i].speak THEN
                UPDATE attempt a SET fenced = true, hangup_wanted = a.hangup_wanted OR v_asked.late,
                    reason = CASE WHEN v_asked.late THEN 'expired' ELSE a.reason END
                WHERE a.attempt_id = v_asked.attempt;
            END IF;
        END LOOP;
    END IF;
    RETURN QUERY SELECT * FROM unnest(v_changes);
END $$;

-- Applies the answers of a carrier that took calls: what apply_events does where nothing but 'placed' was said, which is a quarter of all
-- events. An attempt of which a callback told before only learns when it was sent.
CREATE FUNCTION place_attempts(p_businesses uuid[], p_attempts uuid[], p_source text, p_call_ids text[], p_carrier_statuses text[],
    p_sent_ms_ago integer[]) RETURNS SETOF attempt_change LANGUAGE plpgsql AS $$
DECLARE
    v_now     timestamptz := clock_timestamp();
    v_alone   boolean := cardinality(p_attempts) = 1;
    v_changes attempt_change[];
    v_odd     boolean;
    v_flush   text;
BEGIN
    -- Losing it costs a look at the carrier.
    v_flush := set_config('synchronous_commit', 'off', true);
    WITH moved AS (
        UPDATE attempt a SET
            state = CASE WHEN a.rank < 2 THEN 'placed' ELSE a.state END,
            carrier_call_id = e.call_id,
            heard_at = v_now,
            sent_at = coalesce(a.sent_at, v_now - make_interval(secs => e.sent_ms_ago / 1000.0)),
            placed_at = coalesce(a.placed_at, v_now),
            carrier_status = CASE WHEN a.rank < 2 THEN coalesce(e.carrier_status, a.carrier_status) ELSE a.carrier_status END,
            needs_person = a.needs_person AND a.rank >= 2,
            needs_person_since = CASE WHEN a.rank >= 2 THEN a.needs_person_since END,
            next_look_at = CASE WHEN a.rank >= 2 THEN a.next_look_at END,
            events = CASE WHEN a.rank < 2 THEN a.events || transition(p_source, a.state, 'placed') ELSE a.events END
        FROM (SELECT i::integer, attempt, p_businesses[i] AS business, p_call_ids[i] AS call_id, p_carrier_statuses[i] AS carrier_status,
                  p_sent_ms_ago[i] AS sent_ms_ago FROM unnest(p_attempts) WITH ORDINALITY AS e (attempt, i) OFFSET 0) e
        -- Its rank, not whether it is open: no index but the key may lead to it, or two batches lock theirs in different orders.
        WHERE a.attempt_id = e.attempt AND a.business_id = e.business AND a.rank < 9
            AND (a.carrier_call_id IS NULL OR a.carrier_call_id = e.call_id)
        -- Nobody else places it at this moment: its row is locked.
        RETURNING e.i, a.business_id, a.run_id, a.job_id, a.account, a.carrier_call_id, a.hangup_wanted, a.state = 'placed' AND a.placed_at = v_now AS started
    ), tallied AS (
        INSERT INTO tally_shard AS t (run_id, shard, calls_started)
        SELECT '00000000-0000-0000-0000-000000000000', tally_shard(), count(*) FROM moved WHERE started HAVING count(*) > 0
        ON CONFLICT (run_id, shard) DO UPDATE SET calls_started = t.calls_started + excluded.calls_started
    )
    SELECT array_agg(CASE WHEN m.i IS NOT NULL THEN ROW(CASE WHEN m.started THEN 'applied' ELSE 'stale' END, false, false, m.business_id, m.run_id, m.job_id,
               m.account, m.carrier_call_id, m.hangup_wanted, false, NULL, NULL, NULL)::attempt_change END ORDER BY e.i),
           bool_or(m.i IS NULL)
    INTO v_changes, v_odd
    FROM generate_series(1, cardinality(p_attempts)) AS e (i) LEFT JOIN moved m USING (i);

    IF v_odd THEN
        FOR i IN 1..cardinality(p_attempts) LOOP
            IF v_changes[i].verdict IS NULL THEN
                v_changes[i] := apply_unmoved(p_businesses[i], p_attempts[i], p_source, p_call_ids[i], 'placed', NULL, NULL, NULL,
                    p_carrier_statuses[i], NULL, NULL, NULL, NULL, p_sent_ms_ago[i], NULL, v_alone);
            END IF;
        END LOOP;
    END IF;
    RETURN QUERY SELECT * FROM unnest(v_changes);
END $$;

-- An event that did not move its attempt: there is none, it was there already, it is closed, or this is another call. p_alone: this
-- transaction holds no other attempt, so that it may wait for one.
CREATE FUNCTION apply_unmoved(p_business uuid, p_attempt uuid, p_source text, p_call_id text, p_state text, p_disposition text,
    p_duration_secs integer, p_answered_by text, p_carrier_status text, p_carrier_code integer, p_sip_code integer,
    p_price text, p_currency text, p_sent_ms_ago integer, p_at timestamptz, p_alone boolean) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    a attempt;
    v attempt_change;
BEGIN
    IF p_alone THEN
        SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt AND business_id = p_business FOR NO KEY UPDATE;
    ELSE
        SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt AND business_id = p_business FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    IF a.attempt_id IS NULL THEN
        v.verdict := CASE WHEN p_alone OR NOT EXISTS (SELECT 1 FROM attempt WHERE attempt_id = p_attempt AND business_id = p_business)
            THEN 'no_attempt' ELSE 'again' END;
        RETURN v;
    END IF;
    IF a.rank < attempt_rank(p_state) AND (a.carrier_call_id IS NULL OR p_call_id IS NULL OR a.carrier_call_id = p_call_id) THEN
        IF NOT p_alone THEN
            v.verdict := 'again';
            RETURN v;
        END IF;
        -- It came to a state that the event moves while its row was waited for: now the row is locked, and moves.
        SELECT * INTO v FROM apply_events(ARRAY[p_business], ARRAY[p_attempt], ARRAY[p_source], ARRAY[p_call_id], ARRAY[p_state],
            ARRAY[p_disposition], ARRAY[p_duration_secs], ARRAY[p_answered_by], ARRAY[p_carrier_status], ARRAY[p_carrier_code],
            ARRAY[p_sip_code], ARRAY[p_price], ARRAY[p_currency], ARRAY[p_sent_ms_ago], '{NULL}', ARRAY[p_at]);
        RETURN v;
    END IF;
    RETURN note_unmoved(a, p_source, p_call_id, p_state, p_answered_by, p_price::numeric, p_currency, p_sent_ms_ago);
END $$;
