-- What people read stays fast beside dialing, however long the list.

-- Lists by a final state. A job enters once, at its end, and never moves: nothing here is ever dead.
CREATE INDEX job_final ON job (run_id, state, job_id) WHERE finished_at IS NOT NULL;

-- In the order of the list too: a name may be that of every lead of a campaign.
DROP INDEX job_external;
CREATE INDEX job_external ON job (business_id, external_id, job_id) WHERE external_id IS NOT NULL;

-- What is asked of open attempts without a number or a job must never go by these three: each holds a dead entry of every
-- attempt since the last vacuum, while those by slot and line are cleaned by the next attempt on the same place. A plan that
-- was made while the table was empty, and is kept, chose any of them. A predicate that "open" alone does not prove rules them
-- out, and leaves to a lookup by number the one index that begins with what else it asks for.
DROP INDEX attempt_open_job;
DROP INDEX attempt_open_number_at_account;
DROP INDEX attempt_open_number;
CREATE UNIQUE INDEX attempt_open_job ON attempt (job_id) WHERE open AND job_id IS NOT NULL;
CREATE UNIQUE INDEX attempt_open_number_at_account ON attempt (account, to_number, from_number)
    WHERE open AND to_number IS NOT NULL AND account IS NOT NULL;
CREATE UNIQUE INDEX attempt_open_number ON attempt (business_id, to_number)
    WHERE open AND to_number IS NOT NULL AND business_id IS NOT NULL;

-- Numbers that were suppressed since a run was made: those before were never queued.
CREATE INDEX suppression_newest ON suppression (business_id, created_at);
