-- Step 2: what a sender asks of a message besides its delivery (DSN, REQUIRETLS, DELIVERBY ...), credentials with
-- bounds, the record of logins, and who may send in whose name.

ALTER TABLE queue ADD COLUMN options TEXT NOT NULL DEFAULT '';      -- JSON: parameters of MAIL (store/envelope.py)
ALTER TABLE recipient ADD COLUMN options TEXT NOT NULL DEFAULT '';  -- JSON: parameters of RCPT

-- Kinds of credential: 'password' (argon2id), 'app' and 'token' (random, so a fast hash will do), 'certificate' (a
-- fingerprint), 'totp' and 'cram' (secrets that must be readable).
ALTER TABLE credential ADD COLUMN scopes TEXT NOT NULL DEFAULT '';    -- services, parted by blanks; '': all
ALTER TABLE credential ADD COLUMN networks TEXT NOT NULL DEFAULT '';  -- parted by blanks; '': from anywhere
ALTER TABLE credential ADD COLUMN expires {BIG} NOT NULL DEFAULT 0;   -- 0: never
ALTER TABLE credential ADD COLUMN scram TEXT NOT NULL DEFAULT '';     -- keys of RFC 5803, parted by blanks
ALTER TABLE credential ADD COLUMN used {BIG} NOT NULL DEFAULT 0;      -- last login with it
ALTER TABLE credential ADD COLUMN used_ip TEXT NOT NULL DEFAULT '';
CREATE INDEX credential_by_secret ON credential (kind, secret);

CREATE TABLE login_attempt (
    id {BIG} PRIMARY KEY,                   -- an id of base/ids.py: time and order
    account_id {BIG} NOT NULL,
    at {BIG} NOT NULL,
    service TEXT NOT NULL,
    mechanism TEXT NOT NULL,
    ip TEXT NOT NULL,
    result TEXT NOT NULL,                   -- 'accepted', or why not
    credential TEXT NOT NULL                -- label of the app password, if it was one
);
CREATE INDEX login_attempt_by_account ON login_attempt (account_id, id);

CREATE TABLE secret (
    name TEXT PRIMARY KEY,                  -- what it is for
    value {BYTES} NOT NULL                  -- random, made once
);

CREATE TABLE send_as (
    account_id {BIG} NOT NULL REFERENCES account(id),
    address TEXT NOT NULL,                  -- canonical; "@example.org" is every address of the domain, "*" any
    PRIMARY KEY (account_id, address)
) {CLUSTERED};

CREATE TABLE greylist (
    triplet {BYTES} PRIMARY KEY,            -- hash of network, sender, recipient
    first_seen {BIG} NOT NULL,
    passed {BIG} NOT NULL DEFAULT 0,        -- when it first came back in time; 0: not yet
    last_seen {BIG} NOT NULL
);
CREATE INDEX greylist_by_age ON greylist (last_seen);
