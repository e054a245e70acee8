"""In whose name an account may send: its own addresses, those of a catch-all of its, and what was granted to it.

That holds for the reverse-path and for From; the null reverse-path is free, because receipts of mail programs use it
(RFC 8098 section 3). Without From, or with one that cannot be read, nothing is claimed.
"""

from posthouse.mime import addresses, header
from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from posthouse.store import accounts
from posthouse.wire.address import Address, parse_domain


def check_envelope(owned: set[str], sender: Address) -> Reply | None:
    """The refusal of a reverse-path, or None. `owned` is `accounts.addresses_of`."""
    if sender.is_null or owns(owned, sender.local_part, sender.domain):
        return None
    return replies.SENDER_NOT_YOURS


def check_header(owned: set[str], head: bytes) -> Reply | None:
    """The refusal of a message for its From field, or None."""
    for value in header.find_all(head, b"From"):
        for address in addresses.addresses(value):
            local = address.local.decode("utf-8", "replace")
            domain = parse_domain(address.domain.decode("utf-8", "replace"), True) or ""
            if not owns(owned, local, domain):
                return replies.from_not_yours(f"{local}@{domain}")
    return None


def owns(owned: set[str], local_part: str, domain: str) -> bool:
    """Is an address among `owned`, with or without its "+detail" (RFC 5233)?"""
    local = accounts.folded(local_part)
    names = (f"{local}@{domain}", f"{local.split('+', 1)[0]}@{domain}", f"@{domain}", accounts.ANYBODY)
    return any(name in owned for name in names)
