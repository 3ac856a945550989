-- People ring a number of ours and there is no room: another number may take the call.

ALTER TABLE answering ADD COLUMN redirect text;
COMMENT ON COLUMN answering.redirect IS 'Where the call is put through to where no slot, line or session is free, after the fallback. E.164, none of the business''s own.';
