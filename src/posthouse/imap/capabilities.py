"""What we announce, in which state. Nothing stands here that does not work."""

from functools import lru_cache

# Before login only what a client needs to log in; the rest waits, so that it is asked for again.
_ALWAYS = ("IMAP4rev1", "IMAP4rev2", "SASL-IR", "LITERAL+", "ID", "ENABLE", "IDLE")
_INSIDE = (
    "NAMESPACE",  # RFC 2342
    "UIDPLUS",  # RFC 4315
    "UNSELECT",  # RFC 3691
    "CHILDREN",  # RFC 3348
    "BINARY",  # RFC 3516
    "MOVE",  # RFC 6851
    "ESEARCH",  # RFC 4731
    "SEARCHRES",  # RFC 5182
    "LIST-EXTENDED",  # RFC 5258
    "LIST-STATUS",  # RFC 5819
    "SPECIAL-USE",  # RFC 6154
    "CREATE-SPECIAL-USE",
    "STATUS=SIZE",  # RFC 8438
)
ENABLED_BY_NAME = frozenset((b"IMAP4REV2",))  # what ENABLE knows


@lru_cache(64)
def line(inside: bool, starttls: bool, mechanisms: tuple[str, ...], login: bool) -> bytes:
    """The list of capabilities; `login`: the command LOGIN is allowed."""
    words = list(_ALWAYS)
    if inside:
        words += _INSIDE
    else:
        if starttls:
            words.append("STARTTLS")
        words += ["AUTH=" + name for name in mechanisms]
        if not login:
            words.append("LOGINDISABLED")
    return " ".join(words).encode()
