-- Step 12: the keys by which domains of ours sign their mail (DKIM).

CREATE TABLE dkim_key (
    id {ID},
    domain TEXT NOT NULL,                   -- as in the table domain
    selector TEXT NOT NULL,                 -- its name is selector._domainkey.domain; never used twice
    algorithm TEXT NOT NULL,                -- 'rsa-sha256', 'ed25519-sha256'
    private {BYTES} NOT NULL,               -- PKCS #8; empty once the key is not needed any more
    record TEXT NOT NULL,                   -- the TXT record to publish
    state TEXT NOT NULL,                    -- 'announced': to be published; 'used'; 'retiring': may be withdrawn soon
    created {BIG} NOT NULL,
    changed {BIG} NOT NULL,                 -- when it came into its state
    checked {BIG} NOT NULL DEFAULT 0,       -- when the DNS was asked for the record, and answered
    seen {BIG} NOT NULL DEFAULT 0,          -- since when it has it; 0: it has not
    trouble TEXT NOT NULL DEFAULT '',       -- what was wrong when it was asked last; '': nothing
    UNIQUE (domain, selector)
);
