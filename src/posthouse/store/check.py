"""Is the store consistent? Runs at the end of every test that touches it, and as `posthouse check`.

The search index is no part of it, as it can be made anew: `store/index/file.py` looks at that (`Index.findings`).

Returns findings as sentences for people; an empty list means that all is well. It reads only.
"""

from typing import NamedTuple

from posthouse.base.errors import Permanent
from posthouse.store import schema
from posthouse.store.database import Tx
from posthouse.store.dialect import SQLITE, Dialect

# Each query returns rows that should not exist; the text is filled with the row.
_RULES = (
    (
        "the key {0} signs for domain {1}, which is gone",
        "SELECT selector, domain FROM dkim_key WHERE domain NOT IN (SELECT name FROM domain)",
    ),
    (
        "mailbox {0}: its messages, unseen, deleted, size are {1}, {2}, {3}, {4}, counted are {5}, {6}, {7}, {8}",
        "SELECT m.id, m.messages, m.unseen, m.deleted, m.size, count(e.uid), "
        "coalesce(sum(e.flags & 1 = 0), 0), coalesce(sum(e.flags & 8 <> 0), 0), coalesce(sum(mail.size), 0) "
        "FROM mailbox m LEFT JOIN entry e ON e.mailbox_id = m.id AND e.expunged = 0 "
        "LEFT JOIN email mail ON mail.id = e.email_id GROUP BY m.id "
        "HAVING m.messages <> count(e.uid) OR m.unseen <> coalesce(sum(e.flags & 1 = 0), 0) "
        "OR m.deleted <> coalesce(sum(e.flags & 8 <> 0), 0) OR m.size <> coalesce(sum(mail.size), 0)",
    ),
    (
        "account {0}: its size and messages are {1}, {2}, its mailboxes hold {3}, {4}",
        "SELECT a.id, a.size, a.messages, coalesce(sum(m.size), 0), coalesce(sum(m.messages), 0) "
        "FROM account a LEFT JOIN mailbox m ON m.account_id = a.id GROUP BY a.id "
        "HAVING a.size <> coalesce(sum(m.size), 0) OR a.messages <> coalesce(sum(m.messages), 0)",
    ),
    (
        "mailbox {0}: UID {1} is not below UIDNEXT {2}",
        "SELECT m.id, max(e.uid), m.uidnext FROM mailbox m JOIN entry e ON e.mailbox_id = m.id "
        "GROUP BY m.id HAVING max(e.uid) >= m.uidnext",
    ),
    (
        "mailbox {0}: a modseq {1} is above the mailbox's {2} or the account's {3}",
        "SELECT m.id, max(e.modseq), m.highestmodseq, a.modseq FROM mailbox m "
        "JOIN entry e ON e.mailbox_id = m.id JOIN account a ON a.id = m.account_id "
        "GROUP BY m.id HAVING max(e.modseq) > m.highestmodseq OR m.highestmodseq > a.modseq",
    ),
    (
        "entry {1} of mailbox {0} shows email {2}, which is gone",
        "SELECT e.mailbox_id, e.uid, e.email_id FROM entry e LEFT JOIN email m ON m.id = e.email_id "
        "WHERE e.expunged = 0 AND m.id IS NULL",
    ),
    (
        "entry {1} belongs to mailbox {0}, which is gone",
        "SELECT e.mailbox_id, e.uid FROM entry e LEFT JOIN mailbox m ON m.id = e.mailbox_id WHERE m.id IS NULL",
    ),
    (
        "email {0} counts {1} entries, there are {2}",
        "SELECT m.id, m.entries, count(e.uid) FROM email m LEFT JOIN entry e "
        "ON e.email_id = m.id AND e.expunged = 0 GROUP BY m.id HAVING m.entries <> count(e.uid) OR m.entries = 0",
    ),
    (
        "the heading of email {0} is left, which is gone",
        "SELECT h.email_id FROM heading h LEFT JOIN email m ON m.id = h.email_id WHERE m.id IS NULL",
    ),
    (
        "email {0} has size {1}, its prefix and blob make {2}",
        "SELECT m.id, m.size, length(m.prefix) + b.size FROM email m JOIN blob b ON b.id = m.blob_id "
        "WHERE m.size <> length(m.prefix) + b.size",
    ),
    (
        "blob {0} counts {1} references, there are {2}",
        "SELECT b.id, b.refs, (SELECT count(*) FROM email WHERE blob_id = b.id) + "
        "(SELECT count(*) FROM queue WHERE blob_id = b.id) AS counted FROM blob b WHERE b.refs <> counted",
    ),
    (
        "{1} {0} needs blob {2}, which is gone",
        "SELECT m.id, 'email', m.blob_id FROM email m LEFT JOIN blob b ON b.id = m.blob_id WHERE b.id IS NULL "
        "UNION ALL SELECT q.id, 'queue', q.blob_id FROM queue q LEFT JOIN blob b ON b.id = q.blob_id "
        "WHERE b.id IS NULL",
    ),
    (
        "queue {0} has no recipients left",
        "SELECT q.id FROM queue q LEFT JOIN recipient r ON r.queue_id = q.id WHERE r.id IS NULL",
    ),
    (
        "recipient {0} belongs to queue {1}, which is gone",
        "SELECT r.id, r.queue_id FROM recipient r LEFT JOIN queue q ON q.id = r.queue_id WHERE q.id IS NULL",
    ),
    (
        "annotation {1!r} is of mailbox {0}, which is gone",
        "SELECT n.mailbox_id, n.entry FROM annotation n LEFT JOIN mailbox m ON m.id = n.mailbox_id "
        "WHERE n.mailbox_id <> 0 AND m.id IS NULL",
    ),
    (
        "annotation {1!r} of mailbox {0} counts for account {2}, which is gone",
        "SELECT n.mailbox_id, n.entry, n.owner_id FROM annotation n LEFT JOIN account a ON a.id = n.owner_id "
        "WHERE n.owner_id <> 0 AND a.id IS NULL",
    ),
    (
        "the list of mailbox {0} grants {2} to account {1}; one of the two is gone",
        "SELECT l.mailbox_id, l.account_id, l.rights FROM acl l LEFT JOIN mailbox m ON m.id = l.mailbox_id "
        "LEFT JOIN account a ON a.id = l.account_id WHERE m.id IS NULL OR (l.account_id <> 0 AND a.id IS NULL)",
    ),
    (
        "address {0} leads to account {1}, which is gone",
        "SELECT d.id, d.account_id FROM address d LEFT JOIN account a ON a.id = d.account_id "
        "WHERE d.account_id IS NOT NULL AND a.id IS NULL",
    ),
)


def findings(tx: Tx, dialect: Dialect = SQLITE, most: int = 100) -> list[str]:
    """What is wrong, at most `most` sentences a rule."""
    found = [str(row[0]) for row in tx.all(dialect.integrity) if row[0] != "ok"]
    for text, sql in _RULES:
        found += [text.format(*row) for row in tx.all(f"{sql} LIMIT {most}")]
    for blob_id, name in tx.all("SELECT id, file FROM blob WHERE file IS NOT NULL"):
        if not tx.files.path(name).is_file():
            found.append(f"blob {blob_id}: its file {name} is missing")
    return found


class Looked(NamedTuple):
    """What was found, and how much there is."""

    findings: list[str]
    messages: int  # copies in mailboxes
    blobs: int


def look(tx: Tx) -> Looked:
    """`findings` of a database that nobody has brought up to date; raises `Permanent` if this program does not know its
    form."""
    done = {number for (number,) in tx.all("SELECT number FROM step")}
    known = {number for number, _ in schema.steps()}
    if done != known:
        which = "a newer Posthouse wrote it; use that one" if done - known else "`posthouse serve` brings it up to date"
        raise Permanent(f"the database has another form than this program knows: {which}")
    messages = tx.one("SELECT count(*) FROM entry WHERE expunged = 0") or (0,)
    blobs = tx.one("SELECT count(*) FROM blob") or (0,)
    return Looked(findings(tx), messages[0], blobs[0])
