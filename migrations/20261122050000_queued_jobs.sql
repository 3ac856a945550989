-- The queued jobs of a run in the order of its list, from `p_after` on, at most so many of each list of zones and priority. With the
-- owner's eyes, because under row level security no condition may use an index before the policy is asked, unless Postgres calls its
-- operator leakproof, which it says of no minus sign: every queued job of the run would be read. Ids only: whoever is not theirs finds no
-- job by them.
CREATE FUNCTION queued_jobs(p_run uuid, p_after uuid, p_limit bigint) RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
BEGIN
    RETURN QUERY WITH RECURSIVE place AS (
        (SELECT f.* FROM run_zone z CROSS JOIN LATERAL (
            SELECT j.zone_set, (- j.priority) AS place, j.job_id FROM job j
            WHERE j.run_id = p_run AND j.zone_set = z.zone_set AND j.state = 'queued'
            ORDER BY (- j.priority), j.job_id LIMIT 1) f WHERE z.run_id = p_run)
        UNION ALL
        SELECT n.* FROM place p CROSS JOIN LATERAL (
            SELECT j.zone_set, (- j.priority) AS place, j.job_id FROM job j
            WHERE j.run_id = p_run AND j.zone_set = p.zone_set AND j.state = 'queued' AND (- j.priority) > p.place
            ORDER BY (- j.priority), j.job_id LIMIT 1) n
    )
    SELECT q.job_id FROM place p CROSS JOIN LATERAL (
        SELECT j.job_id FROM job j
        WHERE j.run_id = p_run AND j.zone_set = p.zone_set AND j.state = 'queued' AND (- j.priority) = p.place
            AND j.job_id >= p.job_id AND j.job_id > p_after
        ORDER BY j.job_id LIMIT p_limit) q;
END $$;
