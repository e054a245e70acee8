"""Mailbox names: modified UTF-7 for IMAP4rev1 (RFC 3501 section 5.1.3), UTF-8 for IMAP4rev2, and which
names may be created.

Inside the server a name is text in NFC with "/" between its levels, and INBOX in capitals.
"""

import binascii
import re
import unicodedata

SEPARATOR = "/"
MAX_NAME = 1000  # octets of UTF-8 in a whole name
MAX_LEVEL = 255  # octets in one level
MAX_DEPTH = 50

_shifted = re.compile(r"&([^-]*)-").sub
_unsafe = re.compile("[^\x20-\x25\x27-\x7e]+").sub
# RFC 9051 section 5.1 keeps controls out, RFC 5198 the line and paragraph separators; "%" and "*" would
# turn the name into a pattern.
_forbidden = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd\ufffe\uffff\ud800-\udfff%*]").search


def decode(raw: bytes, utf8: bool) -> str:
    """The name that a client wrote. What is not well formed gets a character that no mailbox has in its name, so
    that it may be asked for, in vain, but not created."""
    text = raw.decode("utf-8", "replace")
    if not utf8 and "&" in text:
        try:
            text = _decode_utf7(text)
        except ValueError:
            text += "\ufffd"
    # What is longer is no mailbox's name in NFC either, and could take seconds (mime/normal.py).
    return canonical(text if text.isascii() or len(text) > MAX_NAME else unicodedata.normalize("NFC", text))


def encode(name: str, utf8: bool) -> bytes:
    """The name as it goes to a client, before quoting."""
    if utf8:
        return name.encode("utf-8", "replace")
    return _encode_utf7(name)


def canonical(name: str) -> str:
    """INBOX is one name in any case, also as the first level (RFC 9051 section 5.1)."""
    first, separator, rest = name.partition(SEPARATOR)
    return "INBOX" + separator + rest if first.upper() == "INBOX" else name


def problem(name: str) -> str | None:
    """Why a mailbox of that name cannot be created, for the client; None if it can."""
    if not name:
        return "A mailbox needs a name"
    levels = name.split(SEPARATOR)
    if "" in levels:
        return "A level of the name is empty"
    if _forbidden(name):
        return "The name has characters that are not allowed"
    if len(levels) > MAX_DEPTH:
        return f"The name has more than {MAX_DEPTH} levels"
    if len(name.encode()) > MAX_NAME or max(len(level.encode()) for level in levels) > MAX_LEVEL:
        return "The name is too long"
    return None


# RFC 3501 section 5.1.3: "&" begins modified BASE64 (of UTF-16BE, "," for "/", no padding) up to "-"; "&-" is "&".


def _decode_utf7(text: str) -> str:
    if _shifted("", text).find("&") >= 0:
        raise ValueError("an unfinished shift")

    def replace(found: "re.Match[str]") -> str:
        if not found[1]:
            return "&"
        coded = found[1]
        if "/" in coded or "=" in coded:
            raise ValueError("not modified BASE64")
        data = binascii.a2b_base64(coded.replace(",", "/") + "=" * (-len(coded) % 4), strict_mode=True)
        return data.decode("utf-16-be")

    return _shifted(replace, text)


def _encode_utf7(name: str) -> bytes:
    def replace(found: "re.Match[str]") -> str:
        # A run of characters that need a shift; "&" inside it is written as the RFC wants it, by itself.
        parts = []
        for run in found[0].split("&"):
            coded = binascii.b2a_base64(run.encode("utf-16-be", "surrogatepass"), newline=False) if run else b""
            parts.append("&" + coded.decode().rstrip("=").replace("/", ",") + "-" if run else "")
        return "&-".join(parts)

    return _unsafe(replace, name).encode("ascii")
