-- Suppression by prefix and for the whole installation, with its evidence.
-- A prefix stands in the same list as the numbers, written with a star: +1900*. What holds for every business stands under the
-- nil id, which is no business's: so it has no foreign key, and no business's connection sees it.

ALTER TABLE suppression DROP CONSTRAINT suppression_business_id_fkey;
ALTER TABLE suppression DROP CONSTRAINT suppression_number_check;
ALTER TABLE suppression ADD CONSTRAINT suppression_number_check CHECK (number ~ '^\+[1-9][0-9]{1,14}$|^\+[1-9][0-9]{0,13}\*$');
ALTER TABLE suppression ADD COLUMN evidence text, ADD COLUMN evidence_url text, ADD COLUMN evidence_at timestamptz;
COMMENT ON COLUMN suppression.business_id IS 'Whose list it is in; the nil id: the installation''s.';
COMMENT ON COLUMN suppression.number IS 'E.164, or a prefix of it with a star behind it.';
COMMENT ON COLUMN suppression.evidence_at IS 'When the person, or the law, said so; created_at is when it was written down.';
-- Nearly always a handful or empty, whatever the list: numbers are looked up in the key, prefixes here.
CREATE INDEX suppression_prefix ON suppression (business_id, number) WHERE number LIKE '%*' AND business_id IS NOT NULL;

-- Every entry of a list that would suppress this number: itself, and each of its beginnings as a prefix.
CREATE FUNCTION suppression_keys(p_number text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY[p_number, left(p_number, 2) || '*', left(p_number, 3) || '*', left(p_number, 4) || '*', left(p_number, 5) || '*',
        left(p_number, 6) || '*', left(p_number, 7) || '*', left(p_number, 8) || '*', left(p_number, 9) || '*', left(p_number, 10) || '*',
        left(p_number, 11) || '*', left(p_number, 12) || '*', left(p_number, 13) || '*', left(p_number, 14) || '*', left(p_number, 15) || '*']
$$;

-- True where this number may not be called for this business now, by its own list or by the installation's, which a business's
-- connection does not see by itself: hence the owner's eyes. (OFFSET 0, here and below: never as a set that is read first.)
CREATE OR REPLACE FUNCTION is_suppressed(p_business uuid, p_number text) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE
    v_itself   boolean;
    v_prefixes uuid[];
BEGIN
    -- List by list, so that it is a step into the key of each: as one search it reads all of a list that was just uploaded, for as long as
    -- the statistics do not know of it. Most lists have no prefix at all, and one step into their index says so.
    SELECT EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = p_number
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()))
        OR EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = '00000000-0000-0000-0000-000000000000' AND s.number = p_number
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())),
        CASE WHEN EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number LIKE '%*') THEN ARRAY[p_business] END
        || CASE WHEN EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = '00000000-0000-0000-0000-000000000000' AND s.number LIKE '%*')
           THEN ARRAY['00000000-0000-0000-0000-000000000000'::uuid] END
    INTO v_itself, v_prefixes;
    IF v_itself OR v_prefixes IS NULL THEN
        RETURN v_itself;
    END IF;
    RETURN EXISTS (SELECT 1 FROM unnest(v_prefixes) list, unnest(suppression_keys(p_number)) entry WHERE
        EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = list AND s.number = entry
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) OFFSET 0));
END $$;

-- The numbers of a list that may not be called for this business: the same for a thousand at once. Prefixes are the keys of an object,
-- of which each number's few are looked up: so a thousand take no longer than one.
CREATE FUNCTION suppressed_among(p_business uuid, p_numbers text[]) RETURNS SETOF text LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE
    v_lists    uuid[] := ARRAY[p_business, '00000000-0000-0000-0000-000000000000'];
    v_prefixes jsonb;
BEGIN
    RETURN QUERY SELECT n FROM unnest(p_numbers) n WHERE
        EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = p_business AND s.number = n
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) OFFSET 0)
        OR EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = '00000000-0000-0000-0000-000000000000' AND s.number = n
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) OFFSET 0);
    SELECT jsonb_object_agg(s.number, true) INTO v_prefixes FROM suppression s WHERE s.business_id = ANY (v_lists)
        AND s.number LIKE '%*' AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
    IF v_prefixes IS NOT NULL THEN
        RETURN QUERY SELECT n FROM unnest(p_numbers) n WHERE v_prefixes ?| suppression_keys(n);
    END IF;
END $$;

-- Who writes into the installation's list holds this lock: what a repetition leaves out is read before it is written.
CREATE FUNCTION installation_list_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7239003 $$;

-- A run whose list is to be looked over, because prefixes were suppressed: its jobs after this one that wait are ended, a part at a time.
-- Written with the entry, so that a death leaves nothing undone. Nothing depends on it: no claim takes such a job any more.
CREATE TABLE suppression_pass (
    pass_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id uuid NOT NULL,
    run_id      uuid NOT NULL,
    prefixes    text[] NOT NULL,
    after       uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
CREATE INDEX suppression_pass_business ON suppression_pass (business_id, pass_id);
COMMENT ON COLUMN suppression_pass.prefixes IS 'Beginnings of numbers, without the star. One that is not on a list any more ends nothing.';
ALTER TABLE suppression_pass ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON suppression_pass TO rollcall_tenant USING (business_id = (SELECT bound_business()));
GRANT INSERT ON suppression_pass TO rollcall_tenant;

-- Looks over the next part of a list that is to be looked over, of one business or of any: at most p_rows jobs, of which at most p_most
-- are ended. What is locked just now is being dialed since before the prefix was written, or is ended by somebody else. False where
-- there is nothing to look over, or only what others look over now.
CREATE FUNCTION look_over(p_business uuid, p_rows integer, p_most integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v          suppression_pass;
    v_prefixes jsonb;
    v_seen     bigint;
    v_last     uuid;
    v_jobs     uuid[];
BEGIN
    SELECT * INTO v FROM suppression_pass WHERE business_id = p_business OR p_business IS NULL ORDER BY pass_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT jsonb_object_agg(s.number, true) INTO v_prefixes FROM suppression s
        WHERE s.business_id IN (v.business_id, '00000000-0000-0000-0000-000000000000') AND s.number LIKE '%*'
            AND rtrim(s.number, '*') = ANY (v.prefixes) AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
    IF v_prefixes IS NULL OR NOT EXISTS (SELECT 1 FROM run WHERE run_id = v.run_id AND ended_at IS NULL) THEN
        DELETE FROM suppression_pass WHERE pass_id = v.pass_id;
        RETURN true;
    END IF;
    -- By both columns, in the order of the one index that has both: nothing else is quicker, whatever the statistics say.
    WITH part AS MATERIALIZED (
        SELECT * FROM (SELECT run_id, job_id, state, to_number FROM job WHERE (run_id, job_id) > (v.run_id, v.after)
            ORDER BY run_id, job_id LIMIT p_rows) p WHERE run_id = v.run_id
    )
    SELECT (SELECT count(*) FROM part), (SELECT job_id FROM part ORDER BY job_id DESC LIMIT 1),
        ARRAY (SELECT job_id FROM part WHERE state IN ('queued', 'waiting') AND v_prefixes ?| suppression_keys(to_number)
            ORDER BY job_id LIMIT p_most)
    INTO v_seen, v_last, v_jobs;
    PERFORM skip_jobs(ARRAY (
        SELECT j.job_id FROM unnest(v_jobs) n CROSS JOIN LATERAL (
            SELECT job_id FROM job WHERE job_id = n AND state IN ('queued', 'waiting') OFFSET 0 FOR NO KEY UPDATE SKIP LOCKED) j),
        'suppressed', 'The number is on the suppression list.');
    IF cardinality(v_jobs) >= p_most THEN
        v_last := v_jobs[cardinality(v_jobs)];
    ELSIF v_seen < p_rows THEN
        DELETE FROM suppression_pass WHERE pass_id = v.pass_id;
        PERFORM end_run_if_done(v.run_id);
        RETURN true;
    END IF;
    UPDATE suppression_pass SET after = v_last WHERE pass_id = v.pass_id;
    RETURN true;
END $$;
