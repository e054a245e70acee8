"""In whose name an account may send: its own addresses, those of a catch-all of its, and what was granted to it.

That holds for the reverse-path, for From and Sender, and for who sends a message again (Resent-From, Resent-Sender: RFC
5322 section 3.6.6), of whom some programs say no less; the null reverse-path is free, because receipts of mail programs
use it (RFC 8098 section 3). Without From nothing is claimed. A header with lines that are no fields is refused.
"""

import re

from posthouse.mime import addresses, header
from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from posthouse.store import accounts
from posthouse.wire.address import Address, parse_domain
from posthouse.wire.dots import has_bare

# A field, or the rest of one (RFC 5322 section 2.2)
_field_line = re.compile(rb"[ \t]|[!-9;-~]+[ \t]*:").match


# Unquoted, some programs take it for the address: From: boss@example.org <me@example.org>, and the other way round.
# Each stretch between two marks is read once, from its beginning: from every "@" it would cost the square of that.
_at_in_name = re.compile(rb"(?:\A|[<>,;])[^<>,;@]*+@[^<>,;]*+<|>[^<>,;@]*+@").search
_quoted = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:(")|\\?\Z)', re.S)
CLAIMS = (b"From", b"Sender", b"Resent-From", b"Resent-Sender")
MOST = 50  # addresses of a user's From
MOST_OCTETS = 16 * 1024  # of all its fields of these names: that many addresses as long as they may be


def check_envelope(owned: set[str], sender: Address) -> Reply | None:
    """The refusal of a reverse-path, or None. `owned` is `accounts.addresses_of`."""
    if sender.is_null or owns(owned, sender.local_part, sender.domain):
        return None
    return replies.SENDER_NOT_YOURS


def check_header(owned: set[str], head: bytes, size: int) -> Reply | None:
    """The refusal of a message of `size` octets for what its header says, or None."""
    if _odd(head, size):
        return replies.ODD_HEADER
    values = [(name, value) for name in CLAIMS for value in header.find_all(head, name)]
    # Before anything is parsed: the event loop waits while it is, and everybody else with it.
    if len(values) > MOST or sum([len(value) for _, value in values]) > MOST_OCTETS:
        return replies.ODD_FROM
    for name, value in values:
        # What is in a quoted string is a name. A quote that never ends is one to some and nothing to others.
        outside = _quoted.sub(lambda quoted: b"''" if quoted[1] else b'"', value)
        if b'"' in outside or _at_in_name(outside):
            return replies.ODD_FROM
        found = addresses.addresses(value)
        if len(found) > MOST or (not found and b"@" in value):
            return replies.ODD_FROM
        for address in found:
            local = address.local.decode("utf-8", "replace")
            domain = parse_domain(address.domain.decode("utf-8", "replace"), True) or ""
            if not owns(owned, local, domain):
                return replies.from_not_yours(f"{local}@{domain}", name.decode("ascii"))
    return None


def _odd(head: bytes, size: int) -> bool:
    """Whether a header has lines that are no field, or ends at one: programs differ in what they make of them, and may
    show as sender who is not. A first line that begins with a blank would go on where our own fields end."""
    if head[:1] in (b" ", b"\t"):
        return True
    if head.strip() and len(head) < size and not head.endswith((b"\n\r\n", b"\n\n")):
        return True
    return b"\0" in head or has_bare(head) or any(line.strip() and not _field_line(line) for line in head.split(b"\n"))


def owns(owned: set[str], local_part: str, domain: str) -> bool:
    """Is an address among `owned`, with or without its "+detail" (RFC 5233)?"""
    local = accounts.folded(local_part)
    names = (f"{local}@{domain}", f"{local.split('+', 1)[0]}@{domain}", f"@{domain}", accounts.ANYBODY)
    return any(name in owned for name in names)
