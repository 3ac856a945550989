-- The numbers that a business calls from, one by one: whether, how often a day, and how many calls at once; and which of them is
-- taken for a call.

CREATE TABLE caller_id (
    business_id uuid NOT NULL REFERENCES business,
    number      text NOT NULL,
    label       text,
    enabled     boolean NOT NULL DEFAULT true,
    max_per_day integer CHECK (max_per_day >= 1),
    max_at_once integer CHECK (max_at_once >= 1),
    day         date,
    dials       integer NOT NULL DEFAULT 0,
    claim       xid8,
    claimed     integer NOT NULL DEFAULT 0,
    PRIMARY KEY (business_id, number)
) WITH (fillfactor = 50);
COMMENT ON COLUMN caller_id.dials IS 'How often it was taken for a call on that day, of the business''s zone, but for attempts that were closed without one. Counted here and not in the ledger, so that a claim reads one row.';
COMMENT ON COLUMN caller_id.claimed IS 'Of those, by the transaction named by claim: its attempts are not in the ledger yet.';
ALTER TABLE caller_id ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON caller_id TO rollcall_tenant;
CREATE POLICY own ON caller_id TO rollcall_tenant USING (business_id = (SELECT bound_business()));

ALTER TABLE run ADD COLUMN local_presence text NOT NULL DEFAULT 'off' CHECK (local_presence IN ('off', 'area_code', 'country'));

-- A number's country code (ITU-T E.164, assigned codes): those of one and two digits are listed, all others have three.
CREATE FUNCTION country_code(p_number text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN left(p_number, 2) IN ('+1', '+7') THEN left(p_number, 2)
        WHEN left(p_number, 3) IN ('+20', '+27', '+30', '+31', '+32', '+33', '+34', '+36', '+39', '+40', '+41', '+43', '+44', '+45', '+46',
            '+47', '+48', '+49', '+51', '+52', '+53', '+54', '+55', '+56', '+57', '+58', '+60', '+61', '+62', '+63', '+64', '+65', '+66',
            '+81', '+82', '+84', '+86', '+90', '+91', '+92', '+93', '+94', '+95', '+98') THEN left(p_number, 3)
        ELSE left(p_number, 4) END
$$;

-- How near a caller is to whom it calls: 0 not at all, 1 the same country code, more the more digits behind that are the same. In
-- North America an area code is the same or another: two of one state look as strange as two of two coasts.
CREATE FUNCTION nearness(p_caller text, p_to text, p_local text) RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_code text := country_code(p_to);
    v_same integer := length(v_code);
BEGIN
    IF p_local = 'off' OR NOT p_caller ^@ v_code OR country_code(p_caller) <> v_code THEN
        RETURN 0;
    ELSIF p_local = 'country' THEN
        RETURN 1;
    ELSIF v_code = '+1' THEN
        RETURN CASE WHEN left(p_caller, 5) = left(p_to, 5) THEN 2 ELSE 1 END;
    END IF;
    WHILE v_same < length(p_to) AND left(p_caller, v_same + 1) = left(p_to, v_same + 1) LOOP
        v_same := v_same + 1;
    END LOOP;
    RETURN 1 + v_same - length(v_code);
END $$;

-- The number that a job is called from now; null where none of those that it may be called from has room today or at once. The
-- nearest come first; among equals the jobs and their dials take turns. It counts what it gives, so that it must be asked once per
-- attempt, behind the lock of the business, by a statement that inserts the attempt in the same transaction.
CREATE FUNCTION pick_caller(p_business uuid, p_run_callers text[], p_account_callers text[], p_to text, p_local text, p_dials integer)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_callers text[] := callers_of_run(p_run_callers, p_account_callers);
    v_turn    bigint := p_dials::bigint + (hashtext(p_to) & 2147483647);
    v_day     date;
    c         record;
BEGIN
    PERFORM 1 FROM caller_id WHERE business_id = p_business LIMIT 1;
    IF NOT FOUND AND p_local = 'off' THEN
        RETURN caller_in_turn(v_callers, p_to, p_dials);
    END IF;
    SELECT (clock_timestamp() AT TIME ZONE known_zone(time_zone))::date INTO v_day FROM business WHERE business_id = p_business;
    FOR c IN
        WITH able AS (
            SELECT n.number, n.i, s.number IS NOT NULL AS has_row, s.max_at_once, nearness(n.number, p_to, p_local) AS near,
                   s.max_per_day IS NULL OR s.day IS DISTINCT FROM v_day OR s.dials < s.max_per_day AS has_day,
                   CASE WHEN s.claim = pg_current_xact_id_if_assigned() THEN s.claimed ELSE 0 END AS claimed
            FROM unnest(v_callers) WITH ORDINALITY AS n (number, i)
                LEFT JOIN caller_id s ON s.business_id = p_business AND s.number = n.number
            WHERE s.enabled IS NOT FALSE
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY near ORDER BY i) - 1 AS place, count(*) OVER (PARTITION BY near) AS equals FROM able
        )
        SELECT * FROM ranked WHERE has_day ORDER BY near DESC, (place - v_turn % equals + equals) % equals
    LOOP
        -- Attempts that this very transaction made are counted by what it took, whether they are written already or not. A single call
        -- that has an owner was made by an earlier one, even where this one gave it the owner.
        CONTINUE WHEN c.max_at_once IS NOT NULL AND c.max_at_once <= c.claimed + (SELECT count(*) FROM attempt a
            WHERE a.business_id = p_business AND a.open AND a.from_number = c.number
                AND (a.xmin IS DISTINCT FROM pg_current_xact_id()::xid OR (a.dial_by IS NOT NULL AND a.owner IS NOT NULL)));
        IF c.has_row THEN
            UPDATE caller_id s SET dials = CASE WHEN s.day = v_day THEN s.dials ELSE 0 END + 1, day = v_day,
                claimed = CASE WHEN s.claim = pg_current_xact_id() THEN s.claimed ELSE 0 END + 1, claim = pg_current_xact_id()
            WHERE s.business_id = p_business AND s.number = c.number;
        END IF;
        RETURN c.number;
    END LOOP;
    RETURN NULL;
END $$;
