-- A business dials a number more or less often from now on: what waits because of the old limits is looked at again, by the sweep, a
-- part of it at a time.

CREATE TABLE cap_review (
    run_id         uuid PRIMARY KEY,
    business_id    uuid NOT NULL,
    after_decision bigint NOT NULL DEFAULT 0,
    last_decision  bigint
);
COMMENT ON COLUMN cap_review.after_decision IS 'Decisions up to this one have been looked at.';
COMMENT ON COLUMN cap_review.last_decision IS 'Those behind it go by the new limits; null: the sweep has not seen the row yet.';
ALTER TABLE cap_review ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON cap_review TO rollcall_tenant;
CREATE POLICY own ON cap_review TO rollcall_tenant USING (business_id = (SELECT bound_business()));

CREATE INDEX decision_capped ON decision (run_id, decision_id) WHERE rule = 'attempt_cap' AND verdict = 'held' AND run_id IS NOT NULL;

-- Has jobs that wait because of a limit dialed again at once, as far as the next claim allows it. Looks at p_most decisions, or a few
-- more; returns how many it looked at. Only the last decision of a job counts. A job that somebody has locked is on its way already.
CREATE FUNCTION review_caps(p_most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v       cap_review;
    v_seen  bigint;
    v_until bigint;
    v_jobs  uuid[];
    v_all   bigint := 0;
BEGIN
    FOR v IN SELECT * FROM cap_review ORDER BY run_id FOR UPDATE SKIP LOCKED LOOP
        IF v.last_decision IS NULL THEN
            SELECT coalesce(max(decision_id), 0) INTO v.last_decision FROM decision
                WHERE run_id = v.run_id AND rule = 'attempt_cap' AND verdict = 'held';
        END IF;
        SELECT count(*), max(decision_id), array_agg(job_id ORDER BY job_id) FILTER (WHERE is_last) INTO v_seen, v_until, v_jobs FROM (
            -- (A sum, so that no plan reads decisions from the last one down until it meets one of this job.)
            SELECT d.decision_id, d.job_id, d.decision_id = (SELECT max(l.decision_id + 0) FROM decision l WHERE l.job_id = d.job_id) AS is_last
            FROM decision d WHERE d.run_id = v.run_id AND d.rule = 'attempt_cap' AND d.verdict = 'held'
                AND d.decision_id > v.after_decision AND d.decision_id <= v.last_decision ORDER BY d.decision_id LIMIT p_most) told;
        -- One step by the key for each, whatever the statistics say.
        v_jobs := ARRAY (SELECT j.job_id FROM unnest(v_jobs) n CROSS JOIN LATERAL (
            SELECT job_id FROM job WHERE job_id = n AND state = 'waiting' AND next_at > wall_clock() OFFSET 0 FOR NO KEY UPDATE SKIP LOCKED) j);
        UPDATE job SET next_at = wall_clock() WHERE job_id = ANY (v_jobs);
        v_all := v_all + v_seen;
        IF v_seen < p_most THEN
            DELETE FROM cap_review WHERE run_id = v.run_id;
        ELSE
            UPDATE cap_review SET after_decision = v_until, last_decision = v.last_decision WHERE run_id = v.run_id;
        END IF;
        EXIT WHEN v_all >= p_most;
    END LOOP;
    RETURN v_all;
END $$;
