"""The rows and changes that the rest of the program sees. docs/architecture.md tells the model."""

from typing import NamedTuple

from posthouse.imap.headings import NO_HEADING, Heading

# System flags as bits (RFC 9051 section 2.3.2); \Recent is a matter of the session, not of the row.
SEEN, ANSWERED, FLAGGED, DELETED, DRAFT = 1, 2, 4, 8, 16

SPECIAL_USE = {  # RFC 6154: what a new account gets beside INBOX
    "Archive": "\\Archive",
    "Drafts": "\\Drafts",
    "Junk": "\\Junk",
    "Sent": "\\Sent",
    "Trash": "\\Trash",
}


class Account(NamedTuple):
    """Who owns mailboxes."""

    id: int
    name: str
    display_name: str
    created: int
    disabled: bool


class AddressRow(NamedTuple):
    """One way in: an address of ours and where its mail goes."""

    id: int
    domain: str
    local_part: str  # "" is the catch-all
    account: str | None
    target: str | None


class Mailbox(NamedTuple):
    """One mailbox with its counters. The order is the order of the columns in `mailboxes.COLUMNS`."""

    id: int
    account_id: int
    name: str
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    special_use: str
    recent_uid: int
    messages: int
    unseen: int
    deleted: int
    size: int


class Digest(NamedTuple):
    """What is computed once from a message when it comes in, and stored."""

    envelope: bytes
    bodystructure: bytes
    parts: bytes
    preview: str
    message_id: str  # "" if it has none
    message_id_hash: int  # 0 if it has none
    references: tuple[int, ...]  # hashes of the ids it answers, nearest first
    line_ends: int = 0  # octets that are missing for every line to end with CRLF
    heading: Heading = NO_HEADING  # what it is sorted and threaded by
    listed: bytes | None = None  # mime/listed.py
    author: bytes = b""  # the value of From as it stands in the header


class Appended(NamedTuple):
    """Where a message went."""

    uid: int
    modseq: int
    email_id: int


class EntriesAdded(NamedTuple):
    """Messages appeared in a mailbox."""

    account_id: int
    mailbox_id: int
    uids: tuple[int, ...]
    modseq: int


class EntriesExpunged(NamedTuple):
    """Messages left a mailbox."""

    account_id: int
    mailbox_id: int
    uids: tuple[int, ...]
    modseq: int


class FlagsChanged(NamedTuple):
    """Flags changed: rows of (uid, modseq, flags, keywords)."""

    account_id: int
    mailbox_id: int
    rows: tuple[tuple[int, int, int, str], ...]
    modseq: int


class MailboxesChanged(NamedTuple):
    """The list of mailboxes changed: created, renamed, deleted, subscribed."""

    account_id: int
    mailbox_id: int  # the one that is gone or changed; 0 if several
    deleted: bool = False
    name: str = ""  # that it has, or had; "" for those that a renamed one took along
    old: str = ""  # that it had before it was renamed


class SubscriptionChanged(NamedTuple):
    """A name was added to the subscriptions of an account, or taken off."""

    account_id: int
    name: str


class AclChanged(NamedTuple):
    """Somebody may do more or less in a mailbox."""

    account_id: int  # its owner
    mailbox_id: int
    who: int  # account; 0: everybody


class AccessChanged(NamedTuple):
    """Somebody may see a mailbox of another account, or not any more. Told to whom it concerns."""

    account_id: int  # 0: everybody
    owner_id: int
    mailbox_id: int
    name: str  # as the owner calls it


class AnnotationsChanged(NamedTuple):
    """Annotations were set or removed: of a mailbox of `account_id`, or (mailbox 0) of the server."""

    account_id: int
    mailbox_id: int
    reader_id: int  # who alone sees them; 0: they are shared
    entries: tuple[str, ...]


class UsageChanged(NamedTuple):
    """What an account holds changed: the sums now. Told to those who listen to account 0."""

    owner_id: int
    size: int
    messages: int


class QueueChanged(NamedTuple):
    """There are new recipients to deliver to, or what was kept from them has ended."""

    queue_id: int  # 0: not of one message
    lane: int | None = None  # whose turn it concerns, if that is known (store/outbox.py)


class HookCallsAdded(NamedTuple):
    """There are calls to webhooks to make."""

    hooks: tuple[str, ...]  # their names


class DirectoryChanged(NamedTuple):
    """Domains, accounts, addresses or credentials changed: forget what was cached of them."""


class SigningKeysChanged(NamedTuple):
    """Keys of our domains (DKIM) came, went or changed their state, or the DNS says something else of them."""

    domain: str


class FileSpared(NamedTuple):
    """A blob file that no row needs, because its content is kept already."""

    name: str


Change = (
    FileSpared
    | EntriesAdded
    | EntriesExpunged
    | FlagsChanged
    | MailboxesChanged
    | SubscriptionChanged
    | AclChanged
    | AccessChanged
    | AnnotationsChanged
    | UsageChanged
    | QueueChanged
    | HookCallsAdded
    | DirectoryChanged
    | SigningKeysChanged
)
