-- Step 8: how much accounts and networks have sent lately, where it is a good part of what they may (filter/limits.py).

CREATE TABLE sending (
    kind TEXT NOT NULL,                     -- 'account' or 'network'
    sender TEXT NOT NULL,                   -- an account's id; an IPv4 address or an IPv6 /64
    counts TEXT NOT NULL,                   -- JSON: the buckets of the hour and of the day, [bucket, messages, recipients]
    updated {BIG} NOT NULL,                 -- seconds since 1970
    PRIMARY KEY (kind, sender)
);
CREATE INDEX sending_by_time ON sending (updated);
