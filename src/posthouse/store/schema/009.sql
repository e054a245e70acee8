-- Step 9: what an account holds, and how much it may.

-- size, messages: the sum over its mailboxes, changed by the statements that count modseq.
ALTER TABLE account ADD COLUMN size {BIG} NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
UPDATE account SET
    size = (SELECT coalesce(sum(m.size), 0) FROM mailbox m WHERE m.account_id = account.id),
    messages = (SELECT coalesce(sum(m.messages), 0) FROM mailbox m WHERE m.account_id = account.id);
-- Its quota: octets and messages; 0: none, -1: what the settings say.
ALTER TABLE account ADD COLUMN quota_storage {BIG} NOT NULL DEFAULT -1;
ALTER TABLE account ADD COLUMN quota_messages {BIG} NOT NULL DEFAULT -1;
