-- Step 10: what SORT and THREAD go by. An email from before this step has no row until somebody sorts or threads it.

CREATE TABLE heading (
    email_id {BIG} PRIMARY KEY,
    sent {BIG} NOT NULL,                    -- its Date, else when it was received
    subject {BYTES} NOT NULL,               -- base subject (RFC 5256); this and the next five as imap/headings.py has them
    reply INTEGER NOT NULL,                 -- the subject says that it is a reply or forward
    author {BYTES} NOT NULL,
    recipient {BYTES} NOT NULL,
    copied {BYTES} NOT NULL,
    author_shown {BYTES} NOT NULL,
    recipient_shown {BYTES} NOT NULL,
    ids {BYTES} NOT NULL                    -- hashes of 8 octets: its message id (0: none), what it refers to
);
