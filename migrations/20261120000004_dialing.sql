-- The steps of the dial protocol that must be one round trip and one transaction.
-- They are plpgsql, not one statement with CTEs: each statement inside takes a fresh snapshot, so what is counted after a
-- lock was waited for is newer than the lock.

-- Key of the advisory lock over installation.max_lines: claims share it, a change of max_lines takes it alone.
CREATE FUNCTION lines_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7239001 $$;
-- Key of the advisory lock that claims take alone while more lines are open than a lowered max_lines allows.
CREATE FUNCTION lowered_lines_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7239002 $$;

-- The time of windows, retries and limits. A function of its own, so that a trial may turn this one clock to a day when clocks change.
CREATE FUNCTION wall_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT clock_timestamp() $$;

-- What a move adds to attempt.events.
CREATE FUNCTION transition(p_source text, p_from text, p_to text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT E'\n' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' ' || p_source || ' ' || p_from || ' ' || p_to
$$;

-- attempt.events as [{seq, at, source, from, to}].
CREATE FUNCTION transitions(p_events text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('seq', seq, 'at', part[1], 'source', part[2], 'from', part[3], 'to', part[4]) ORDER BY seq), '[]')
    FROM (SELECT seq, string_to_array(line, ' ') AS part FROM unnest(string_to_array(substr(p_events, 2), E'\n')) WITH ORDINALITY AS t (line, seq)) moves
$$;

-- When the last of attempt.events was; null where there is none.
CREATE FUNCTION last_moved_at(p_events text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT nullif(split_part(split_part(p_events, E'\n', -1), ' ', 1), '')::timestamptz
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
    v_lowered   boolean;
    v_room      bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lines_lock());
    SELECT max_lines, EXISTS (SELECT 1 FROM attempt WHERE open AND line > max_lines) INTO v_max_lines, v_lowered FROM installation;
    IF NOT v_lowered THEN
        RETURN v_max_lines;
    END IF;
    PERFORM pg_advisory_xact_lock(lowered_lines_lock());
    SELECT greatest(v_max_lines - count(*), 0) INTO v_room FROM attempt WHERE open AND line IS NOT NULL;
    RETURN v_room;
END $$;

-- True where the run has a queued job; with p_open, one whose zones may be dialed now. The place that claims begin at comes first:
-- one step into the index, even while the statistics call most jobs queued. Only where nothing is found there is the whole list
-- looked at.
CREATE FUNCTION has_queued(p_run uuid, p_open boolean DEFAULT false) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    z run_zone;
BEGIN
    FOR z IN SELECT * FROM run_zone WHERE run_id = p_run AND (NOT p_open OR opens_at <= wall_clock()) LOOP
        PERFORM 1 FROM job WHERE run_id = p_run AND zone_set = z.zone_set AND state = 'queued'
            AND ((- priority), job_id) >= (z.first_place, z.first_job) ORDER BY (- priority), job_id LIMIT 1;
        IF FOUND THEN
            RETURN true;
        END IF;
    END LOOP;
    FOR z IN SELECT * FROM run_zone WHERE run_id = p_run AND (NOT p_open OR opens_at <= wall_clock())
                 AND first_job <> '00000000-0000-0000-0000-000000000000' LOOP
        PERFORM 1 FROM job WHERE run_id = p_run AND zone_set = z.zone_set AND state = 'queued' ORDER BY (- priority), job_id LIMIT 1;
        IF FOUND THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- Moves the places that the claims of a run begin at up to the first queued job of their zones, or that of p_job back to it where
-- it stands before. A row that somebody else has locked is left as it is: a place that is too early costs time, and one that is
-- too late is corrected by the claim that finds too little.
CREATE FUNCTION begin_claims_at(p_run uuid, p_job uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    z      run_zone;
    v_zone bigint;
    v_job  record;
BEGIN
    IF p_job IS NOT NULL THEN
        SELECT zone_set INTO v_zone FROM job WHERE job_id = p_job;
    END IF;
    FOR z IN SELECT * FROM run_zone WHERE run_id = p_run AND (p_job IS NULL OR zone_set = v_zone) FOR NO KEY UPDATE SKIP LOCKED LOOP
        IF p_job IS NOT NULL THEN
            UPDATE run_zone SET first_place = DEFAULT, first_job = DEFAULT WHERE run_id = p_run AND zone_set = z.zone_set
                AND first_job <> '00000000-0000-0000-0000-000000000000';
            CONTINUE;
        END IF;
        -- A snapshot that is newer than the lock: what was given back before it is seen, and what comes after waits or moves it back.
        SELECT (- priority) AS place, job_id INTO v_job FROM job
            WHERE run_id = p_run AND zone_set = z.zone_set AND state = 'queued'
                AND ((- priority), job_id) >= (z.first_place, z.first_job)
            ORDER BY (- priority), job_id LIMIT 1;
        IF FOUND AND v_job.job_id <> z.first_job THEN
            UPDATE run_zone SET first_place = v_job.place, first_job = v_job.job_id WHERE run_id = p_run AND zone_set = z.zone_set;
        END IF;
    END LOOP;
END $$;

-- The carrier that a run dials through now: the first in its order that the business uses, has an account at, and that is not
-- left alone. Nothing where there is none. An attempt in doubt keeps its job from being claimed at all, whichever is next.
-- (Not in SQL, as what follows is not: a function in SQL that is not made part of the statement is planned anew for each.)
CREATE FUNCTION carrier_of_run(p_business uuid, p_carriers text[]) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT c.carrier FROM carrier_account c JOIN business b USING (business_id)
        WHERE c.business_id = p_business AND c.carrier = ANY (p_carriers) AND c.carrier = ANY (b.carriers)
            AND (c.hold_until > clock_timestamp()) IS NOT TRUE
        ORDER BY array_position(p_carriers, c.carrier) LIMIT 1);
END $$;

-- The numbers that a run calls from at an account: those of its own that the account has, or else all of the account's.
CREATE FUNCTION callers_of_run(p_run text[], p_account text[]) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p_run && p_account THEN
        RETURN ARRAY (SELECT n FROM unnest(p_run) WITH ORDINALITY AS own (n, i) WHERE n = ANY (p_account) ORDER BY i);
    END IF;
    RETURN p_account;
END $$;

-- How many more calls a run may place within its budget.
CREATE FUNCTION budget_left(p_run uuid, p_budget jsonb) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_attempts bigint := (p_budget ->> 'max_attempts')::bigint;
    v_secs     bigint := (p_budget ->> 'max_call_minutes')::bigint * 60;
BEGIN
    RETURN (SELECT CASE WHEN sum(call_secs) >= v_secs THEN 0 WHEN v_attempts IS NOT NULL THEN greatest(v_attempts - sum(attempts), 0)::bigint END
        FROM tally_shard WHERE run_id = p_run);
END $$;

-- True where too many of the calls that ended last failed, as a run's breaker counts them. Every claim asks it, so that no call is
-- placed after those, and so does the sweep, which pauses the run. What was refused without a reason is not among them: the carrier had
-- no room for it or would not have the account, its number comes again uncharged, and the account is left alone meanwhile.
CREATE FUNCTION breaker_trips(p_run uuid, p_breaker jsonb, p_from timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_last integer := (p_breaker ->> 'last')::integer;
    v_ends bigint;
    v_bad  bigint;
BEGIN
    SELECT count(*), count(*) FILTER (WHERE a.disposition IS NULL OR a.disposition IN ('failed', 'refused', 'not_placed'))
    INTO v_ends, v_bad FROM (
        SELECT disposition FROM attempt WHERE run_id = p_run AND guarded AND ended_at IS NOT NULL AND ended_at > p_from
            AND state <> 'not_sent' AND NOT (state = 'refused' AND reason IS NULL) ORDER BY ended_at DESC LIMIT v_last) a;
    RETURN v_ends >= v_last AND v_bad * 100 > v_ends * (p_breaker ->> 'max_failed_pct')::bigint;
END $$;

-- Pauses running runs that have used their budget, or whose breaker or abandon guard says so. Returns them.
CREATE FUNCTION pause_by_rule() RETURNS TABLE (run_id uuid, business_id uuid, reason text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r        run;
    v_ends   bigint;
    v_bad    bigint;
    v_reason text;
BEGIN
    FOR r IN SELECT * FROM run WHERE state = 'running' AND business_id IS NOT NULL
                 AND (budget IS NOT NULL OR breaker IS NOT NULL OR abandon_guard IS NOT NULL) ORDER BY run_id FOR NO KEY UPDATE SKIP LOCKED LOOP
        v_reason := NULL;
        IF r.budget IS NOT NULL AND budget_left(r.run_id, r.budget) = 0 AND EXISTS (
               SELECT 1 FROM tally_shard t WHERE t.run_id = r.run_id HAVING sum(queued + waiting) > 0) THEN
            v_reason := 'budget';
        END IF;
        IF v_reason IS NULL AND r.breaker IS NOT NULL AND breaker_trips(r.run_id, r.breaker, r.guarded_from) THEN
            v_reason := 'breaker';
        END IF;
        IF v_reason IS NULL AND r.abandon_guard IS NOT NULL THEN
            SELECT count(*), count(*) FILTER (WHERE a.disposition = 'abandoned') INTO v_ends, v_bad FROM (
                SELECT disposition FROM attempt WHERE run_id = r.run_id AND guarded AND ended_at IS NOT NULL AND ended_at > r.guarded_from
                    AND disposition IN ('answered', 'abandoned') ORDER BY ended_at DESC LIMIT 10000) a;
            IF v_ends >= (r.abandon_guard ->> 'min_answered')::bigint AND v_bad * 100 > v_ends * (r.abandon_guard ->> 'max_pct')::bigint THEN
                v_reason := 'abandon_guard';
            END IF;
        END IF;
        IF v_reason IS NOT NULL THEN
            UPDATE run SET state = 'paused', pause_reason = v_reason, paused_by = NULL, paused_at = clock_timestamp() WHERE run_id = r.run_id;
            PERFORM tally_changed(r.run_id);
            run_id := r.run_id;
            business_id := r.business_id;
            reason := v_reason;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- The caller of a job among these: jobs and their dials take turns.
CREATE FUNCTION caller_in_turn(p_callers text[], p_to text, p_dials integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN p_callers[(1 + (p_dials::bigint + (hashtext(p_to) & 2147483647)) % cardinality(p_callers))::integer];
END $$;

-- How many more calls may come from these numbers now, by their limits; null: as many as one likes.
CREATE FUNCTION callers_left(p_business uuid, p_run_callers text[], p_account_callers text[]) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT CASE WHEN count(*) = count(c.calls) THEN coalesce(sum(c.calls), 0) END FROM (
        SELECT greatest(least(s.max_per_day - CASE WHEN s.day = (SELECT (clock_timestamp() AT TIME ZONE known_zone(time_zone))::date
                            FROM business WHERE business_id = p_business) THEN s.dials ELSE 0 END, s.max_at_once - coalesce(o.calls, 0)),
                        CASE WHEN s.max_per_day IS NOT NULL OR s.max_at_once IS NOT NULL THEN 0 END) AS calls
        FROM unnest(callers_of_run(p_run_callers, p_account_callers)) AS n (number)
            LEFT JOIN caller_id s ON s.business_id = p_business AND s.number = n.number
            LEFT JOIN (SELECT from_number, count(*) AS calls FROM attempt WHERE business_id = p_business AND open GROUP BY from_number) o
                ON o.from_number = n.number
        WHERE s.enabled IS NOT FALSE) c);
END $$;

-- True where the business does not call this number.
CREATE FUNCTION is_suppressed(p_business uuid, p_number text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM suppression WHERE business_id = p_business AND number = p_number
                   AND (expires_at IS NULL OR expires_at > clock_timestamp()))
$$;

-- True where the attempt rang nobody: the carrier ended it because it was too full, or it was cancelled in the carrier's queue.
CREATE FUNCTION rang_nobody(p_state text, p_disposition text, p_queue_cancelled_at timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p_state = 'ended' AND p_disposition IS NOT DISTINCT FROM 'cancelled' AND p_queue_cancelled_at IS NOT NULL
$$;

-- True where the business dialed the number within so many days, for no run of these: what certainly rang nobody is no dial.
CREATE FUNCTION called_lately(p_business uuid, p_number text, p_but_for uuid[], p_days smallint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM attempt WHERE business_id = p_business AND to_number = p_number
        AND intent_at > wall_clock() - make_interval(days => p_days) AND direction = 'outbound'
        AND state NOT IN ('not_sent', 'not_placed', 'refused') AND NOT rang_nobody(state, disposition, queue_cancelled_at)
        AND (run_id = ANY (p_but_for)) IS NOT TRUE);
END $$;

-- Why a job whose turn has come is not dialed. verdict: held (until next_at) or skipped; null: it may be dialed.
CREATE TYPE job_verdict AS (verdict text, rule text, detail text, next_at timestamptz);

-- The zone, or UTC where this server's tz database is older than the program's and does not know it: a claim must not fail for it.
CREATE FUNCTION known_zone(p_zone text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM now() AT TIME ZONE p_zone;
    RETURN coalesce(p_zone, 'UTC');
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN 'UTC';
END $$;

-- Has this number been dialed as often as it may be, as a dial at p_at would find, were none made until then? verdict: held (until
-- next_at) or skipped; null: it has not.
CREATE FUNCTION capped_at(p_business uuid, p_number text, p_zones text[], p_at timestamptz, p_per_day integer, p_per_24h integer,
    p_lifetime integer) RETURNS job_verdict LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_zone text;
    v_day  timestamptz;
    v_next timestamptz;
    v_ever       bigint;
    v_within_24h bigint;
    v_today      bigint;
BEGIN
    IF p_lifetime IS NULL AND p_per_24h IS NULL AND p_per_day IS NULL THEN
        RETURN NULL;
    END IF;
    IF p_per_day IS NOT NULL THEN
        v_zone := known_zone(p_zones[1]);
        v_day := date_trunc('day', p_at AT TIME ZONE v_zone) AT TIME ZONE v_zone;
    END IF;
    -- What a carrier was asked for and did not turn away counts.
    SELECT count(*), count(*) FILTER (WHERE intent_at > p_at - interval '24 h'), count(*) FILTER (WHERE intent_at >= v_day)
    INTO v_ever, v_within_24h, v_today FROM attempt
    WHERE business_id = p_business AND to_number = p_number AND direction = 'outbound'
        AND intent_at >= CASE WHEN p_lifetime IS NULL THEN least(p_at - interval '24 h', v_day) ELSE '-infinity' END
        AND state NOT IN ('not_sent', 'not_placed', 'refused') AND NOT rang_nobody(state, disposition, queue_cancelled_at);
    IF v_ever >= p_lifetime THEN
        RETURN ROW('skipped', 'attempt_cap', format('The number was dialed %s times, as often as the business ever dials one.', p_lifetime), NULL)::job_verdict;
    END IF;
    IF v_within_24h >= p_per_24h THEN
        SELECT intent_at + interval '24 h' INTO v_next FROM attempt
            WHERE business_id = p_business AND to_number = p_number AND intent_at > p_at - interval '24 h'
                AND direction = 'outbound' AND state NOT IN ('not_sent', 'not_placed', 'refused')
                AND NOT rang_nobody(state, disposition, queue_cancelled_at)
            ORDER BY intent_at DESC OFFSET p_per_24h - 1 LIMIT 1;
        RETURN ROW('held', 'attempt_cap', format('The number was dialed %s times within 24 hours.', p_per_24h), v_next)::job_verdict;
    END IF;
    IF v_today >= p_per_day THEN
        v_next := (date_trunc('day', p_at AT TIME ZONE v_zone) + interval '1 day') AT TIME ZONE v_zone;
        RETURN ROW('held', 'attempt_cap', format('The number was dialed %s times today.', p_per_day), v_next)::job_verdict;
    END IF;
    RETURN NULL;
END $$;

-- May this number ring for the business now? What run and zones say comes before. p_not_after: until when it may be dialed, with what may
-- pass until it has stopped to ring taken off. p_called_days: before its first dial, where its run leaves out whom the business dialed within so many
-- days, for other runs than p_but_for.
CREATE FUNCTION verdict_on(p_business uuid, p_account text, p_number text, p_zones text[], p_not_before timestamptz,
    p_not_after timestamptz, p_per_day integer, p_per_24h integer, p_lifetime integer, p_called_days smallint DEFAULT NULL,
    p_but_for uuid[] DEFAULT NULL) RETURNS job_verdict LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_now  timestamptz := wall_clock();
BEGIN
    IF is_suppressed(p_business, p_number) THEN
        RETURN ROW('skipped', 'suppressed', 'The number is on the suppression list.', NULL)::job_verdict;
    END IF;
    IF p_not_after <= v_now THEN
        RETURN ROW('skipped', 'expired', 'Its not_after has passed, or it might ring beyond it.', NULL)::job_verdict;
    END IF;
    IF p_not_before > v_now THEN
        RETURN ROW('held', 'not_before', 'Its not_before has not come.', p_not_before)::job_verdict;
    END IF;
    IF EXISTS (SELECT 1 FROM attempt WHERE business_id = p_business AND to_number = p_number AND open)
       OR EXISTS (SELECT 1 FROM attempt WHERE account = p_account AND to_number = p_number AND open) THEN
        RETURN ROW('held', 'in_call', 'Another call to the number is under way.', v_now + interval '10 s')::job_verdict;
    END IF;
    IF p_called_days IS NOT NULL AND called_lately(p_business, p_number, p_but_for, p_called_days) THEN
        RETURN ROW('skipped', 'attempt_cap', format('The business called the number within the last %s days.', p_called_days), NULL)::job_verdict;
    END IF;
    IF p_lifetime IS NULL AND p_per_24h IS NULL AND p_per_day IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN capped_at(p_business, p_number, p_zones, v_now, p_per_day, p_per_24h, p_lifetime);
END $$;

-- True where the callee agreed in the last call of a job on being called again: that call is none of those that its run tries.
CREATE FUNCTION was_agreed(p_job uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((
        SELECT call_back_at IS NOT NULL FROM attempt WHERE job_id = p_job AND state NOT IN ('not_sent', 'not_placed', 'refused')
            AND NOT rang_nobody(state, disposition, queue_cancelled_at)
        ORDER BY n DESC LIMIT 1), false);
END $$;

-- Claims due jobs of some businesses for the given holders: locks the businesses, counts, checks run, suppression and account,
-- inserts the attempts as intents and moves the jobs. Returns one row per attempt inserted; holders without a row are free again.
-- Where there are several businesses, one that somebody else has locked, or that has nothing due from where its claims begin, is
-- named without an attempt: it is to be claimed for alone. So nobody waits for another's lock, and tallies are locked in one order.
-- A run that is named without an attempt has its first jobs in the way: hold_back is to be called for it, by a transaction of its own.
-- talks: the pipeline of the agent that talks to whoever answers; null where none does.
-- A claim is for one carrier of each business (p_carriers), whose pace token the caller holds. p_until_rung_ms: what may pass between it
-- and the first ring.
CREATE FUNCTION claim_jobs(p_businesses uuid[], p_carriers text[], p_owners text[], p_holding uuid[], p_attempts uuid[], p_slots integer[], p_lines integer[],
    p_intent_grace_ms integer, p_refused_retry_ms integer, p_until_rung_ms integer)
RETURNS TABLE (business_id uuid, attempt_id uuid, job_id uuid, run_id uuid, account text, from_number text, to_number text,
               ring_timeout_secs integer, call_time_limit_secs integer, record boolean, talks text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_alone   boolean := cardinality(p_businesses) = 1;
    v_locked  uuid[];
    v_began   timestamptz := clock_timestamp();
    v_look_at timestamptz := clock_timestamp() + make_interval(secs => p_intent_grace_ms / 1000.0);
    v_now     timestamptz := wall_clock();
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
        IF cardinality(v_locked) IS DISTINCT FROM cardinality(p_businesses) THEN
            RETURN QUERY SELECT b, NULL::uuid, NULL::uuid, NULL::uuid, NULL, NULL, NULL, NULL::integer, NULL::integer, NULL::boolean, NULL::text
                FROM unnest(p_businesses) b WHERE b = ANY (v_locked) IS NOT TRUE;
        END IF;
    END IF;
    IF EXISTS (SELECT 1 FROM attempt a WHERE a.business_id = ANY (v_locked) AND a.open AND a.owner IS NULL) THEN
        -- Single calls hold their slot and line already; they go ahead of lists.
        RETURN QUERY
        UPDATE attempt a SET owner = p_owners[array_position(p_businesses, a.business_id)], intent_at = clock_timestamp(), next_look_at = v_look_at
        FROM business b JOIN carrier_account c USING (business_id)
        WHERE a.business_id = ANY (v_locked) AND a.open AND a.owner IS NULL AND a.state = 'intent' AND a.dial_by > clock_timestamp()
            AND NOT a.hangup_wanted AND b.business_id = a.business_id AND b.state = 'active' AND c.reference = a.account
            -- Since it was admitted. How often the number was dialed cannot have changed: an open attempt keeps every other away.
            AND (a.window_version = b.window_version) IS NOT FALSE AND NOT is_suppressed(a.business_id, a.to_number)
            AND (c.hold_until > clock_timestamp()) IS NOT TRUE
            -- An account that is refused is tried with one call.
            AND (c.health <> 'refused' OR a.attempt_id = (
                SELECT o.attempt_id FROM attempt o WHERE o.business_id = a.business_id AND o.account = a.account AND o.open AND o.owner IS NULL
                    AND o.state = 'intent' AND o.dial_by > clock_timestamp() AND NOT o.hangup_wanted ORDER BY o.attempt_id LIMIT 1))
        RETURNING a.business_id, a.attempt_id, a.job_id, a.run_id, a.account, a.from_number, a.to_number, a.ring_timeout_secs,
                  a.call_time_limit_secs, a.record, NULL::text;
        UPDATE carrier_account c SET hold_until = clock_timestamp() + make_interval(secs => p_refused_retry_ms / 1000.0)
            WHERE c.business_id = ANY (v_locked) AND c.health = 'refused' AND EXISTS (SELECT 1 FROM attempt a
                WHERE a.business_id = c.business_id AND a.account = c.reference AND a.open AND a.job_id IS NULL AND a.state = 'intent'
                    AND a.owner IS NOT NULL AND a.intent_at >= v_began);
    END IF;
    v_room := room_on_lines();
    SELECT max_lines INTO v_lines FROM installation;

    FOR v IN
        WITH busy AS (
            SELECT a.business_id, a.run_id, count(*) AS n FROM attempt a
            WHERE a.business_id = ANY (v_locked) AND a.open GROUP BY a.business_id, a.run_id
        ), able AS (
            SELECT b.business_id, b.max_concurrent_calls, b.window_version, b.cap_per_day, b.cap_per_24h, b.cap_lifetime,
                   EXISTS (SELECT 1 FROM caller_id c WHERE c.business_id = b.business_id) AS has_caller_rules,
                   acct.carrier, acct.reference, acct.caller_ids, acct.health,
                   least(CASE acct.health WHEN 'refused' THEN 1 ELSE b.max_concurrent_calls END,
                         b.max_concurrent_calls - (SELECT coalesce(sum(n), 0) FROM busy o WHERE o.business_id = b.business_id),
                         (SELECT count(*) FROM unnest(p_holding) h WHERE h = b.business_id)) AS room
            FROM business b JOIN carrier_account acct ON acct.business_id = b.business_id
                AND acct.carrier = p_carriers[array_position(p_businesses, b.business_id)] AND acct.carrier = ANY (b.carriers)
            WHERE b.business_id = ANY (v_locked) AND b.state = 'active' AND (acct.hold_until > clock_timestamp()) IS NOT TRUE
        ), candidate AS (
            SELECT b.*, j.* FROM able b CROSS JOIN LATERAL (
                SELECT c.*, r.weight, r.max_concurrent_calls AS most, r.ring_timeout_secs, r.call_time_limit_secs, r.record,
                       r.caller_ids AS run_callers, r.local_presence, r.agent_id, r.agent_version, r.breaker IS NOT NULL OR r.abandon_guard IS NOT NULL AS guarded,
                       CASE WHEN r.budget IS NOT NULL THEN budget_left(r.run_id, r.budget) END AS budget_left, coalesce(o.n, 0) AS others,
                       l.callers_left, coalesce(o.n, 0) + row_number() OVER (PARTITION BY r.run_id ORDER BY c.place, c.job_id) AS nth
                FROM run r LEFT JOIN busy o ON o.business_id = b.business_id AND o.run_id = r.run_id CROSS JOIN LATERAL (
                    SELECT CASE WHEN b.has_caller_rules
                        THEN callers_left(b.business_id, r.caller_ids, b.caller_ids) END AS callers_left OFFSET 0) l
                CROSS JOIN LATERAL (
                    SELECT w.*, asked.verdict IS NOT NULL AS is_blocked FROM (
                        SELECT x.*, row_number() OVER own AS stand, lead(x.job_id) OVER own IS NULL AS is_last FROM (
                        -- A few more than there is room for: what may not be dialed is held back by a claim that finds too little.
                        SELECT q.* FROM run_zone z CROSS JOIN LATERAL (
                            SELECT job_id, run_id, to_number, dials, (- priority) AS place, time_zones, not_before, not_after, attempt_count
                            FROM job WHERE run_id = z.run_id AND zone_set = z.zone_set AND state = 'queued'
                                AND ((- priority), job_id) >= (z.first_place, z.first_job)
                            ORDER BY (- priority), job_id LIMIT greatest(b.room, 0) + 2) q
                        WHERE z.run_id = r.run_id AND z.version = r.window_version + b.window_version AND z.opens_at <= v_now
                            -- Nobody's phone rings when the window has closed.
                            AND z.closes_at > v_now + make_interval(secs => r.ring_timeout_secs)
                        ORDER BY q.place, q.job_id LIMIT greatest(b.room, 0) + 8) x WINDOW own AS (ORDER BY x.place, x.job_id)) w
                    -- Asked job by job, and of no more of them than there is room for.
                    CROSS JOIN LATERAL (SELECT CASE WHEN w.attempt_count >= r.max_attempts AND NOT was_agreed(w.job_id) THEN 'skipped'
                        ELSE (verdict_on(b.business_id, b.reference, w.to_number, w.time_zones, w.not_before,
                            w.not_after - make_interval(secs => r.ring_timeout_secs + p_until_rung_ms / 1000.0),
                            b.cap_per_day, b.cap_per_24h, b.cap_lifetime,
                            CASE WHEN w.attempt_count = 0 THEN r.skip_called_within_days END, r.again_of || r.run_id)).verdict END AS verdict OFFSET 0) asked
                    -- The last comes along whatever is said of it: it tells that all before it were asked for.
                    WHERE asked.verdict IS NULL OR w.is_last
                    ORDER BY w.place, w.job_id LIMIT greatest(b.room, 0)) c
                WHERE r.business_id = b.business_id AND r.state = 'running' AND (r.end_at <= v_now) IS NOT TRUE
                    AND CASE WHEN r.breaker IS NULL THEN true ELSE NOT breaker_trips(r.run_id, r.breaker, r.guarded_from) END
                    AND (r.carriers = ARRAY[b.carrier] OR carrier_of_run(r.business_id, r.carriers) = b.carrier)) j
        ), pick AS (
            -- Runs of a business take turns by weight; within one, priority decides. What no number may be called from takes no turn.
            SELECT *, row_number() OVER (PARTITION BY business_id ORDER BY nth::float8 / weight, place, job_id) AS i FROM candidate
            WHERE NOT is_blocked AND (nth > most) IS NOT TRUE AND (nth - others > budget_left) IS NOT TRUE
                AND (nth - others > callers_left) IS NOT TRUE
        ), blocked AS (
            -- Of a run, fewer than there is room for, because the first of its jobs may not be dialed now: there may be others behind them,
            -- which are owed their turn however much the other runs have.
            SELECT business_id, run_id FROM candidate GROUP BY business_id, run_id, room
            HAVING bool_or(is_last) AND count(*) FILTER (WHERE NOT is_blocked) < least(room, max(stand))
        ), held AS (
            SELECT holding, attempt, slot, line, row_number() OVER (PARTITION BY holding ORDER BY slot) AS i
            FROM unnest(p_holding, p_attempts, p_slots, p_lines) AS h (holding, attempt, slot, line) JOIN able b ON b.business_id = holding
            WHERE slot BETWEEN 1 AND b.max_concurrent_calls AND line BETWEEN 1 AND v_lines
        ), mine AS (
            SELECT job.job_id FROM pick p JOIN held h ON h.holding = p.business_id AND h.i = p.i JOIN job ON job.job_id = p.job_id
            WHERE job.state = 'queued' FOR NO KEY UPDATE OF job SKIP LOCKED
        ), chosen AS MATERIALIZED (
            SELECT p.*, h.attempt, h.slot, h.line, CASE WHEN p.has_caller_rules OR p.local_presence <> 'off'
                THEN pick_caller(p.business_id, p.run_callers, p.caller_ids, p.to_number, p.local_presence, p.dials)
                ELSE caller_in_turn(callers_of_run(p.run_callers, p.caller_ids), p.to_number, p.dials) END AS caller
            FROM pick p JOIN held h ON h.holding = p.business_id AND h.i = p.i JOIN mine USING (job_id) ORDER BY h.line LIMIT v_room
        ), inserted AS (
            INSERT INTO attempt AS a (attempt_id, job_id, run_id, business_id, n, carrier, account, from_number, to_number, slot, line,
                                 ring_timeout_secs, call_time_limit_secs, record, owner, next_look_at, guarded)
            SELECT attempt, job_id, run_id, business_id, dials + 1, carrier, reference, caller, to_number, slot, line, ring_timeout_secs,
                   call_time_limit_secs, record, p_owners[array_position(p_businesses, business_id)], v_look_at, guarded
            FROM chosen WHERE caller IS NOT NULL ORDER BY line
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
        SELECT b.business_id AS business, b.room, b.carrier, b.reference, b.health,
            (SELECT count(*) FROM candidate c WHERE c.business_id = b.business_id AND NOT c.is_blocked) < b.room AS wanting,
            ARRAY (SELECT run_id FROM blocked k WHERE k.business_id = b.business_id ORDER BY run_id) AS blocked,
            row_number() OVER own AS nth, i.*,
            (SELECT coalesce(g.pipeline, 'cascade') FROM chosen c LEFT JOIN agent_version g ON g.agent_id = c.agent_id AND g.version = c.agent_version
             WHERE c.attempt = i.attempt_id AND c.agent_id IS NOT NULL) AS talks
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
        talks := v.talks;
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
        -- Fewer jobs than there is room for: there may be others.
        IF v.wanting AND v.nth = 1 THEN
            IF NOT v_alone THEN
                RETURN QUERY SELECT v.business, NULL::uuid, NULL::uuid, NULL::uuid, NULL, NULL, NULL, NULL::integer, NULL::integer, NULL::boolean, NULL::text;
                CONTINUE;
            END IF;
            -- What was given back may stand before the place that claims begin at: the next claim looks at the whole list.
            -- (One that is locked just now keeps its place: waiting for it here could deadlock.)
            UPDATE run_zone z SET first_place = DEFAULT, first_job = DEFAULT FROM (
                SELECT z.run_id, z.zone_set FROM run r JOIN run_zone z USING (run_id) WHERE r.business_id = v.business AND r.state = 'running'
                    AND z.first_job <> '00000000-0000-0000-0000-000000000000' FOR NO KEY UPDATE OF z SKIP LOCKED) s
            WHERE z.run_id = s.run_id AND z.zone_set = s.zone_set;
            IF hold_back(v.business, v.reference, NULL, p_until_rung_ms) THEN
                RETURN QUERY SELECT v.business, NULL::uuid, NULL::uuid, NULL::uuid, NULL, NULL, NULL, NULL::integer, NULL::integer, NULL::boolean, NULL::text;
            END IF;
        ELSIF v.nth = 1 AND v.blocked <> '{}' THEN
            -- Not here: tallies of other runs were moved by this transaction, and they are moved in the order of the runs.
            RETURN QUERY SELECT v.business, NULL::uuid, NULL::uuid, k, NULL, NULL, NULL, NULL::integer, NULL::integer, NULL::boolean,
                NULL::text FROM unnest(v.blocked) k;
        END IF;
    END LOOP;
END $$;

-- Takes the first jobs of every list that is awake, of p_runs or of all, as far as they may not be dialed now, out of the way of the
-- claims: to wait for their time, or for good. The caller has locked the business. True where there were any, so that a claim may find
-- others.
CREATE FUNCTION hold_back(p_business uuid, p_account text, p_runs uuid[], p_until_rung_ms integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v       record;
    v_any   boolean := false;
BEGIN
    FOR v IN
        WITH looked AS (
            SELECT j.job_id, (asked.said).*
            FROM business b JOIN run r USING (business_id) JOIN run_zone z USING (run_id) CROSS JOIN LATERAL (
                SELECT job_id, to_number, time_zones, not_before, not_after, attempt_count FROM job
                WHERE run_id = z.run_id AND zone_set = z.zone_set AND state = 'queued'
                    AND ((- priority), job_id) >= (z.first_place, z.first_job)
                ORDER BY (- priority), job_id LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED) j
            CROSS JOIN LATERAL (SELECT CASE WHEN j.attempt_count >= r.max_attempts AND NOT was_agreed(j.job_id)
                THEN ROW('skipped', 'attempts_used', format('Its run dials a number %s times.', r.max_attempts), NULL)::job_verdict
                ELSE verdict_on(p_business, p_account, j.to_number, j.time_zones, j.not_before,
                                j.not_after - make_interval(secs => r.ring_timeout_secs + p_until_rung_ms / 1000.0),
                                b.cap_per_day, b.cap_per_24h, b.cap_lifetime,
                                CASE WHEN j.attempt_count = 0 THEN r.skip_called_within_days END, r.again_of || r.run_id) END AS said OFFSET 0) asked
            WHERE b.business_id = p_business AND r.state = 'running' AND z.opens_at <= wall_clock()
                AND (p_runs IS NULL OR r.run_id = ANY (p_runs))
        )
        SELECT * FROM hold_jobs(ARRAY (SELECT job_id FROM looked WHERE verdict IS NOT NULL ORDER BY job_id),
            ARRAY (SELECT verdict FROM looked WHERE verdict IS NOT NULL ORDER BY job_id),
            ARRAY (SELECT rule FROM looked WHERE verdict IS NOT NULL ORDER BY job_id),
            ARRAY (SELECT detail FROM looked WHERE verdict IS NOT NULL ORDER BY job_id),
            ARRAY (SELECT next_at FROM looked WHERE verdict IS NOT NULL ORDER BY job_id))
    LOOP
        v_any := true;
    END LOOP;
    RETURN v_any;
END $$;

-- Writes verdicts down: each job waits for its next_at, or is over: skipped, or unreached where it was dialed before. The caller sees
-- to it that nobody claims or moves the jobs meanwhile.
CREATE FUNCTION hold_jobs(p_jobs uuid[], p_verdicts text[], p_rules text[], p_details text[], p_next_at timestamptz[])
RETURNS TABLE (run_id uuid, n bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
BEGIN
    FOR v IN
        WITH told AS MATERIALIZED (
            SELECT * FROM unnest(p_jobs, p_verdicts, p_rules, p_details, p_next_at) AS t (job, verdict, rule, detail, next_at) ORDER BY job
        ), was AS MATERIALIZED (
            -- One step by the key for each: as a set they are looked for in whatever way the statistics of the day suggest, and right
            -- after an import these know nothing.
            SELECT t.*, j.was FROM told t CROSS JOIN LATERAL (
                SELECT state::text AS was FROM job WHERE job_id = t.job AND state IN ('queued', 'waiting') OFFSET 0 FOR NO KEY UPDATE) j
        ), held AS (
            UPDATE job j SET
                state = CASE WHEN t.verdict = 'held' THEN 'waiting' WHEN j.attempt_count > 0 THEN 'unreached' ELSE 'skipped' END,
                next_at = CASE WHEN t.verdict = 'held' THEN t.next_at END,
                reason = CASE WHEN t.verdict = 'skipped' THEN t.rule END,
                disposition = CASE WHEN t.verdict = 'skipped' AND j.attempt_count > 0 THEN
                    (SELECT a.disposition FROM attempt a WHERE a.job_id = j.job_id AND a.disposition IS NOT NULL ORDER BY a.n DESC LIMIT 1) END,
                finished_at = CASE WHEN t.verdict = 'skipped' THEN clock_timestamp() END
            FROM was t WHERE j.job_id = t.job
            RETURNING j.business_id, j.run_id, j.job_id, t.was, j.state::text, j.disposition, t.verdict, t.rule, t.detail, t.next_at
        ), written AS (
            INSERT INTO decision (business_id, run_id, job_id, verdict, rule, detail, next_at)
            SELECT business_id, run_id, job_id, verdict, rule, detail, next_at FROM held
            -- Only what is new: not each look at a number that stays in a call, whose next_at is but the time of the next look.
            WHERE (verdict, rule, CASE WHEN rule <> 'in_call' THEN next_at END) IS DISTINCT FROM (
                SELECT (d.verdict, d.rule, CASE WHEN d.rule <> 'in_call' THEN d.next_at END) FROM decision d WHERE d.job_id = held.job_id
                ORDER BY d.decision_id DESC LIMIT 1)
        )
        SELECT run_id, was, state, disposition, count(*) AS jobs FROM held GROUP BY run_id, was, state, disposition ORDER BY run_id
    LOOP
        PERFORM tally_moved(v.run_id, v.was, v.state, v.disposition, v.jobs, 0);
        run_id := v.run_id;
        n := v.jobs;
        RETURN NEXT;
    END LOOP;
END $$;

-- Ends jobs that wait, by one rule.
CREATE FUNCTION skip_jobs(p_jobs uuid[], p_rule text, p_detail text) RETURNS TABLE (run_id uuid, n bigint) LANGUAGE sql VOLATILE AS $$
    SELECT * FROM hold_jobs(p_jobs, array_fill('skipped'::text, ARRAY[cardinality(p_jobs)]), array_fill(p_rule, ARRAY[cardinality(p_jobs)]),
        array_fill(p_detail, ARRAY[cardinality(p_jobs)]), array_fill(NULL::timestamptz, ARRAY[cardinality(p_jobs)]))
$$;

-- Ends jobs whose not_after has passed, at most p_most, whether their window is open or not. Returns how many.
CREATE FUNCTION expire_jobs(p_most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_jobs uuid[];
BEGIN
    v_jobs := ARRAY (SELECT job_id FROM job WHERE state IN ('queued', 'waiting') AND not_after IS NOT NULL AND not_after <= (SELECT wall_clock())
                     ORDER BY not_after LIMIT p_most FOR NO KEY UPDATE SKIP LOCKED);
    RETURN coalesce((SELECT sum(n) FROM skip_jobs(v_jobs, 'expired', 'Its not_after has passed.')), 0);
END $$;

-- True where the number of this job may not ring now, by the windows as they are now, or would ring beyond its not_after.
CREATE FUNCTION out_of_window(p_job uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM job j JOIN run r USING (run_id) JOIN business b ON b.business_id = r.business_id
        LEFT JOIN run_zone z ON z.run_id = j.run_id AND z.zone_set = j.zone_set AND z.version = r.window_version + b.window_version
            AND z.version > 0
        WHERE j.job_id = p_job AND (z.opens_at > wall_clock() OR z.closes_at <= wall_clock()
            OR j.not_after <= wall_clock() + make_interval(secs => r.ring_timeout_secs)))
$$;

-- Queues waiting jobs whose time has come, at most p_most of them. Returns how many of each run.
CREATE FUNCTION wake_jobs(p_most integer) RETURNS TABLE (business_id uuid, n bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v record;
BEGIN
    FOR v IN
        WITH due AS (
            -- (What is volatile is no condition of an index: by itself it would be asked of each job that waits.)
            SELECT job_id FROM job WHERE state = 'waiting' AND next_at <= (SELECT wall_clock())
            ORDER BY next_at LIMIT p_most FOR NO KEY UPDATE SKIP LOCKED
        ), woken AS (
            UPDATE job SET state = 'queued', next_at = NULL FROM due WHERE job.job_id = due.job_id
            RETURNING job.business_id, job.run_id, job.zone_set
        ), zone AS (
            -- They may stand before the place that claims begin at. (A claim that finds too little looks at the whole list.)
            UPDATE run_zone z SET first_place = DEFAULT, first_job = DEFAULT FROM (
                SELECT run_id, zone_set FROM run_zone JOIN (SELECT DISTINCT run_id, zone_set FROM woken) w USING (run_id, zone_set)
                WHERE first_job <> '00000000-0000-0000-0000-000000000000' FOR NO KEY UPDATE OF run_zone SKIP LOCKED) s
            WHERE z.run_id = s.run_id AND z.zone_set = s.zone_set
        )
        SELECT business_id, run_id, count(*) AS n FROM woken GROUP BY business_id, run_id ORDER BY run_id
    LOOP
        PERFORM tally_moved(v.run_id, 'waiting', 'queued', NULL, v.n, 0);
        business_id := v.business_id;
        n := v.n;
        RETURN NEXT;
    END LOOP;
END $$;

-- When a job is dialed again whose callee agreed on a time; null: not any more. Ten calls are enough for anybody: dials that no carrier
-- took are none, or an outage would break what was agreed.
CREATE FUNCTION agreed_at(p_run uuid, p_job uuid, p_at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT greatest(p_at, wall_clock()) FROM run r JOIN job j USING (run_id)
    WHERE r.run_id = p_run AND j.job_id = p_job AND r.state IN ('running', 'paused') AND (j.dials < 10 OR (
        SELECT count(*) FROM attempt WHERE job_id = p_job AND state NOT IN ('not_sent', 'not_placed', 'refused')
            AND NOT rang_nobody(state, disposition, queue_cancelled_at)) < 10)
$$;

-- When a job that was not reached is dialed again; null: never. Its attempt that ended just now is still open to this statement.
CREATE FUNCTION retry_at(p_run uuid, p_job uuid, p_disposition text) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_retry  jsonb;
    v_rule   jsonb;
    v_before bigint;
    v_delay  double precision;
BEGIN
    SELECT retry -> 'rules' -> p_disposition INTO v_rule FROM run r JOIN job j USING (run_id)
        WHERE r.run_id = p_run AND j.job_id = p_job AND r.max_attempts > j.attempt_count AND r.state IN ('running', 'paused');
    IF v_rule IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT count(*) INTO v_before FROM attempt WHERE job_id = p_job AND NOT open AND disposition = p_disposition;
    IF v_before >= (v_rule ->> 'max')::bigint THEN
        RETURN NULL;
    END IF;
    v_delay := (v_rule ->> 'delay_secs')::float8;
    v_delay := v_delay * (1 + (2 * random() - 1) * coalesce((v_rule ->> 'jitter_pct')::float8, 0) / 100);
    RETURN wall_clock() + make_interval(secs => v_delay);
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
-- call) | other_call (the attempt has another call id) | no_attempt | again (nothing was done: somebody else has the attempt). requeue: its job is dialed again, uncharged. speak: an answered
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
    -- It takes nothing from what may be called from that number on that day. Before the attempt is closed: a claim that holds the
    -- number's row waits for nobody who closes an attempt with its slot.
    UPDATE caller_id c SET dials = c.dials - 1 FROM business b WHERE b.business_id = a.business_id AND c.business_id = a.business_id
        AND c.number = a.from_number AND c.dials > 0 AND c.day = (a.intent_at AT TIME ZONE known_zone(b.time_zone))::date;
    UPDATE attempt SET state = p_state, ended_at = clock_timestamp(), heard_at = clock_timestamp(), disposition = p_disposition,
        reason = coalesce(p_reason, CASE WHEN a.job_id IS NOT NULL THEN NULL WHEN a.hangup_wanted THEN 'cancelled'
            WHEN p_state = 'refused' THEN 'refused' ELSE 'expired' END),
        carrier_status = p_carrier_status, carrier_code = p_carrier_code, next_look_at = NULL,
        needs_person = false, needs_person_since = NULL,
        events = events || transition(p_source, a.state, p_state)
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

-- Closes a single call that no worker took within its time, or that may not be dialed any more: its number was suppressed, or the
-- window that the business has in this version (p_shut) is closed for it. A worker that takes it at the last moment wins: the row's
-- lock decides, and afterwards the owner is there.
CREATE FUNCTION expire_call(p_attempt uuid, p_shut bigint) RETURNS attempt_change LANGUAGE plpgsql AS $$
DECLARE
    a        attempt;
    v        attempt_change;
    v_reason text;
BEGIN
    SELECT * INTO a FROM attempt WHERE attempt_id = p_attempt AND state = 'intent' AND owner IS NULL FOR NO KEY UPDATE;
    v_reason := CASE WHEN a.dial_by < clock_timestamp() THEN 'expired'
        WHEN is_suppressed(a.business_id, a.to_number) THEN 'suppressed'
        WHEN EXISTS (SELECT 1 FROM business WHERE business_id = a.business_id AND window_version = p_shut) THEN 'window_ended' END;
    IF v_reason IS NULL THEN
        v.verdict := 'no_attempt';
        RETURN v;
    END IF;
    RETURN close_attempt(p_attempt, 'reconcile', 'not_sent', 'final', NULL, v_reason, NULL, NULL);
END $$;

-- Admits a single call: its holder becomes an intent without an owner, if a slot and a line are its own now. p_zones: where the number
-- may be. p_window_version: of the business's window that was looked at for it. p_local: null where it is no run's, and calls from p_callers' only number or else from the account's first; a run's trial
-- takes its number as the run's jobs do. Returns admitted, or why not.
CREATE FUNCTION admit_call(p_business uuid, p_attempt uuid, p_slot integer, p_line integer, p_carrier text, p_callers text[],
    p_local text, p_to text, p_external_id text, p_variables jsonb, p_message jsonb, p_ring_timeout_secs integer, p_call_time_limit_secs integer,
    p_max_wait_secs integer, p_record boolean, p_zones text[], p_window_version bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    b        business;
    acct     carrier_account;
    v_caller text;
    v        job_verdict;
BEGIN
    SELECT * INTO b FROM business WHERE business_id = p_business FOR NO KEY UPDATE;
    IF NOT FOUND OR b.state <> 'active' THEN
        RETURN 'business';
    END IF;
    SELECT * INTO acct FROM carrier_account WHERE business_id = p_business AND carrier = p_carrier AND carrier = ANY (b.carriers);
    IF NOT FOUND THEN
        RETURN 'account';
    END IF;
    -- A refused account is tried with one call: the claim that takes it holds the account back again.
    IF acct.hold_until > clock_timestamp() OR (acct.health = 'refused' AND EXISTS (
           SELECT 1 FROM attempt WHERE business_id = p_business AND account = acct.reference AND open AND owner IS NULL AND direction = 'outbound')) THEN
        RETURN 'held';
    END IF;
    v := verdict_on(p_business, acct.reference, p_to, p_zones, NULL, NULL, b.cap_per_day, b.cap_per_24h, b.cap_lifetime);
    IF v.verdict IS NOT NULL THEN
        RETURN v.rule;
    END IF;
    IF (SELECT count(*) FROM attempt WHERE business_id = p_business AND open) >= b.max_concurrent_calls
       OR room_on_lines() < 1 OR p_slot > b.max_concurrent_calls
       OR p_line > (SELECT max_lines FROM installation) THEN
        RETURN 'full';
    END IF;
    v_caller := pick_caller(p_business, CASE WHEN p_local IS NULL AND p_callers = '{}' THEN acct.caller_ids[1:1] ELSE p_callers END,
        acct.caller_ids, p_to, coalesce(p_local, 'off'), 0);
    IF v_caller IS NULL AND p_local IS NULL AND p_callers = '{}' THEN
        v_caller := pick_caller(p_business, '{}', acct.caller_ids, p_to, 'off', 0);
    END IF;
    IF v_caller IS NULL THEN
        RETURN 'caller';
    END IF;
    INSERT INTO attempt (attempt_id, business_id, external_id, variables, message, carrier, account, from_number, to_number, slot, line,
                         ring_timeout_secs, call_time_limit_secs, dial_by, record, time_zones, window_version)
    VALUES (p_attempt, p_business, p_external_id, p_variables, p_message, p_carrier, acct.reference, v_caller,
            p_to, p_slot, p_line, p_ring_timeout_secs, p_call_time_limit_secs,
            clock_timestamp() + make_interval(secs => p_max_wait_secs), p_record, p_zones, p_window_version)
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN 'admitted' ELSE 'full' END;
END $$;
