-- Step 1: the whole model of the first release. {ID}, {BIG}, {BYTES} and {CLUSTERED} are words of
-- store/dialect.py; times are microseconds since 1970 UTC; booleans are 0 and 1.

CREATE TABLE domain (
    id {ID},
    name TEXT NOT NULL UNIQUE,              -- lower case A-labels
    created {BIG} NOT NULL
);

CREATE TABLE account (
    id {ID},
    name TEXT NOT NULL UNIQUE,              -- the login name: the account's first address
    display_name TEXT NOT NULL DEFAULT '',
    created {BIG} NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    modseq {BIG} NOT NULL DEFAULT 1,        -- the one change counter of all its mailboxes
    uidvalidity {BIG} NOT NULL DEFAULT 0    -- the last one given to a mailbox, never given again
);

CREATE TABLE address (
    id {ID},
    domain_id {BIG} NOT NULL REFERENCES domain(id),
    local_part TEXT NOT NULL,               -- lower case; '' is the catch-all
    account_id {BIG} REFERENCES account(id),
    target TEXT                             -- or another address, here or elsewhere
);
CREATE INDEX address_by_name ON address (domain_id, local_part);
CREATE INDEX address_by_account ON address (account_id);

CREATE TABLE credential (
    id {ID},
    account_id {BIG} NOT NULL REFERENCES account(id),
    kind TEXT NOT NULL,                     -- 'password'
    secret TEXT NOT NULL,                   -- an argon2id hash, never the password
    label TEXT NOT NULL DEFAULT '',
    created {BIG} NOT NULL
);
CREATE INDEX credential_by_account ON credential (account_id, kind);

CREATE TABLE mailbox (
    id {ID},
    account_id {BIG} NOT NULL REFERENCES account(id),
    name TEXT NOT NULL,                     -- full name, levels parted by '/'
    uidvalidity {BIG} NOT NULL,
    uidnext {BIG} NOT NULL DEFAULT 1,
    highestmodseq {BIG} NOT NULL DEFAULT 1,
    special_use TEXT NOT NULL DEFAULT '',
    recent_uid {BIG} NOT NULL DEFAULT 1,    -- UIDs from here on are \Recent for the next SELECT
    messages INTEGER NOT NULL DEFAULT 0,
    unseen INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    size {BIG} NOT NULL DEFAULT 0,
    UNIQUE (account_id, name)
);

CREATE TABLE subscription (
    account_id {BIG} NOT NULL REFERENCES account(id),
    name TEXT NOT NULL,
    PRIMARY KEY (account_id, name)
) {CLUSTERED};

CREATE TABLE blob (
    id {ID},
    hash {BYTES} NOT NULL UNIQUE,           -- SHA-256 of the content, keyed when the store is encrypted
    size {BIG} NOT NULL,                    -- of the content
    stored {BIG} NOT NULL,                  -- of what is kept
    refs INTEGER NOT NULL,                  -- emails and queue rows that need it
    encoding INTEGER NOT NULL,              -- store/blobs: 0 as it is, 1 zstd, 2 a chunked file
    data {BYTES},                           -- the content when small
    file TEXT                               -- the name of its file when large
);
CREATE INDEX blob_unused ON blob (id) WHERE refs = 0;

CREATE TABLE email (
    id {ID},
    account_id {BIG} NOT NULL REFERENCES account(id),
    blob_id {BIG} NOT NULL REFERENCES blob(id),
    trace {BIG} NOT NULL,                   -- the events that brought it here
    prefix {BYTES} NOT NULL,                -- header fields added at delivery; the message is prefix + blob
    size {BIG} NOT NULL,                    -- of prefix + blob
    received {BIG} NOT NULL,                -- INTERNALDATE
    thread_id {BIG} NOT NULL,
    message_id_hash {BIG} NOT NULL,         -- 0: none
    entries INTEGER NOT NULL,               -- mailbox entries that show it
    envelope {BYTES} NOT NULL,              -- as IMAP sends it
    bodystructure {BYTES} NOT NULL,         -- as IMAP sends it
    parts {BYTES} NOT NULL,                 -- offsets of the MIME parts in the blob (mime/sections.py)
    preview TEXT NOT NULL
);
CREATE INDEX email_by_message_id ON email (message_id_hash, account_id);

CREATE TABLE entry (
    mailbox_id {BIG} NOT NULL REFERENCES mailbox(id),
    uid {BIG} NOT NULL,
    email_id {BIG} NOT NULL,
    modseq {BIG} NOT NULL,
    flags INTEGER NOT NULL,                 -- system flags as bits (store/model.py)
    keywords TEXT NOT NULL DEFAULT '',      -- parted by spaces
    savedate {BIG} NOT NULL,
    expunged INTEGER NOT NULL DEFAULT 0,    -- a tombstone keeps its modseq for QRESYNC and JMAP
    PRIMARY KEY (mailbox_id, uid)
) {CLUSTERED};
CREATE INDEX entry_by_email ON entry (email_id);
CREATE INDEX entry_keywords ON entry (mailbox_id, keywords) WHERE keywords <> '' AND expunged = 0;

CREATE TABLE queue (
    id {BIG} PRIMARY KEY,                   -- the trace id of the message
    sender TEXT NOT NULL,                   -- reverse-path; '' for bounces
    account_id {BIG},                       -- who submitted it, if anyone
    blob_id {BIG} NOT NULL REFERENCES blob(id),
    prefix {BYTES} NOT NULL,
    size {BIG} NOT NULL,
    created {BIG} NOT NULL,
    expires {BIG} NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE recipient (
    id {ID},
    queue_id {BIG} NOT NULL REFERENCES queue(id),
    address TEXT NOT NULL,
    destination TEXT NOT NULL,              -- the domain we route by
    state TEXT NOT NULL,                    -- 'due', 'claimed', 'held'; finished ones are gone
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt {BIG} NOT NULL,
    claimed_until {BIG} NOT NULL DEFAULT 0, -- a claim that is older was left by a crash
    claimed_by TEXT NOT NULL DEFAULT '',    -- the node that is trying it
    last_code INTEGER NOT NULL DEFAULT 0,
    last_status TEXT NOT NULL DEFAULT '',
    last_text TEXT NOT NULL DEFAULT '',
    last_host TEXT NOT NULL DEFAULT ''
);
CREATE INDEX recipient_due ON recipient (state, next_attempt, destination);
CREATE INDEX recipient_by_queue ON recipient (queue_id);

CREATE TABLE event (
    trace {BIG} NOT NULL,
    seq {BIG} NOT NULL,                     -- an id of base/ids.py: time and order
    kind TEXT NOT NULL,
    message_id_hash {BIG} NOT NULL DEFAULT 0,
    data TEXT NOT NULL,                     -- JSON
    PRIMARY KEY (trace, seq)
) {CLUSTERED};
CREATE INDEX event_by_message_id ON event (message_id_hash) WHERE message_id_hash <> 0;
