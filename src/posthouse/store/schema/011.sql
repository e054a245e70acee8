-- Step 11: the header fields that programs list mailboxes by, so that a listing reads no message.

ALTER TABLE email ADD COLUMN listed {BYTES};  -- as they stand in the header (mime/listed.py); NULL: not kept, read the message
