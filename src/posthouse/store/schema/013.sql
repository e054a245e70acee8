-- Step 13: reports about authentication and TLS: what is counted for those we send, which went out, what came in.

CREATE TABLE report_period (
    kind TEXT NOT NULL,                     -- 'dmarc' or 'tls'
    day INTEGER NOT NULL,                   -- days since 1970, UTC
    domain TEXT NOT NULL,                   -- about which is reported, and which says whom to
    policy TEXT NOT NULL,                   -- JSON: what it published, as it was found last
    lines INTEGER NOT NULL,                -- of report_count
    lost {BIG} NOT NULL,                    -- messages or sessions that found no room there
    due {BIG} NOT NULL,                     -- when to send; after the end of the day, not for all domains at one time
    attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, day, domain)
) {CLUSTERED};
CREATE INDEX report_period_due ON report_period (due);

CREATE TABLE report_count (
    kind TEXT NOT NULL,
    day INTEGER NOT NULL,
    domain TEXT NOT NULL,
    digest {BYTES} NOT NULL,                -- of the facts
    facts TEXT NOT NULL,                    -- JSON: what is equal in all that are counted here
    counted {BIG} NOT NULL,
    PRIMARY KEY (kind, day, domain, digest)
) {CLUSTERED};

CREATE TABLE report_sent (
    id {ID},
    kind TEXT NOT NULL,
    domain TEXT NOT NULL,
    day INTEGER NOT NULL,
    report_id TEXT NOT NULL,                -- as it stands in the report
    target TEXT NOT NULL,                   -- mailto: or https:, without its limit of size; '' if nobody wanted it
    at {BIG} NOT NULL,
    octets {BIG} NOT NULL,
    counted {BIG} NOT NULL,                 -- messages or sessions it tells of
    trace {BIG} NOT NULL,                   -- of the message it went in; 0: none
    outcome TEXT NOT NULL,                  -- 'sent', 'failed', 'skipped'
    note TEXT NOT NULL                      -- why, if it was not sent
);
CREATE INDEX report_sent_by_time ON report_sent (at);

CREATE TABLE report (
    id {ID},
    kind TEXT NOT NULL,                     -- 'dmarc', 'tls', 'failure'
    domain TEXT NOT NULL,                   -- of ours
    organization TEXT NOT NULL,             -- who reports, in its own words
    report_id TEXT NOT NULL,
    reporter TEXT NOT NULL,                 -- the domain that is proved to have sent it; '': it is not verified
    begins {BIG} NOT NULL,
    ends {BIG} NOT NULL,
    received {BIG} NOT NULL,
    trace {BIG} NOT NULL,                   -- of the message it came in
    counted {BIG} NOT NULL,                 -- messages or sessions
    failed {BIG} NOT NULL,                  -- of them
    facts TEXT NOT NULL                     -- JSON: the rest of it
);
CREATE UNIQUE INDEX report_once ON report (kind, domain, organization, report_id);
CREATE INDEX report_by_end ON report (kind, ends);
CREATE INDEX report_by_arrival ON report (received);

CREATE TABLE dmarc_row (
    report INTEGER NOT NULL,
    number INTEGER NOT NULL,
    source TEXT NOT NULL,                   -- an IP address
    header_from TEXT NOT NULL,
    dkim INTEGER NOT NULL,                  -- an aligned signature passed
    spf INTEGER NOT NULL,                   -- SPF passed for an aligned domain
    disposition TEXT NOT NULL,
    messages {BIG} NOT NULL,
    facts TEXT NOT NULL,                    -- JSON: envelope domains, results of SPF and DKIM, reasons
    PRIMARY KEY (report, number)
) {CLUSTERED};

CREATE TABLE tls_row (
    report INTEGER NOT NULL,
    number INTEGER NOT NULL,
    policy TEXT NOT NULL,                   -- 'sts', 'tlsa', 'no-policy-found'
    result TEXT NOT NULL,                   -- what failed; '': the sessions went well
    source TEXT NOT NULL,                   -- the address that sent
    host TEXT NOT NULL,                     -- the server of ours
    sessions {BIG} NOT NULL,
    facts TEXT NOT NULL,                    -- JSON: addresses, reasons
    PRIMARY KEY (report, number)
) {CLUSTERED};

-- How far messages at addresses for reports were looked at; before this step only those of complaints were.
CREATE TABLE looked_at (
    purpose TEXT NOT NULL,                  -- 'complaints', 'reports'
    account_id {BIG} NOT NULL,              -- who gets mail for such an address
    modseq {BIG} NOT NULL,                  -- messages up to here were looked at
    PRIMARY KEY (purpose, account_id)
);
INSERT INTO looked_at (purpose, account_id, modseq) SELECT 'complaints', account_id, modseq FROM feedback;
DROP TABLE feedback;
