-- What a second carrier needs: the key that signs its webhooks, keys that are being replaced, and speech by command.

ALTER TABLE carrier_account
    ADD COLUMN public_key         text,
    ADD COLUMN former_secret      bytea,
    ADD COLUMN former_sealing_key text,
    ADD COLUMN former_public_key  text,
    ADD COLUMN former_until       timestamptz,
    ADD CONSTRAINT carrier_account_public_key CHECK (carrier <> 'telnyx' OR public_key IS NOT NULL);
COMMENT ON COLUMN carrier_account.public_key IS 'What signs the webhooks, where the secret does not: base64 of an Ed25519 key.';
COMMENT ON COLUMN carrier_account.former_secret IS 'The secret before the last change: what it signed counts until former_until.';

ALTER TABLE attempt
    ADD COLUMN said_at        timestamptz,
    ADD COLUMN speech_over_at timestamptz;
COMMENT ON COLUMN attempt.said_at IS 'When the carrier took the command to speak; only where it is told, not where it asks.';
COMMENT ON COLUMN attempt.speech_over_at IS 'When all was said: a call that is open after it is hung up.';
