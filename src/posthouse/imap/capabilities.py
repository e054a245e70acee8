"""What we announce, in which state. Nothing stands here that does not work."""

from collections.abc import Container
from functools import lru_cache

from posthouse.imap.options import DEFAULT, Options

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
    "SORT",  # RFC 5256
    "SORT=DISPLAY",  # RFC 5957
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",  # draft-ietf-morg-inthread
    "ESORT",  # RFC 5267
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "MULTISEARCH",  # RFC 7377
    "SEARCH=FUZZY",  # RFC 6203
    "INPROGRESS",  # RFC 9585
    "LIST-EXTENDED",  # RFC 5258
    "LIST-STATUS",  # RFC 5819
    "SPECIAL-USE",  # RFC 6154
    "CREATE-SPECIAL-USE",
    "STATUS=SIZE",  # RFC 8438
    "CONDSTORE",  # RFC 7162
    "QRESYNC",
    "UIDONLY",  # RFC 9586
    "PARTIAL",  # RFC 9394
    "WITHIN",  # RFC 5032
    "SAVEDATE",  # RFC 8514
    "OBJECTID",  # RFC 8474
    "PREVIEW",  # RFC 8970
    "I18NLEVEL=1",  # RFC 5255
    "UTF8=ACCEPT",  # RFC 6855
    "MULTIAPPEND",  # RFC 3502
    "CATENATE",  # RFC 4469
    "REPLACE",  # RFC 8508
    "URLAUTH",  # RFC 4467
    "URLAUTH=BINARY",  # RFC 5524
    "NOTIFY",  # RFC 5465
    "ACL",  # RFC 4314
    "RIGHTS=kxte",
    "LIST-MYRIGHTS",  # RFC 8440
    "METADATA",  # RFC 5464
    "LIST-METADATA",  # RFC 9590
    "QUOTA",  # RFC 9208; without QUOTASET
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
)
# What ENABLE knows: the attributes of the engine that it sets, and how it is written.
ENABLED_BY_NAME: dict[bytes, tuple[tuple[str, ...], bytes]] = {
    b"IMAP4REV2": (("rev2",), b"IMAP4rev2"),
    b"CONDSTORE": (("condstore",), b"CONDSTORE"),
    b"QRESYNC": (("qresync", "condstore"), b"QRESYNC"),
    b"UIDONLY": (("uid_only",), b"UIDONLY"),
    b"UTF8=ACCEPT": (("utf8_accept",), b"UTF8=ACCEPT"),
}


def enable(engine: object, names: Container[bytes]) -> list[bytes]:
    """Set what ENABLE names in an engine; what was not enabled before, as it is written."""
    enabled = []
    for name, (attributes, shown) in ENABLED_BY_NAME.items():
        if name in names and not all(getattr(engine, attribute) for attribute in attributes):
            for attribute in attributes:
                setattr(engine, attribute, True)
            enabled.append(shown)
    return enabled


def disable_all(engine: object) -> None:
    """Nothing is enabled any more."""
    for attributes, _ in ENABLED_BY_NAME.values():
        for attribute in attributes:
            setattr(engine, attribute, False)


@lru_cache(64)
def line(
    inside: bool,
    starttls: bool,
    mechanisms: tuple[str, ...],
    login: bool,
    compress: bool = True,
    options: Options = DEFAULT,
) -> bytes:
    """The list of capabilities; `login`: the command LOGIN is allowed, `compress`: the connection is not compressed
    yet."""
    # RFC 7888 section 5: one of them, never both.
    words = [word if word != "LITERAL+" or options.literal_plus else "LITERAL-" for word in _ALWAYS]
    if inside:
        words += _INSIDE
        if compress:
            words.append("COMPRESS=DEFLATE")  # RFC 4978
        if options.unauthenticate:
            words.append("UNAUTHENTICATE")  # RFC 8437
        if options.max_message:
            words.append(f"APPENDLIMIT={options.max_message}")  # RFC 7889
        if options.max_messages:
            words.append(f"MESSAGELIMIT={options.max_messages}")  # RFC 9738
        if options.gmail:
            words.append("X-GM-EXT-1")
    else:
        if starttls:
            words.append("STARTTLS")
        words += ["AUTH=" + name for name in mechanisms]
        if not login:
            words.append("LOGINDISABLED")
    return " ".join(words).encode()
