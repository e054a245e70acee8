"""GENURLAUTH, URLFETCH, RESETKEY (RFC 4467, RFC 5524): URLs that let others read one message, and what they name."""

from dataclasses import dataclass

from posthouse.imap.tokens import BadSyntax, Cursor

MAX_URLS = 100  # of one command


@dataclass(frozen=True, slots=True)
class GenUrlAuth:
    """GENURLAUTH: URLs to be authorized, with the mechanism wanted for each, in capitals"""

    urls: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class UrlFetch:
    """URLFETCH: URLs, with what is wanted of each, the structure first; nothing named: its octets, in the form of
    RFC 4467"""

    urls: tuple[tuple[bytes, tuple[bytes, ...]], ...]


@dataclass(frozen=True, slots=True)
class ResetKey:
    """RESETKEY: of one mailbox, or of all: what was authorized is so no more"""

    name: str | None


def gen_url_auth(cursor: Cursor) -> GenUrlAuth:
    """genurlauth = "GENURLAUTH" 1*(SP url-rump SP mechanism)"""
    urls = []
    cursor.space()
    while True:
        url = cursor.astring()
        cursor.space()
        urls.append((url, cursor.atom().upper()))
        if len(urls) > MAX_URLS:
            raise BadSyntax(f"more than {MAX_URLS} URLs")
        if not cursor.skip_space():
            break
    cursor.end()
    return GenUrlAuth(tuple(urls))


def url_fetch(cursor: Cursor) -> UrlFetch:
    """urlfetch = "URLFETCH" 1*(SP (url-full / "(" url-full *(SP url-fetch-param) ")"))"""
    urls: list[tuple[bytes, tuple[bytes, ...]]] = []
    cursor.space()
    while True:
        urls.append(_extended(cursor) if cursor.peek() == b"(" else (cursor.astring(), ()))
        if len(urls) > MAX_URLS:
            raise BadSyntax(f"more than {MAX_URLS} URLs")
        if not cursor.skip_space():
            break
    cursor.end()
    return UrlFetch(tuple(urls))


_STRUCTURE, _CONTENTS = b"BODYPARTSTRUCTURE", frozenset((b"BODY", b"BINARY"))
_WANTED = _CONTENTS | {_STRUCTURE}


def _extended(cursor: Cursor) -> tuple[bytes, tuple[bytes, ...]]:
    """url-fetch-param = "BODY" / "BODYPARTSTRUCTURE" / "BINARY" / atom"""
    url, *wanted = cursor.items(cursor.astring, 1 + len(_WANTED))
    names = frozenset(name.upper() for name in wanted)
    if not names <= _WANTED:
        raise BadSyntax("something of a URL that we do not know")
    if len(names) < len(wanted) or names >= _CONTENTS:  # RFC 5524 section 3.1
        raise BadSyntax("something of a URL is asked for twice")
    return url, tuple(sorted(names, reverse=True, key=_STRUCTURE.__eq__))


def reset_key(cursor: Cursor) -> ResetKey:
    """resetkey = "RESETKEY" [SP mailbox *(SP mechanism)]"""
    if not cursor.skip_space():
        cursor.end()
        return ResetKey(None)
    name = cursor.mailbox()
    while cursor.skip_space():
        if cursor.atom().upper() != b"INTERNAL":
            raise BadSyntax("INTERNAL is the only mechanism")
    cursor.end()
    return ResetKey(name)
