-- Voice agents, and what was said in a call.
-- A version of an agent is never changed: a run and a call name the one that they began with.

CREATE TABLE agent (
    agent_id    uuid PRIMARY KEY,
    business_id uuid NOT NULL REFERENCES business,
    version     integer NOT NULL DEFAULT 1 CHECK (version >= 1),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
CREATE INDEX agent_business ON agent (business_id, agent_id) WHERE deleted_at IS NULL;

CREATE TABLE agent_version (
    agent_id    uuid NOT NULL REFERENCES agent,
    business_id uuid NOT NULL,
    version     integer NOT NULL,
    definition  jsonb NOT NULL,
    pipeline    text NOT NULL GENERATED ALWAYS AS (coalesce(definition ->> 'pipeline', 'cascade')) STORED,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, version)
);
COMMENT ON COLUMN agent_version.pipeline IS 'By which accounts at voice providers it talks: a dial needs room at each of them.';
CREATE FUNCTION agent_version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'version % of agent % never changes', OLD.version, OLD.agent_id USING ERRCODE = 'RC001';
END $$;
CREATE TRIGGER agent_version_guard BEFORE UPDATE ON agent_version FOR EACH ROW EXECUTE FUNCTION agent_version_guard();

ALTER TABLE run ADD COLUMN agent_version integer;
COMMENT ON COLUMN run.agent_version IS 'The version of the agent that the run started with; null before the start, and without an agent.';

-- A call without a run that talks to an agent: a single call, or one that came in.
CREATE TABLE attempt_agent (
    attempt_id    uuid PRIMARY KEY,
    agent_id      uuid NOT NULL,
    agent_version integer NOT NULL
);

-- What was said in a call, written when its session ends, and again where it went on elsewhere.
CREATE TABLE conversation (
    attempt_id    uuid PRIMARY KEY,
    business_id   uuid NOT NULL,
    agent_id      uuid NOT NULL,
    agent_version integer NOT NULL,
    end_reason    text NOT NULL,
    transcript    jsonb NOT NULL,
    outcome       jsonb,
    turns         jsonb NOT NULL,
    usage         jsonb NOT NULL,
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN conversation.turns IS 'Per turn of the agent: what its beginning was made of, in milliseconds, and whether the caller broke in.';

-- A business's own account at a voice provider; without one the installation's is used.
CREATE TABLE voice_account (
    business_id       uuid NOT NULL REFERENCES business,
    provider          text NOT NULL CHECK (provider IN ('deepgram', 'openai', 'elevenlabs')),
    base_url          text,
    most_at_once      integer NOT NULL CHECK (most_at_once BETWEEN 1 AND 100000),
    secret            bytea NOT NULL,
    sealing_key       text NOT NULL,
    secret_updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (business_id, provider)
);

-- The second guard. A secret, and who talks in a single call, are read as the programs' own role only.
ALTER TABLE agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE attempt_agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversation ENABLE ROW LEVEL SECURITY;
ALTER TABLE voice_account ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE ON agent TO rollcall_tenant;
GRANT SELECT, INSERT ON agent_version TO rollcall_tenant;
GRANT SELECT ON conversation TO rollcall_tenant;
CREATE POLICY own ON agent TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON agent_version TO rollcall_tenant USING (business_id = (SELECT bound_business()));
CREATE POLICY own ON conversation TO rollcall_tenant USING (business_id = (SELECT bound_business()));
