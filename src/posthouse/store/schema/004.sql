-- Step 4: senders are told once that a message is late; addresses that are not sent to any more.

ALTER TABLE queue ADD COLUMN warned {BIG} NOT NULL DEFAULT 0;  -- when its sender was told of the delay; 0: not yet

CREATE TABLE suppression (
    account_id {BIG} NOT NULL,              -- who does not send there; 0: nobody of this server
    address TEXT NOT NULL,                  -- in lower case
    reason TEXT NOT NULL,                   -- a word of queue/patterns.toml, or an operator's
    reply TEXT NOT NULL,                    -- what the other server said
    since {BIG} NOT NULL,
    until {BIG} NOT NULL,                   -- 0: for good
    PRIMARY KEY (account_id, address)
) {CLUSTERED};
CREATE INDEX suppression_by_until ON suppression (until);
CREATE INDEX suppression_by_address ON suppression (address);
