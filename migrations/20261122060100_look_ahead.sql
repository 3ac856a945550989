-- What people are told of a run before its next call: by the rules of the claim, asked for a whole list at once.

-- The numbers that a run may call from now: how many are switched on, how many of them have calls left today, and how many have room
-- for one more at once, too. left_today, per_day and at_once are sums over them; null where one of them has no limit.
CREATE FUNCTION callers_now(p_business uuid, p_run uuid)
RETURNS TABLE (callers bigint, with_day bigint, free bigint, left_today bigint, per_day bigint, at_once bigint, next_day timestamptz)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_zone text;
    v_day  date;
BEGIN
    SELECT known_zone(b.time_zone) INTO v_zone FROM business b WHERE b.business_id = p_business;
    v_day := (clock_timestamp() AT TIME ZONE v_zone)::date;
    RETURN QUERY SELECT count(*), count(*) FILTER (WHERE c.day_left > 0 OR c.max_per_day IS NULL),
            count(*) FILTER (WHERE (c.day_left > 0 OR c.max_per_day IS NULL) AND (c.max_at_once <= c.calls) IS NOT TRUE),
            CASE WHEN bool_and(c.max_per_day IS NOT NULL) THEN sum(c.day_left)::bigint END,
            CASE WHEN bool_and(c.max_per_day IS NOT NULL) THEN sum(c.max_per_day)::bigint END,
            CASE WHEN bool_and(c.max_at_once IS NOT NULL) THEN sum(c.max_at_once)::bigint END,
            (date_trunc('day', wall_clock() AT TIME ZONE v_zone) + interval '1 day') AT TIME ZONE v_zone
        FROM (
            SELECT DISTINCT n.number, s.max_per_day, s.max_at_once,
                   greatest(s.max_per_day - CASE WHEN s.day = v_day THEN s.dials ELSE 0 END, 0) AS day_left,
                   CASE WHEN s.max_at_once IS NOT NULL THEN (SELECT count(*) FROM attempt o
                       WHERE o.business_id = p_business AND o.open AND o.from_number = n.number) END AS calls
            FROM run r JOIN business b USING (business_id) JOIN carrier_account a USING (business_id)
                CROSS JOIN LATERAL unnest(callers_of_run(r.caller_ids, a.caller_ids)) AS n (number)
                LEFT JOIN caller_id s ON s.business_id = p_business AND s.number = n.number
            WHERE r.business_id = p_business AND r.run_id = p_run AND a.carrier = ANY (r.carriers) AND a.carrier = ANY (b.carriers)
                AND s.enabled IS NOT FALSE) c;
END $$;

-- The last hundred ends of a run since a moment. In the order of the index, whatever the statistics say: where they are old, all calls of a
-- run look like a few, which would be read and sorted.
CREATE FUNCTION last_ends(p_run uuid, p_guarded boolean, p_since timestamptz)
RETURNS TABLE (disposition text, ended_at timestamptz) LANGUAGE plpgsql STABLE SET enable_sort = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY SELECT a.disposition::text, a.ended_at FROM attempt a
        WHERE a.run_id = p_run AND a.guarded = p_guarded AND a.ended_at IS NOT NULL AND a.ended_at > p_since
        ORDER BY a.ended_at DESC LIMIT 100;
END $$;

-- What the eta of a run is reckoned from: how many of its calls ended, of the last hundred, in how many seconds, counted from when it
-- has been able to dial without a break; all that decides in which hours the zones are dialed that are open longest, null where it has no
-- window; when the last of what sleeps may be dialed; and until when rules hold what waits, as far as a hundred of them tell. Null where nothing of it may be dialed now, or where the last of it never may.
-- With the owner's eyes, as in queued_jobs.
CREATE FUNCTION pace_of_run(p_business uuid, p_run uuid) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE
    b        business;
    r        run;
    v_now    timestamptz := wall_clock();
    v_since  timestamptz;
    v_zones  jsonb;
    v_sleeps timestamptz;
    v_waits  timestamptz;
    v_awake  boolean;
    v_ends   bigint;
    v_looked bigint;
    v_first  timestamptz;
BEGIN
    SELECT * INTO b FROM business WHERE business_id = p_business;
    SELECT * INTO r FROM run WHERE business_id = p_business AND run_id = p_run;
    IF NOT FOUND OR p_business <> bound_business() OR r.state <> 'running' OR r.end_at <= v_now OR b.state <> 'active'
       OR carrier_of_run(p_business, r.carriers) IS NULL THEN
        RETURN NULL;
    END IF;
    IF r.window_version + b.window_version > 0 THEN
        SELECT bool_or(z.open) FILTER (WHERE q.has), min(z.opens_at) FILTER (WHERE z.open),
               (array_agg(to_jsonb(z.zones) ORDER BY z.closes_at DESC) FILTER (WHERE z.open AND q.has))[1],
               max(z.opens_at) FILTER (WHERE q.has AND NOT z.open)
        INTO v_awake, v_since, v_zones, v_sleeps FROM (
            SELECT *, version = r.window_version + b.window_version AND opens_at <= v_now
                AND closes_at > v_now + make_interval(secs => r.ring_timeout_secs) AS open
            FROM run_zone WHERE run_id = p_run) z
        LEFT JOIN LATERAL (
            SELECT true AS has FROM job WHERE run_id = p_run AND zone_set = z.zone_set AND state = 'queued'
                AND ((- priority), job_id) >= (z.first_place, z.first_job) ORDER BY (- priority), job_id LIMIT 1) q ON true;
    END IF;
    IF (SELECT sum(waiting) FROM tally_shard WHERE run_id = p_run) > 0 THEN
        SELECT max(next_at) INTO v_waits FROM (
            SELECT next_at FROM job WHERE run_id = p_run AND run_id IS NOT NULL AND state = 'waiting' LIMIT 100) j;
    END IF;
    IF NOT v_awake OR v_sleeps = 'infinity' THEN
        RETURN NULL;
    END IF;
    -- By the clock of the ends, which is not that of the windows where a trial has turned that one.
    v_since := greatest(r.started_at, r.guarded_from,
        CASE WHEN isfinite(v_since) THEN statement_timestamp() - (v_now - v_since) END);
    SELECT count(*), count(*) FILTER (WHERE disposition <> 'cancelled'), min(ended_at) INTO v_looked, v_ends, v_first
        FROM last_ends(p_run, r.breaker IS NOT NULL OR r.abandon_guard IS NOT NULL, v_since);
    RETURN jsonb_build_object('ends', v_ends, 'now', v_now, 'sleeps_until', v_sleeps, 'waits_until', v_waits,
        'secs', extract(epoch FROM statement_timestamp() - CASE WHEN v_looked < 100 THEN v_since ELSE v_first END),
        'hours', CASE WHEN v_zones IS NOT NULL THEN jsonb_build_object('zones', v_zones, 'home', b.time_zone,
            'windows', jsonb_path_query_array(jsonb_build_array(r.calling_window, b.calling_window), '$[*] ? (@ != null)'),
            'calendars', (SELECT coalesce(jsonb_object_agg(name, dates), '{}') FROM calendar WHERE business_id = p_business)) END);
END $$;

-- What the claim would say of the jobs of a run that are not over, counted by zones, verdict and rule: held or skipped as it has them,
-- dialing for those that are in a call, null for those that may be dialed as far as their numbers go. first_at and last_at: when the
-- first and the last of those held may be dialed. With the owner's eyes, because a tenant does not see the installation's suppression
-- list, and because under row level security no join may use an index.
-- A verdict costs ten times what counting a job does. It is asked only for numbers that a rule may be about: that are suppressed, in a
-- call, dialed as often as a limit allows, or dialed lately; and of those for no more than p_asked, each of which stands for its neighbours in the list.
CREATE FUNCTION look_ahead(p_business uuid, p_run uuid, p_until_rung_secs double precision, p_asked bigint)
RETURNS TABLE (zone_set bigint, verdict text, rule text, n bigint, first_at timestamptz, last_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET work_mem = '256MB' AS $$
#variable_conflict use_column
DECLARE
    b          business;
    r          run;
    v_now      timestamptz := wall_clock();
    v_lists    uuid[] := ARRAY[p_business, '00000000-0000-0000-0000-000000000000'];
    v_account  text;
    v_prefixes jsonb;
    v_ring     interval;
    v_cap      integer;
    v_own      uuid[];
    v_since    timestamptz;
    v_in_calls text[];
BEGIN
    SELECT * INTO b FROM business WHERE business_id = p_business;
    SELECT * INTO r FROM run WHERE business_id = p_business AND run_id = p_run;
    IF NOT FOUND OR p_business <> bound_business() THEN
        RETURN;
    END IF;
    SELECT c.reference INTO v_account FROM carrier_account c
        WHERE c.business_id = p_business AND c.carrier = ANY (r.carriers) AND c.carrier = ANY (b.carriers)
        ORDER BY array_position(r.carriers, c.carrier) LIMIT 1;
    SELECT jsonb_object_agg(s.number, true) INTO v_prefixes FROM suppression s
        WHERE s.business_id = ANY (v_lists) AND s.number LIKE '%*' AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
    v_ring := make_interval(secs => r.ring_timeout_secs + p_until_rung_secs);
    v_own := r.again_of || p_run;
    v_cap := least(b.cap_per_day, b.cap_per_24h, b.cap_lifetime);
    -- No day of a callee is longer than 25 hours.
    v_since := CASE WHEN b.cap_lifetime IS NULL THEN v_now - interval '26 h' ELSE '-infinity' END;
    v_in_calls := ARRAY (SELECT a.to_number FROM attempt a
        WHERE a.open AND a.line IS NOT NULL AND (a.business_id = p_business OR a.account = v_account));
    RETURN QUERY WITH named AS MATERIALIZED (
        SELECT j.job_id FROM suppression s JOIN job j ON j.to_number = s.number
        WHERE s.business_id = ANY (v_lists) AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
            AND j.run_id = p_run AND j.state IN ('queued', 'waiting')
        UNION SELECT j.job_id FROM job j
        WHERE v_prefixes IS NOT NULL AND j.run_id = p_run AND j.state IN ('queued', 'waiting')
            AND v_prefixes ?| suppression_keys(j.to_number)
        UNION SELECT j.job_id FROM job j
        WHERE j.run_id = p_run AND j.to_number = ANY (v_in_calls) AND j.state IN ('queued', 'waiting')
        -- One step by the number for each job: where statistics are of before an import, a join goes through all calls for each of them.
        UNION SELECT j.job_id FROM job j
        WHERE coalesce(v_cap, r.skip_called_within_days) IS NOT NULL AND j.run_id = p_run AND j.state IN ('queued', 'waiting') AND (
            (v_cap IS NOT NULL AND v_cap <= (
                SELECT count(*) FROM attempt a WHERE a.business_id = p_business AND a.to_number = j.to_number AND a.intent_at >= v_since))
            OR (r.skip_called_within_days IS NOT NULL AND j.attempt_count = 0 AND EXISTS (
                SELECT 1 FROM attempt a WHERE a.business_id = p_business AND a.to_number = j.to_number
                    AND a.intent_at > v_now - make_interval(days => r.skip_called_within_days) AND (a.run_id = ANY (v_own)) IS NOT TRUE
                OFFSET 0)))
    ), chosen AS (
        SELECT job_id, i - lag(i, 1, 0::bigint) OVER (ORDER BY i) AS stands_for FROM (
            SELECT job_id, row_number() OVER (ORDER BY job_id) AS i, count(*) OVER () AS all_of_them FROM named) n
        WHERE all_of_them <= p_asked OR i * p_asked / all_of_them <> (i - 1) * p_asked / all_of_them
    ), asked AS MATERIALIZED (
        SELECT k.job_id, k.stands_for, (v.said).verdict AS verdict, (v.said).rule AS rule, (v.said).next_at AS until
        FROM chosen k JOIN job j USING (job_id) CROSS JOIN LATERAL (
            SELECT verdict_on(p_business, v_account, j.to_number, j.time_zones, j.not_before, j.not_after - v_ring,
                              b.cap_per_day, b.cap_per_24h, b.cap_lifetime,
                              CASE WHEN j.attempt_count = 0 THEN r.skip_called_within_days END, v_own) AS said OFFSET 0) v
    ), every AS (
        SELECT j.job_id, j.zone_set, j.state, j.attempt_count, j.not_before, j.not_after, a.verdict, a.rule,
               greatest(a.until, j.next_at, j.not_before) AS at, a.stands_for
        FROM asked a JOIN job j USING (job_id)
        UNION ALL
        SELECT j.job_id, j.zone_set, j.state, j.attempt_count, j.not_before, j.not_after, NULL, NULL, greatest(j.next_at, j.not_before), 1
        FROM job j WHERE j.run_id = p_run AND j.state IN ('queued', 'waiting', 'dialing')
            -- (Not as a join: statistics of before an import make that a step through all of them for each job.)
            AND j.job_id NOT IN (SELECT k.job_id FROM named k)
    )
    SELECT e.zone_set, t.told[1], t.told[2], sum(e.stands_for)::bigint, min(e.at) FILTER (WHERE e.at > v_now), max(e.at)
    FROM every e
        LEFT JOIN run_zone z ON z.run_id = p_run AND z.zone_set = e.zone_set AND z.version = r.window_version + b.window_version AND z.version > 0
            -- One that never opens is a matter of the window, not of the lead.
            AND z.opens_at < 'infinity'
        CROSS JOIN LATERAL (SELECT CASE
        WHEN e.state = 'dialing' THEN ARRAY['dialing', NULL]
        WHEN e.attempt_count >= r.max_attempts AND NOT was_agreed(e.job_id) THEN ARRAY['skipped', 'attempts_used']
        WHEN e.verdict = 'skipped' THEN ARRAY[e.verdict, e.rule]
        WHEN e.not_after - v_ring <= greatest(e.at, z.opens_at, v_now) THEN ARRAY['skipped', 'expired']
        WHEN r.end_at <= greatest(e.at, v_now) THEN ARRAY['skipped', 'run_ended']
        WHEN e.verdict = 'held' THEN ARRAY[e.verdict, e.rule]
        WHEN e.not_before > v_now THEN ARRAY['held', 'not_before']
        -- What is due is dialed, as soon as the sweep has seen it.
        WHEN e.state = 'waiting' AND e.at > v_now THEN ARRAY['held', 'retry_wait'] END AS told) t
    GROUP BY e.zone_set, t.told;
END $$;
