-- What people read stays fast beside dialing, however long the list.

-- Lists by a final state. A job enters once, at its end, and never moves: nothing here is ever dead.
CREATE INDEX job_final ON job (run_id, state, job_id) WHERE finished_at IS NOT NULL AND run_id IS NOT NULL;

-- In the order of the list too: a name may be that of every lead of a campaign.
DROP INDEX job_external;
CREATE INDEX job_external ON job (business_id, external_id, job_id) WHERE external_id IS NOT NULL;

-- A claim also asks for a number at an account, which says nothing of the business: by this index that would be all of it, for
-- each number.
DROP INDEX attempt_open_number;
CREATE UNIQUE INDEX attempt_open_number ON attempt (business_id, to_number)
    WHERE open AND business_id IS NOT NULL AND to_number IS NOT NULL;

-- Numbers that were suppressed since a run was made: those before were never queued.
CREATE INDEX suppression_newest ON suppression (business_id, created_at);
