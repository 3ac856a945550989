-- A number is forgotten: on request, or because its time is over. Counts, tallies and the ledger stay as they are; who it was goes.

-- What stands where a number was: +999 is no country's and no service's code (ITU-T E.164, assigned codes), so nobody has such a
-- number and no list can bring one. The digits behind it are random, and the same for all that was erased at once.
CREATE FUNCTION is_erased(p_number text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT p_number LIKE '+999%' $$;

ALTER TABLE business
    ADD COLUMN retain_transcripts_days integer CHECK (retain_transcripts_days BETWEEN 1 AND 3650),
    ADD COLUMN retain_recordings_days  integer CHECK (retain_recordings_days BETWEEN 1 AND 3650),
    ADD COLUMN retain_variables_days   integer CHECK (retain_variables_days BETWEEN 1 AND 3650);
COMMENT ON COLUMN business.retain_transcripts_days IS 'Null: kept. Of transcripts and recordings from the end of the call on, of variables from the end of the run on.';

ALTER TABLE run ADD COLUMN forgotten_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', ADD COLUMN forgotten_at timestamptz;
COMMENT ON COLUMN run.forgotten_to IS 'Up to this job the variables are gone; forgotten_at: when all were.';
CREATE INDEX run_remembered ON run (business_id, ended_at) WHERE ended_at IS NOT NULL AND forgotten_at IS NULL AND business_id IS NOT NULL;

ALTER TABLE recording ADD COLUMN unwanted_since timestamptz, ADD COLUMN next_try_at timestamptz;
COMMENT ON COLUMN recording.unwanted_since IS 'Since when the sound is to be deleted at the carrier; the row goes when that is done.';
CREATE INDEX recording_unwanted ON recording (next_try_at) WHERE unwanted_since IS NOT NULL AND next_try_at IS NOT NULL;
CREATE INDEX recording_age ON recording (business_id, created_at) WHERE unwanted_since IS NULL AND business_id IS NOT NULL;
CREATE INDEX conversation_age ON conversation (business_id, ended_at)
    WHERE (transcript <> '[]' OR outcome IS NOT NULL) AND business_id IS NOT NULL;
CREATE INDEX attempt_single_said ON attempt (business_id, attempt_id)
    WHERE job_id IS NULL AND NOT open AND (variables <> '{}' OR message IS NOT NULL) AND business_id IS NOT NULL;
CREATE INDEX rejected_lead_number ON rejected_lead (value) WHERE value LIKE '+%' AND run_id IS NOT NULL;

GRANT UPDATE ON conversation, recording TO rollcall_tenant;
