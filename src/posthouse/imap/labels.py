"""Gmail's labels (X-GM-LABELS of X-GM-EXT-1): a label of a message is a mailbox that holds a copy of it, or a flag.

Names that begin with a backslash are the system's: \\Inbox, \\Sent, \\Draft, \\Trash and \\Spam are mailboxes by their
use, \\Starred and \\Important flags. All others are names of mailboxes, always in modified UTF-7, whatever the client
has enabled: so Gmail writes them, and so programs read them.
"""

from typing import NamedTuple

from posthouse.imap import names, replies
from posthouse.imap.flags import FLAGGED

MAX_LABELS = 50  # of one command
IMPORTANT = "$Important"  # RFC 8457


class Label(NamedTuple):
    """What a label stands for: a mailbox by its name, one by its special use, a system flag, or a keyword."""

    name: str = ""  # of the mailbox; of one with a use: what it is called if it has to be made
    use: str = ""  # RFC 6154
    bit: int = 0
    keyword: str = ""

    @property
    def empties(self) -> bool:
        """Does a message that gets it lose all others? What is thrown away, or junk, is nowhere else."""
        return self.use in ("\\Trash", "\\Junk")


ARCHIVE = Label("Archive", "\\Archive")  # of what has no label left; Gmail's All Mail
_SYSTEM = {
    "\\inbox": Label("INBOX"),
    "\\sent": Label("Sent", "\\Sent"),
    "\\draft": Label("Drafts", "\\Drafts"),
    "\\drafts": Label("Drafts", "\\Drafts"),
    "\\trash": Label("Trash", "\\Trash"),
    "\\spam": Label("Junk", "\\Junk"),
    "\\junk": Label("Junk", "\\Junk"),
    "\\starred": Label(bit=FLAGGED),
    "\\flagged": Label(bit=FLAGGED),
    "\\important": Label(keyword=IMPORTANT),
}
# As they go to a client: a backslash stands in quotes only (RFC 9051 section 9, ASTRING-CHAR).
_SHOWN = {
    "\\Sent": b'"\\\\Sent"',
    "\\Drafts": b'"\\\\Draft"',
    "\\Trash": b'"\\\\Trash"',
    "\\Junk": b'"\\\\Spam"',
}


def label_of(raw: bytes) -> Label | None:
    """What a client means by a label; None: there is no such label of the system."""
    if raw[:1] == b"\\":
        return _SYSTEM.get(raw.decode("latin-1").lower())
    return Label(names.decode(raw, utf8=False))


def label_list(mailboxes: str, flags: int, keywords: str) -> bytes:
    """The labels of a message in parentheses. `mailboxes`: lines of special use, TAB, name."""
    shown = []
    for line in mailboxes.split("\n") if mailboxes else ():
        use, _, name = line.partition("\t")
        known = b'"\\\\Inbox"' if name == "INBOX" else _SHOWN.get(use)
        shown.append(known or replies.astring(names.encode(name, utf8=False)))
    if flags & FLAGGED:
        shown.append(b'"\\\\Starred"')
    if keywords and IMPORTANT.lower() in keywords.lower().split():
        shown.append(b'"\\\\Important"')
    return b"(%b)" % b" ".join(shown)
