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
-- connection does not see by itself: hence the owner's eyes.
CREATE OR REPLACE FUNCTION is_suppressed(p_business uuid, p_number text) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE
    v_lists  uuid[] := ARRAY[p_business, '00000000-0000-0000-0000-000000000000'];
    v_itself boolean;
    v_prefix boolean;
BEGIN
    -- Most lists have no prefix at all, and one step into their index says so.
    SELECT EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = ANY (v_lists) AND s.number = p_number
               AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())),
           EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = ANY (v_lists) AND s.number LIKE '%*')
    INTO v_itself, v_prefix;
    IF v_itself OR NOT v_prefix THEN
        RETURN v_itself;
    END IF;
    PERFORM 1 FROM suppression s WHERE s.business_id = ANY (v_lists) AND s.number = ANY (suppression_keys(p_number)) AND s.number LIKE '%*'
        AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) LIMIT 1;
    RETURN FOUND;
END $$;

-- The numbers of a list that may not be called for this business: the same for a thousand at once. A few prefixes are quicker
-- compared than looked up.
CREATE FUNCTION suppressed_among(p_business uuid, p_numbers text[]) RETURNS SETOF text LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE
    v_lists    uuid[] := ARRAY[p_business, '00000000-0000-0000-0000-000000000000'];
    v_prefixes text[];
BEGIN
    RETURN QUERY SELECT n FROM unnest(p_numbers) n WHERE EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = ANY (v_lists)
        AND s.number = n AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) OFFSET 0);
    SELECT array_agg(rtrim(p.number, '*')) INTO v_prefixes FROM (SELECT s.number FROM suppression s WHERE s.business_id = ANY (v_lists)
        AND s.number LIKE '%*' AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) LIMIT 101) p;
    IF cardinality(v_prefixes) <= 100 THEN
        RETURN QUERY SELECT n FROM unnest(p_numbers) n WHERE n ^@ ANY (v_prefixes);
    ELSIF v_prefixes IS NOT NULL THEN
        RETURN QUERY SELECT n FROM unnest(p_numbers) n WHERE EXISTS (SELECT 1 FROM suppression s WHERE s.business_id = ANY (v_lists)
            AND s.number = ANY (suppression_keys(n)) AND s.number LIKE '%*' AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
            OFFSET 0);
    END IF;
END $$;
