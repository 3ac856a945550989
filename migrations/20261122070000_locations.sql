-- An answer that is told again says again where the thing is that it made.

ALTER TABLE idempotency ADD COLUMN location text;
COMMENT ON COLUMN idempotency.location IS 'The Location header of the answer; null where it had none.';
