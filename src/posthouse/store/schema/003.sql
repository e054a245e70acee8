-- Step 3: the size that POP3 tells.

ALTER TABLE email ADD COLUMN line_ends INTEGER NOT NULL DEFAULT 0;  -- octets more if every line ends with CRLF
