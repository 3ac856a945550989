-- Machines that answer: what a call is to do then, and how far it has come with it. There is a row for every call whose carrier
-- listens for who picks up, and for no other.

CREATE TABLE detection (
    attempt_id      uuid PRIMARY KEY,
    business_id     uuid NOT NULL,
    rule            jsonb NOT NULL,
    spoken_at       timestamptz,
    greeting_over_at timestamptz,
    leaving_at      timestamptz,
    left_at         timestamptz,
    decide_by       timestamptz
);
COMMENT ON COLUMN detection.rule IS 'As the call was dialed: {detect, then, message}.';
COMMENT ON COLUMN detection.spoken_at IS 'When all was said that is said to a person; only where it is not known yet who it was.';
COMMENT ON COLUMN detection.leaving_at IS 'When somebody began to leave the message for machines.';
COMMENT ON COLUMN detection.left_at IS 'When the message for machines was said to its end.';
COMMENT ON COLUMN detection.decide_by IS 'When it is decided without the carrier''s word, which may be lost; null where nothing is waited for.';
CREATE INDEX detection_undecided ON detection (decide_by) WHERE decide_by IS NOT NULL;

-- Rows are read and written as the programs' own role only.
ALTER TABLE detection ENABLE ROW LEVEL SECURITY;

-- Calls that were recorded and whose carrier has not told of the recording: it is asked for it. Read from a day
-- ago on, so that what has ended before costs nothing.
CREATE INDEX attempt_unrecorded ON attempt (ended_at)
    WHERE record AND recording_url IS NULL AND disposition NOT IN ('busy', 'no_answer') AND ended_at IS NOT NULL;
