-- People ring a number of ours: who talks to them, and the calls that came in.

CREATE TABLE answering (
    business_id uuid NOT NULL REFERENCES business,
    number      text NOT NULL,
    agent_id    uuid NOT NULL REFERENCES agent,
    fallback    text,
    PRIMARY KEY (business_id, number)
);
COMMENT ON COLUMN answering.fallback IS 'What is said where no slot, line or session is free, before the call ends.';
ALTER TABLE answering ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON answering TO rollcall_tenant;
CREATE POLICY own ON answering TO rollcall_tenant USING (business_id = (SELECT bound_business()));

COMMENT ON COLUMN attempt.to_number IS 'The other side: of a call that came in, whoever rings. So one number has one open call with a business.';
COMMENT ON COLUMN attempt.from_number IS 'Our side: of a call that came in, the number that was rung.';

-- Admits a call that rings here: it is in the ledger from its first moment, with its id at the carrier, if a slot and a line are
-- its own now. admitted | full | in_call (with that number, or this very call) | business.
CREATE FUNCTION admit_inbound(p_business uuid, p_attempt uuid, p_slot integer, p_line integer, p_carrier text, p_account text,
    p_call_id text, p_ours text, p_theirs text, p_variables jsonb, p_call_time_limit_secs integer) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    b business;
BEGIN
    SELECT * INTO b FROM business WHERE business_id = p_business FOR NO KEY UPDATE;
    IF NOT FOUND OR b.state <> 'active' THEN
        RETURN 'business';
    END IF;
    IF (SELECT count(*) FROM attempt WHERE business_id = p_business AND open) >= b.max_concurrent_calls
       OR room_on_lines() < 1 OR p_slot > b.max_concurrent_calls OR p_line > (SELECT max_lines FROM installation) THEN
        RETURN 'full';
    END IF;
    INSERT INTO attempt (attempt_id, business_id, direction, variables, carrier, account, carrier_call_id, from_number, to_number,
                         slot, line, state, rank, owner, sent_at, placed_at, ringing_at, ring_timeout_secs, call_time_limit_secs, events)
    VALUES (p_attempt, p_business, 'inbound', p_variables, p_carrier, p_account, p_call_id, p_ours, p_theirs, p_slot, p_line, 'ringing',
            attempt_rank('ringing'), 'inbound', clock_timestamp(), clock_timestamp(), clock_timestamp(), 30, p_call_time_limit_secs,
            transition('webhook', 'intent', 'ringing'))
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN 'admitted' ELSE 'in_call' END;
END $$;
