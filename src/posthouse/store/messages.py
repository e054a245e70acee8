"""Messages in mailboxes: append, copy, move, flags, expunge; and the bytes of a message.

Every change takes the next value of the account's MODSEQ counter, so CONDSTORE, QRESYNC and JMAP
can ask "what changed since". An expunged entry stays as a tombstone with its modseq; the email and
its blob go when the last entry that shows them is gone.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from posthouse.base.errors import NotFound, Permanent
from posthouse.store import headings
from posthouse.store.blobs import rows as blobs
from posthouse.store.blobs.writer import Content
from posthouse.store.database import Tx
from posthouse.store.model import (
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    SEEN,
    Appended,
    Digest,
    EntriesAdded,
    EntriesExpunged,
    FlagsChanged,
    UsageChanged,
)

MAX_KEYWORDS = 100  # of a message: every session that sees it is told all of them


class NewEmail(NamedTuple):
    """A message on its way in."""

    content: Content
    prefix: bytes  # header fields added at delivery
    digest: Digest
    trace: int
    received: int


_COUNT = (
    "UPDATE mailbox SET uidnext = uidnext + 1, messages = messages + 1, unseen = unseen + ?, "
    "deleted = deleted + ?, size = size + ?, highestmodseq = ? WHERE id = ? RETURNING id, uidnext - 1"
)
_COUNT_INBOX = _COUNT.replace("WHERE id = ?", "WHERE account_id = ? AND name = 'INBOX'")


def append(
    tx: Tx, account_id: int, mailbox_id: int, new: NewEmail, flags: int = 0, keywords: str = "", now: int = 0
) -> Appended:
    """Store a message in a mailbox; `now` (default: its received time) becomes its SAVEDATE."""
    blob_id = blobs.put(tx, new.content)
    return add(tx, account_id, mailbox_id, blob_id, new, flags, keywords, now)


def add(
    tx: Tx,
    account_id: int,
    mailbox_id: int | None,
    blob_id: int,
    new: NewEmail,
    flags: int = 0,
    keywords: str = "",
    now: int = 0,
) -> Appended:
    """`append` of a blob that is stored and counted already. Without a mailbox it goes to the INBOX."""
    digest = new.digest
    size = len(new.prefix) + new.content.size
    modseq = _count(tx, account_id, size, 1)
    row = tx.one(
        _COUNT_INBOX if mailbox_id is None else _COUNT,
        0 if flags & SEEN else 1,
        1 if flags & DELETED else 0,
        size,
        modseq,
        account_id if mailbox_id is None else mailbox_id,
    )
    if row is None:
        raise NotFound(f"mailbox {mailbox_id} of account {account_id}")
    mailbox_id, uid = row
    email_id = tx.insert(
        "INSERT INTO email (account_id, blob_id, trace, prefix, size, received, thread_id, message_id_hash, "
        "entries, envelope, bodystructure, parts, preview, line_ends, listed) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?) RETURNING id",
        account_id,
        blob_id,
        new.trace,
        new.prefix,
        size,
        new.received,
        _thread(tx, account_id, digest) or new.trace,
        digest.message_id_hash,
        digest.envelope,
        digest.bodystructure,
        digest.parts,
        digest.preview,
        digest.line_ends,
        digest.listed,
    )
    headings.add(tx, email_id, digest.heading, new.received)
    tx.run(
        "INSERT INTO entry (mailbox_id, uid, email_id, modseq, flags, keywords, savedate) VALUES (?, ?, ?, ?, ?, ?, ?)",
        mailbox_id,
        uid,
        email_id,
        modseq,
        flags,
        keywords,
        now or new.received,
    )
    tx.publish(EntriesAdded(account_id, mailbox_id, (uid,), modseq))
    return Appended(uid, modseq, email_id)


def _thread(tx: Tx, account_id: int, digest: Digest) -> int | None:
    """The thread of the nearest message this one answers, if we have one of them."""
    for reference in digest.references:
        row = tx.one(
            "SELECT thread_id FROM email WHERE message_id_hash = ? AND account_id = ? LIMIT 1",
            reference,
            account_id,
        )
        if row is not None:
            return int(row[0])
    return None


def next_modseq(tx: Tx, account_id: int) -> int:
    """The next value of the account's change counter."""
    row = tx.one("UPDATE account SET modseq = modseq + 1 WHERE id = ? RETURNING modseq", account_id)
    if row is None:
        raise NotFound(f"account {account_id}")
    return int(row[0])


def _count(tx: Tx, account_id: int, size: int, messages: int) -> int:
    """The next value of the change counter, as the account holds so many octets and messages more."""
    row = tx.one(
        "UPDATE account SET modseq = modseq + 1, size = size + ?, messages = messages + ? WHERE id = ? "
        "RETURNING modseq, size, messages",
        size,
        messages,
        account_id,
    )
    if row is None:
        raise NotFound(f"account {account_id}")
    tx.publish(UsageChanged(account_id, row[1], row[2]))
    return int(row[0])


class Allowed(NamedTuple):
    """Which flags may be set, and whether keywords may."""

    flags: int = SEEN | ANSWERED | FLAGGED | DELETED | DRAFT
    keywords: bool = True


ANY = Allowed()


def copy(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uids: Sequence[int] | None,
    target_id: int,
    now: int = 0,
    *,
    owner_id: int = 0,
    allowed: Allowed = ANY,
) -> list[tuple[int, int]]:
    """Copy messages (None: all) to a mailbox of the account, with the flags that are allowed there; the contents are
    shared. `owner_id` is whose they are, if somebody else's.

    Returns pairs of old and new UID, in the order of the old ones. UIDs that do not exist are passed over.
    """
    rows = _entries(tx, mailbox_id, uids)
    if not rows:
        return []
    if allowed != ANY:
        rows = [
            (uid, email_id, flags & allowed.flags, words if allowed.keywords else "", savedate)
            for uid, email_id, flags, words, savedate in rows
        ]
    taken = owner_id not in (0, account_id)
    if taken:
        rows = [(uid, _clone(tx, email, account_id), flags, words, saved) for uid, email, flags, words, saved in rows]
    sizes = _sizes(tx, [row[1] for row in rows])
    size = sum(sizes[row[1]] for row in rows)
    modseq = _count(tx, account_id, size, len(rows))
    first = tx.one(
        "UPDATE mailbox SET uidnext = uidnext + ?, messages = messages + ?, unseen = unseen + ?, "
        "deleted = deleted + ?, size = size + ?, highestmodseq = ? WHERE id = ? RETURNING uidnext",
        len(rows),
        len(rows),
        sum(1 for row in rows if not row[2] & SEEN),
        sum(1 for row in rows if row[2] & DELETED),
        size,
        modseq,
        target_id,
    )
    if first is None:
        raise NotFound(f"mailbox {target_id}")
    uid = first[0] - len(rows)
    tx.many(
        "INSERT INTO entry (mailbox_id, uid, email_id, modseq, flags, keywords, savedate) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (target_id, uid + n, email_id, modseq, flags, keywords, now or savedate)
            for n, (_, email_id, flags, keywords, savedate) in enumerate(rows)
        ],
    )
    if not taken:
        tx.many("UPDATE email SET entries = entries + 1 WHERE id = ?", [(row[1],) for row in rows])
    new = tuple(range(uid, uid + len(rows)))
    tx.publish(EntriesAdded(account_id, target_id, new, modseq))
    return [(row[0], n) for row, n in zip(rows, new, strict=True)]


def _clone(tx: Tx, email_id: int, account_id: int) -> int:
    """The same message for another account. Threads have numbers that no other thread has, so it keeps its own."""
    tx.run("UPDATE blob SET refs = refs + 1 WHERE id = (SELECT blob_id FROM email WHERE id = ?)", email_id)
    made = tx.insert(
        "INSERT INTO email (account_id, blob_id, trace, prefix, size, received, thread_id, message_id_hash, "
        "entries, envelope, bodystructure, parts, preview, line_ends, listed) "
        "SELECT ?, blob_id, trace, prefix, size, received, thread_id, message_id_hash, "
        "1, envelope, bodystructure, parts, preview, line_ends, listed FROM email WHERE id = ? RETURNING id",
        account_id,
        email_id,
    )
    headings.copy(tx, made, email_id)
    return made


def move(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uids: Sequence[int] | None,
    target_id: int,
    now: int = 0,
    *,
    owner_id: int = 0,
    allowed: Allowed = ANY,
) -> list[tuple[int, int]]:
    """Move messages (None: all) to a mailbox of the account (RFC 6851); arguments and result as those of `copy`."""
    pairs = copy(tx, account_id, mailbox_id, uids, target_id, now, owner_id=owner_id, allowed=allowed)
    if pairs:
        _bury(tx, owner_id or account_id, mailbox_id, [old for old, _ in pairs])
    return pairs


def store_flags(
    tx: Tx,
    account_id: int,
    mailbox_id: int,
    uids: Sequence[int],
    mode: str,
    flags: int,
    keywords: Sequence[str] = (),
    unchanged_since: int | None = None,
    allowed: Allowed = ANY,
) -> list[tuple[int, int, int, str]]:
    """Change flags: `mode` is "set", "add" or "remove". Returns (uid, modseq, flags, keywords) of every
    message named that exists; the modseq moves only where something changed.

    Messages that changed after `unchanged_since` are left alone; their modseq is returned as a negative number. Flags
    that are not `allowed` stay as they are.
    """
    named = {word.lower(): word for word in keywords} if allowed.keywords else {}
    flags &= allowed.flags
    result: list[tuple[int, int, int, str]] = []
    changed: list[tuple[int, int, int, str]] = []
    rows = _entries(tx, mailbox_id, uids, "modseq")
    unseen = deleted = modseq = 0
    for uid, old_modseq, old_flags, old_words, _ in rows:
        if unchanged_since is not None and old_modseq > unchanged_since:
            result.append((uid, -old_modseq, old_flags, old_words))
            continue
        if mode == "add":
            new_flags = old_flags | flags
        elif mode == "remove":
            new_flags = old_flags & ~flags
        else:
            new_flags = flags | (old_flags & ~allowed.flags)
        replaced = mode == "set" and old_words and allowed.keywords
        new_words = _keywords(old_words, mode, named) if named or replaced else old_words
        if new_flags == old_flags and new_words == old_words:
            result.append((uid, old_modseq, old_flags, old_words))
            continue
        modseq = modseq or next_modseq(tx, account_id)
        unseen += (not new_flags & SEEN) - (not old_flags & SEEN)
        deleted += bool(new_flags & DELETED) - bool(old_flags & DELETED)
        changed.append((uid, modseq, new_flags, new_words))
        result.append(changed[-1])
    if changed:
        tx.many(
            "UPDATE entry SET modseq = ?, flags = ?, keywords = ? WHERE mailbox_id = ? AND uid = ?",
            [(modseq, f, words, mailbox_id, uid) for uid, _, f, words in changed],
        )
        tx.run(
            "UPDATE mailbox SET unseen = unseen + ?, deleted = deleted + ?, highestmodseq = ? WHERE id = ?",
            unseen,
            deleted,
            modseq,
            mailbox_id,
        )
        tx.publish(FlagsChanged(account_id, mailbox_id, tuple(changed), modseq))
    return result


def _keywords(old: str, mode: str, named: dict[str, str]) -> str:
    """Keywords are compared without case and kept as first written (RFC 9051 section 2.3.2)."""
    have = {word.lower(): word for word in old.split()}
    if mode == "add":
        have = named | have
    elif mode == "remove":
        have = {key: word for key, word in have.items() if key not in named}
    else:
        have = {key: have.get(key, word) for key, word in named.items()}
    if mode != "remove" and len(have) > MAX_KEYWORDS:
        raise Permanent(f"more than {MAX_KEYWORDS} keywords", f"A message may have {MAX_KEYWORDS} keywords at most")
    return " ".join(sorted(have.values()))


def expunge(tx: Tx, account_id: int, mailbox_id: int, uids: Sequence[int] | None = None) -> list[int]:
    """Remove the messages marked \\Deleted (of `uids` only, if given); returns their UIDs, ascending."""
    doomed = [
        uid
        for (uid,) in tx.all(
            "SELECT uid FROM entry WHERE mailbox_id = ? AND expunged = 0 AND flags & ? <> 0 ORDER BY uid",
            mailbox_id,
            DELETED,
        )
    ]
    if uids is not None:
        wanted = set(uids)
        doomed = [uid for uid in doomed if uid in wanted]
    if doomed:
        _bury(tx, account_id, mailbox_id, doomed)
    return doomed


def remove(tx: Tx, account_id: int, mailbox_id: int, uids: Sequence[int]) -> list[int]:
    """Remove messages whatever their flags (POP3 DELE); returns the UIDs that were there."""
    there = [row[0] for row in _entries(tx, mailbox_id, uids)]
    if there:
        _bury(tx, account_id, mailbox_id, there)
    return there


def remove_all(tx: Tx, mailbox_id: int) -> None:
    """Remove all entries of a mailbox, tombstones too, as it is about to go."""
    emails = [e for (e,) in tx.all("SELECT email_id FROM entry WHERE mailbox_id = ? AND expunged = 0", mailbox_id)]
    row = tx.one("SELECT account_id, size, messages FROM mailbox WHERE id = ?", mailbox_id)
    if row is not None and emails:
        _count(tx, row[0], -row[1], -row[2])
    tx.run("DELETE FROM entry WHERE mailbox_id = ?", mailbox_id)
    tx.run("UPDATE mailbox SET messages = 0, unseen = 0, deleted = 0, size = 0 WHERE id = ?", mailbox_id)
    _release(tx, emails)


def _bury(tx: Tx, account_id: int, mailbox_id: int, uids: list[int]) -> None:
    """Turn entries that are known to exist into tombstones."""
    rows = _entries(tx, mailbox_id, uids)
    emails = [row[1] for row in rows]
    sizes = _sizes(tx, emails)
    size = sum(sizes[row[1]] for row in rows)
    modseq = _count(tx, account_id, -size, -len(rows))
    tx.many(
        "UPDATE entry SET expunged = 1, modseq = ? WHERE mailbox_id = ? AND uid = ?",
        [(modseq, mailbox_id, row[0]) for row in rows],
    )
    tx.run(
        "UPDATE mailbox SET messages = messages - ?, unseen = unseen - ?, deleted = deleted - ?, "
        "size = size - ?, highestmodseq = ? WHERE id = ?",
        len(rows),
        sum(1 for row in rows if not row[2] & SEEN),
        sum(1 for row in rows if row[2] & DELETED),
        size,
        modseq,
        mailbox_id,
    )
    _release(tx, emails)
    tx.publish(EntriesExpunged(account_id, mailbox_id, tuple(uids), modseq))


def _release(tx: Tx, emails: list[int]) -> None:
    """One entry less for each of these emails; those without any go, and give up their blob."""
    tx.many("UPDATE email SET entries = entries - 1 WHERE id = ?", [(e,) for e in emails])
    for part in _slices(sorted(set(emails))):
        gone = tx.all(
            f"DELETE FROM email WHERE entries = 0 AND id IN ({_marks(part)}) RETURNING id, blob_id",  # noqa: S608
            *part,
        )
        headings.remove(tx, [email_id for email_id, _ in gone])
        tx.many("UPDATE blob SET refs = refs - 1 WHERE id = ?", [(blob_id,) for _, blob_id in gone])


def _entries(
    tx: Tx, mailbox_id: int, uids: Sequence[int] | None, second: str = "email_id"
) -> list[tuple[int, int, int, str, int]]:
    """Rows (uid, `second`, flags, keywords, savedate) of live entries, ascending."""
    select = (
        f"SELECT uid, {second}, flags, keywords, savedate FROM entry "  # noqa: S608
        "WHERE mailbox_id = ? AND expunged = 0 "
    )
    rows: list[tuple[int, int, int, str, int]] = []
    if uids is None:
        rows += tx.all(select + "ORDER BY uid", mailbox_id)
    else:
        for first, last in runs(uids):
            rows += tx.all(select + "AND uid BETWEEN ? AND ? ORDER BY uid", mailbox_id, first, last)
    return rows


def runs(uids: Iterable[int]) -> list[tuple[int, int]]:
    """UIDs as ranges of neighbours, ascending: [1, 2, 3, 7] is [(1, 3), (7, 7)]."""
    result: list[tuple[int, int]] = []
    first = last = -1
    for uid in sorted(uids):
        if uid <= last + 1 and last >= 0:
            last = uid
            continue
        if last >= 0:
            result.append((first, last))
        first = last = uid
    if last >= 0:
        result.append((first, last))
    return result


def size_of(tx: Tx, mailbox_id: int, uid: int) -> int:
    """The size of a message; 0 if it is not there."""
    return sum(_sizes(tx, [row[1] for row in _entries(tx, mailbox_id, [uid])]).values())


def _sizes(tx: Tx, emails: list[int]) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for part in _slices(emails):
        sizes.update(tx.all(f"SELECT id, size FROM email WHERE id IN ({_marks(part)})", *part))  # noqa: S608
    return sizes


def _slices(items: list[int], most: int = 500) -> list[list[int]]:
    return [items[at : at + most] for at in range(0, len(items), most)]


def _marks(items: list[int]) -> str:
    return ",".join("?" * len(items))


def read_source(tx: Tx, email_id: int, start: int = 0, end: int | None = None) -> bytes:
    """The bytes of a message, prefix and content, from `start` to `end`; costs only the chunks touched."""
    row = tx.one("SELECT prefix, blob_id, size FROM email WHERE id = ?", email_id)
    if row is None:
        raise NotFound(f"email {email_id}")
    prefix, blob_id, size = row
    end = size if end is None else min(end, size)
    head = prefix[start:end]
    if end <= len(prefix):
        return bytes(head)
    return bytes(head) + blobs.read(tx, blob_id, max(start - len(prefix), 0), end - len(prefix))
