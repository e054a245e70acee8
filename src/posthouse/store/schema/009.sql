-- Step 9: what an account holds, and how much it may; annotations of mailboxes; who else may use them.

-- size, messages: the sum over its mailboxes, changed by the statements that count modseq.
ALTER TABLE account ADD COLUMN size {BIG} NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
UPDATE account SET
    size = (SELECT coalesce(sum(m.size), 0) FROM mailbox m WHERE m.account_id = account.id),
    messages = (SELECT coalesce(sum(m.messages), 0) FROM mailbox m WHERE m.account_id = account.id);
-- Its quota: octets and messages; 0: none, -1: what the settings say.
ALTER TABLE account ADD COLUMN quota_storage {BIG} NOT NULL DEFAULT -1;
ALTER TABLE account ADD COLUMN quota_messages {BIG} NOT NULL DEFAULT -1;

CREATE TABLE annotation (
    mailbox_id {BIG} NOT NULL,              -- 0: of the server
    account_id {BIG} NOT NULL,              -- whose private one it is; 0: shared
    owner_id {BIG} NOT NULL,                -- whose bounds it counts in: who sees it alone, or the mailbox's owner
    entry TEXT NOT NULL,                    -- its name, in lower case
    value {BYTES} NOT NULL,
    PRIMARY KEY (mailbox_id, account_id, entry)
) {CLUSTERED};
CREATE INDEX annotation_by_owner ON annotation (owner_id);

CREATE TABLE acl (
    mailbox_id {BIG} NOT NULL,
    account_id {BIG} NOT NULL,              -- who may do something there; 0: everybody
    rights TEXT NOT NULL,                   -- letters of RFC 4314, in the order of store/acl.py
    PRIMARY KEY (mailbox_id, account_id)
) {CLUSTERED};
CREATE INDEX acl_by_account ON acl (account_id);
