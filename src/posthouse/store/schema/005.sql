-- Step 5: MTA-STS policies of other domains (RFC 8461).

CREATE TABLE sts_policy (
    domain TEXT PRIMARY KEY,                -- lower case A-labels
    id TEXT NOT NULL,                       -- of the TXT record it was fetched for
    mode TEXT NOT NULL,                     -- 'enforce', 'testing' or 'none'
    mx TEXT NOT NULL,                       -- patterns, parted by blanks
    max_age {BIG} NOT NULL,                 -- seconds
    fetched {BIG} NOT NULL,
    expires {BIG} NOT NULL,
    used {BIG} NOT NULL                     -- mail was last sent there, to within some days
);
CREATE INDEX sts_policy_by_end ON sts_policy (expires);
