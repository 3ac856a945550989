-- The dial ledger only grows: no attempt is removed, and no transition of one is changed or taken back.

CREATE OR REPLACE FUNCTION attempt_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT OLD.open AND (NEW.state, NEW.disposition, NEW.ended_at, NEW.carrier_call_id, NEW.slot, NEW.line)
           IS DISTINCT FROM (OLD.state, OLD.disposition, OLD.ended_at, OLD.carrier_call_id, OLD.slot, OLD.line) THEN
        RAISE EXCEPTION 'attempt % is final and never changes', OLD.attempt_id USING ERRCODE = 'RC001';
    END IF;
    NEW.rank := attempt_rank(NEW.state);
    NEW.open := NEW.rank < 9;
    IF NEW.open <> (NEW.ended_at IS NULL)
       OR (NEW.carrier_call_id IS NOT NULL AND (NEW.rank < 2 OR (NEW.rank = 9 AND NEW.state <> 'ended'))) THEN
        RAISE EXCEPTION 'attempt % would be % with ended_at % and call id %', OLD.attempt_id, NEW.state, NEW.ended_at,
            NEW.carrier_call_id USING ERRCODE = 'check_violation';
    END IF;
    -- As it was, or with one more behind.
    IF NEW.events <> OLD.events AND NEW.events - -1 <> OLD.events THEN
        RAISE EXCEPTION 'the transitions of attempt % are only ever added to', OLD.attempt_id USING ERRCODE = 'RC002';
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER attempt_guard ON attempt;
CREATE TRIGGER attempt_guard BEFORE UPDATE OF state, rank, open, disposition, ended_at, carrier_call_id, slot, line, events ON attempt
    FOR EACH ROW EXECUTE FUNCTION attempt_guard();

CREATE FUNCTION attempt_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'attempts are kept: the dial ledger only grows' USING ERRCODE = 'RC002';
END $$;
CREATE TRIGGER attempt_is_kept BEFORE DELETE OR TRUNCATE ON attempt FOR EACH STATEMENT EXECUTE FUNCTION attempt_is_kept();
