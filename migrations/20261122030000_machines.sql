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

-- The end of a call that a machine answered is a machine's, whatever word the carrier ended it with.
CREATE FUNCTION attempt_met_machine() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.disposition := CASE
        WHEN NEW.answered_by = 'fax' THEN 'fax'
        WHEN EXISTS (SELECT 1 FROM detection WHERE attempt_id = NEW.attempt_id AND left_at IS NOT NULL) THEN 'voicemail_left'
        ELSE 'machine' END;
    RETURN NEW;
END $$;
CREATE TRIGGER attempt_met_machine BEFORE UPDATE OF disposition ON attempt FOR EACH ROW
    WHEN (OLD.open AND NEW.disposition IN ('answered', 'machine', 'fax') AND NEW.answered_by IN ('machine', 'fax'))
    EXECUTE FUNCTION attempt_met_machine();

-- Calls that were recorded and whose carrier has not told of the recording: it is asked for it. Only rows that ask for one.
CREATE INDEX attempt_unrecorded ON attempt (ended_at)
    WHERE record AND recording_url IS NULL AND answered_at IS NOT NULL AND ended_at IS NOT NULL;
