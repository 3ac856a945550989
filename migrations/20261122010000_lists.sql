-- Lists: how far one has come while it goes in, the same upload twice, and numbers that were called lately.

ALTER TABLE run ADD COLUMN skip_called_within_days smallint CHECK (skip_called_within_days BETWEEN 1 AND 365);
COMMENT ON COLUMN run.skip_called_within_days IS 'Rows whose number the business dialed within so many days before the upload or the copy count as duplicates; one that was dialed since is not dialed by this run. Null: they are.';
ALTER TABLE run ADD COLUMN again_of uuid[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN run.again_of IS 'The runs whose unreached it dials again: skip_called_within_days does not mind their calls.';

ALTER TABLE lead_import ADD COLUMN body_hash bytea;
COMMENT ON COLUMN lead_import.body_hash IS 'Of an upload with an Idempotency-Key: what it was, so that the key brings back its counts and no other upload''s.';

-- In the order of the list, and one of a run that has thousands, because its leads come one by one.
CREATE INDEX lead_import_list ON lead_import (run_id, import_id);
DROP INDEX IF EXISTS lead_import_run;

-- An upload is one transaction, so nobody sees its counts before its end. These are told meanwhile, on another connection: of the
-- list that goes into the run now, or of the last one that broke off. Whether it still goes in is said by an advisory lock of the
-- import's id, which ends with the transaction whatever happened to the process.
CREATE TABLE lead_import_progress (
    run_id      uuid PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    business_id uuid NOT NULL,
    import_id   uuid NOT NULL,
    rows        bigint NOT NULL,
    accepted    bigint NOT NULL,
    duplicates  bigint NOT NULL,
    suppressed  bigint NOT NULL,
    rejected    bigint NOT NULL,
    begun_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON lead_import_progress TO rollcall_tenant;
ALTER TABLE lead_import_progress ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON lead_import_progress TO rollcall_tenant USING (business_id = (SELECT bound_business()));

