-- A claim is for one carrier: the first of the run's own order that takes calls now. And recordings.

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

ALTER TABLE attempt ADD COLUMN record boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN attempt.record IS 'The call is to be recorded from the answer on.';

-- The sound stays at the carrier: only its name is kept here.
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

-- As before, but for one carrier of each business (p_carriers), whose pace token the caller holds.
DROP FUNCTION claim_jobs(uuid[], text[], uuid[], uuid[], integer[], integer[], integer, integer);
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

-- As before, and recorded where that is asked for.
DROP FUNCTION admit_call(uuid, uuid, integer, integer, text, text, text, text, jsonb, jsonb, integer, integer, integer);
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
