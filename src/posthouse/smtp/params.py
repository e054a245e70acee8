"""Parameters of MAIL and RCPT as values (RFC 5321 section 4.1.1.11), one table row each.

SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 section 5), and those of DSN
(RFC 3461): RET, ENVID, NOTIFY, ORCPT. A parameter of an extension that the server does not offer is
unknown. What is wrong with a parameter comes back as the reply to give.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from posthouse.smtp import replies
from posthouse.smtp.replies import Reply


class MailParams(NamedTuple):
    """What MAIL said besides the sender."""

    size: int | None = None
    body: str = ""  # "7BIT", "8BITMIME" or ""
    smtputf8: bool = False
    auth: str | None = None  # who submitted it first, in the client's opinion; "" for <>
    ret: str = ""  # "FULL", "HDRS" or ""
    envid: str = ""


class RcptParams(NamedTuple):
    """What RCPT said besides the recipient."""

    notify: tuple[str, ...] = ()  # "NEVER", or of "SUCCESS", "FAILURE", "DELAY"; () if not said
    orcpt: str = ""  # "rfc822;alice@example.org", xtext undone


NO_MAIL_PARAMS = MailParams()
NO_RCPT_PARAMS = RcptParams()

# xtext = *( xchar / hexchar ) ; hexchar = "+" 2(%x30-39 / %x41-46)       RFC 3461 section 4
_xtext = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*").fullmatch
_hexchar = re.compile(r"\+([0-9A-F]{2})").sub

# size-value ::= 1*20DIGIT      RFC 1870 section 3
_size_value = re.compile(r"[0-9]{1,20}").fullmatch


def xtext_decode(text: str) -> str | None:
    """The text behind xtext; None if it is not xtext or hides control characters."""
    if not _xtext(text):
        return None
    decoded = _hexchar(lambda match: chr(int(match[1], 16)), text)
    return decoded if decoded.isprintable() else None


def xtext_encode(text: str) -> str:
    """`text` (ASCII) as xtext."""
    return re.sub(r"[^!-*,-<>-~]", lambda match: f"+{ord(match[0]):02X}", text)


class _Param(NamedTuple):
    field: str
    value: Callable[[str | None], Any | None]  # None: bad value
    offer: str  # which extension brings it


def _size(text: str | None) -> int | None:
    return int(text) if text and _size_value(text) else None


def _one_of(*words: str) -> Callable[[str | None], str | None]:
    return lambda text: text.upper() if text and text.upper() in words else None


def _flag(text: str | None) -> bool | None:
    return True if text is None else None


def _auth(text: str | None) -> str | None:
    decoded = xtext_decode(text) if text else None
    return "" if decoded == "<>" else decoded


def _envid(text: str | None) -> str | None:
    return xtext_decode(text) if text and len(text) <= 100 else None


def _notify(text: str | None) -> tuple[str, ...] | None:
    words = tuple((text or "").upper().split(","))
    if words == ("NEVER",) or (set(words) <= {"SUCCESS", "FAILURE", "DELAY"} and len(set(words)) == len(words)):
        return words
    return None


def _orcpt(text: str | None) -> str | None:
    # original-recipient-address = atom ";" xtext       RFC 3461 section 4.2
    kind, semicolon, address = (text or "").partition(";")
    decoded = xtext_decode(address)
    if not semicolon or not decoded or not kind.isascii() or not kind.replace("-", "").isalnum():
        return None
    return f"{kind.lower()};{decoded}" if len(decoded) <= 500 else None


_MAIL = {
    "SIZE": _Param("size", _size, "SIZE"),
    "BODY": _Param("body", _one_of("7BIT", "8BITMIME"), "8BITMIME"),
    "SMTPUTF8": _Param("smtputf8", _flag, "SMTPUTF8"),
    "AUTH": _Param("auth", _auth, "AUTH"),
    "RET": _Param("ret", _one_of("FULL", "HDRS"), "DSN"),
    "ENVID": _Param("envid", _envid, "DSN"),
}
_RCPT = {
    "NOTIFY": _Param("notify", _notify, "DSN"),
    "ORCPT": _Param("orcpt", _orcpt, "DSN"),
}


def mail_params(text: bytes, offered: frozenset[str]) -> MailParams | Reply:
    """The parameters of MAIL, or the reply that refuses them."""
    values = _parse(text, _MAIL, offered)
    return values if isinstance(values, Reply) else MailParams(**values)


def rcpt_params(text: bytes, offered: frozenset[str]) -> RcptParams | Reply:
    """The parameters of RCPT, or the reply that refuses them."""
    values = _parse(text, _RCPT, offered)
    return values if isinstance(values, Reply) else RcptParams(**values)


def _parse(text: bytes, table: dict[str, _Param], offered: frozenset[str]) -> dict[str, Any] | Reply:
    values: dict[str, Any] = {}
    for word in text.decode("ascii", "replace").split():
        name, equals, value = word.partition("=")
        param = table.get(name.upper())
        if param is None or param.offer not in offered:
            return replies.unknown_parameter(name)
        parsed = param.value(value if equals else None)
        if parsed is None or param.field in values:
            return replies.bad_parameter(name.upper())
        values[param.field] = parsed
    return values
