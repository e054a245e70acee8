-- Step 7: calls that are owed to webhooks, and how far reports of complaints were looked at.

CREATE TABLE hook_call (
    id {BIG} PRIMARY KEY,                   -- an id of base/ids.py: time and order; the receiver sees it
    hook TEXT NOT NULL,                     -- the name of the [[webhook]]
    event TEXT NOT NULL,                    -- 'delivered', 'deferred', 'bounced', 'complained'
    trace {BIG} NOT NULL,                   -- of the message it is about
    recipient TEXT NOT NULL,
    body TEXT NOT NULL,                     -- JSON, as it is sent
    state TEXT NOT NULL,                    -- 'due', 'claimed'; 'done' and 'failed' are the history
    created {BIG} NOT NULL,
    expires {BIG} NOT NULL,                 -- it is given up then
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt {BIG} NOT NULL,            -- of a finished one: when it was finished
    claimed_until {BIG} NOT NULL DEFAULT 0, -- a claim that is older was left by a crash
    claimed_by TEXT NOT NULL DEFAULT '',    -- the node that is calling
    last_code INTEGER NOT NULL DEFAULT 0,   -- the HTTP status; 0: there was no answer
    last_text TEXT NOT NULL DEFAULT ''      -- the beginning of the answer, or why there was none
);
CREATE INDEX hook_call_due ON hook_call (hook, next_attempt, id) WHERE state = 'due';
CREATE INDEX hook_call_claimed ON hook_call (claimed_until) WHERE state = 'claimed';
CREATE INDEX hook_call_by_end ON hook_call (next_attempt) WHERE state IN ('done', 'failed');

CREATE TABLE feedback (
    account_id {BIG} PRIMARY KEY,           -- who gets mail for an address of queue.feedback
    modseq {BIG} NOT NULL                   -- messages up to here were looked at
);
