-- The second guard behind `WHERE business_id`: what a business's key asks for runs as rollcall_tenant, and row level security
-- shows that role nothing but the rows of the business that the connection is bound to (rollcall.business). An unbound connection
-- sees nothing. The programs' own role owns the tables and is not held up by any of this: claims, events and sweeps are as before.

DO $$
DECLARE
    v_role text := current_setting('role');
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'rollcall_tenant') THEN
        BEGIN
            CREATE ROLE rollcall_tenant NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            -- Another database of this server was faster.
        END;
    END IF;
    BEGIN
        -- Tried, not asked: since Postgres 16 whoever made a role is a member of it and may still not act as it.
        PERFORM set_config('role', 'rollcall_tenant', true), set_config('role', v_role, true);
    EXCEPTION WHEN insufficient_privilege THEN
        EXECUTE format('GRANT rollcall_tenant TO %I', session_user);
    END;
    IF NOT has_schema_privilege('rollcall_tenant', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO rollcall_tenant', current_schema());
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'user % may not make the role rollcall_tenant, or act as it', session_user USING ERRCODE = 'insufficient_privilege',
        HINT = format('Let an administrator run once: CREATE ROLE rollcall_tenant NOLOGIN; GRANT rollcall_tenant TO %I;', session_user);
END $$;

-- No secret and no key: these are read as the programs' own role only.
GRANT SELECT ON installation, business, tally TO rollcall_tenant;
-- As much as a lock of the row needs, and what its own manager may change.
GRANT UPDATE (updated_at, calling_window, window_version, cap_per_day, cap_per_24h, cap_lifetime) ON business TO rollcall_tenant;
GRANT SELECT (business_id, carrier, reference, caller_ids, calls_per_second, health, health_detail, hold_until, held_at, unreadable_since, unreadable_refused)
    ON carrier_account TO rollcall_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON suppression, calendar, run, run_zone, lead_import, rejected_lead, job, tally_shard TO rollcall_tenant;
GRANT SELECT, UPDATE ON attempt TO rollcall_tenant;
GRANT SELECT ON recording TO rollcall_tenant;
GRANT SELECT, INSERT ON decision TO rollcall_tenant;

-- The business that this connection is bound to; null where it is bound to none.
CREATE FUNCTION bound_business() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('rollcall.business', true), '')::uuid
$$;

ALTER TABLE business ENABLE ROW LEVEL SECURITY;
ALTER TABLE carrier_account ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE suppression ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE calendar ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_zone ENABLE ROW LEVEL SECURITY;
ALTER TABLE decision ENABLE ROW LEVEL SECURITY;
ALTER TABLE run ENABLE ROW LEVEL SECURITY;
ALTER TABLE lead_import ENABLE ROW LEVEL SECURITY;
ALTER TABLE rejected_lead ENABLE ROW LEVEL SECURITY;
ALTER TABLE job ENABLE ROW LEVEL SECURITY;
ALTER TABLE tally_shard ENABLE ROW LEVEL SECURITY;
ALTER TABLE attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE recording ENABLE ROW LEVEL SECURITY;
ALTER TABLE stray_call ENABLE ROW LEVEL SECURITY;

-- In a subquery the setting is read once per statement, and the index on business_id still serves.
CREATE POLICY own ON business TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON carrier_account TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON suppression TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON calendar TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON decision TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON run TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON lead_import TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON job TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON attempt TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON recording TO rollcall_tenant USING (business_id = (SELECT bound_business()));
-- What belongs to a run is its business's: the policy of run decides.
CREATE POLICY own ON rejected_lead TO rollcall_tenant USING (EXISTS (SELECT 1 FROM run WHERE run.run_id = rejected_lead.run_id));
CREATE POLICY own ON run_zone TO rollcall_tenant USING (EXISTS (SELECT 1 FROM run WHERE run.run_id = run_zone.run_id));
CREATE POLICY own ON tally_shard TO rollcall_tenant USING (EXISTS (SELECT 1 FROM run WHERE run.run_id = tally_shard.run_id));

-- A view reads as its owner, who is not held up. Postgres 14 knows no other way: there, tallies have one guard only.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW tally SET (security_invoker = true);
    END IF;
END $$;

-- How many lines the installation has in use: a figure, for businesses that wait for one.
CREATE FUNCTION lines_in_use() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT count(*) FROM attempt WHERE open AND line IS NOT NULL
$$;
