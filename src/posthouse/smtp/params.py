"""Parameters of MAIL and RCPT as values (RFC 5321 section 4.1.1.11), one table row each.

SIZE (RFC 1870), BODY (RFC 6152, RFC 3030), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 section 5), RET, ENVID,
NOTIFY, ORCPT (RFC 3461, RFC 6533), REQUIRETLS (RFC 8689), BY (RFC 2852), HOLDFOR and HOLDUNTIL (RFC 4865),
MT-PRIORITY (RFC 6710). A row reads its parameter for the server and writes it for the client. A parameter
of an extension that the server does not offer is unknown. What is wrong with a parameter comes back as the
reply to give; what a parameter asks for is for the session.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from posthouse.smtp.xtext import unitext_decode, unitext_encode, xtext_decode, xtext_encode
from posthouse.wire.address import Address


class DeliverBy(NamedTuple):
    """BY: until when the message should be delivered, counted from MAIL (RFC 2852 section 4)."""

    seconds: int  # negative, with mode N, once the time has passed on the way
    mode: str  # "R": return it then; "N": notify the sender and go on
    trace: bool = False

    def __str__(self) -> str:
        return f"{self.seconds};{self.mode}{'T' * self.trace}"


class Hold(NamedTuple):
    """HOLDFOR or HOLDUNTIL: when the message is to be let go (RFC 4865 section 4); one of the two is set."""

    seconds: int | None = None
    until: int | None = None  # seconds since 1970; whether that has passed the session knows


class MailParams(NamedTuple):
    """What MAIL said besides the sender."""

    size: int | None = None
    body: str = ""  # "7BIT", "8BITMIME", "BINARYMIME" or ""
    smtputf8: bool = False
    auth: str | None = None  # who submitted it first, in the client's opinion; "" for <>
    ret: str = ""  # "FULL", "HDRS" or ""
    envid: str = ""
    requiretls: bool = False
    by: DeliverBy | None = None
    hold: Hold | None = None
    priority: int | None = None  # -9 to 9


class RcptParams(NamedTuple):
    """What RCPT said besides the recipient."""

    notify: tuple[str, ...] = ()  # "NEVER", or of "SUCCESS", "FAILURE", "DELAY"; () if not said
    orcpt: str = ""  # "rfc822;alice@example.org" or "utf-8;…", its encoding undone


NO_MAIL_PARAMS = MailParams()
NO_RCPT_PARAMS = RcptParams()


class Limits(NamedTuple):
    """What a server's options say about values."""

    max_size: int
    binary: bool = False
    secure: bool = False
    by_minimum: int = 0
    hold_interval: int = 0
    hold_until: int = 0


class Param(NamedTuple):
    """One row."""

    field: str
    read: Callable[[str | None], Any | None]  # the value of a text, None for a bad one; the text is None without "="
    offer: str  # which extension brings it
    check: Callable[[Any, Limits], Reply | None] | None = None  # a value that this server cannot take
    write: Callable[[Any], str] | None = None  # the text of a value; None: the client says it elsewhere or never
    missing: Callable[[Any], Reply | None] | None = None  # what comes of it where the extension is not offered


# Reading: ABNF from the RFC of each

# size-value ::= 1*20DIGIT      RFC 1870 section 3
_size_value = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
# by-value = by-time";"by-mode[by-trace] ; by-time = ["-" / "+"]1*9digit      RFC 2852 section 4
_by_value = re.compile(r"([+-]?[0-9]{1,9});([RN])(T?)", re.IGNORECASE | re.ASCII).fullmatch
# future-release-integer = %x31-39 *8DIGIT      RFC 4865 section 3
_hold_integer = re.compile(r"[1-9][0-9]{0,8}", re.ASCII).fullmatch
# date-time of RFC 3339. RFC 4865 wants UTC; an offset says the same, so it is taken too.
_date_time = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))", re.IGNORECASE | re.ASCII
).fullmatch
# priority-value = (["-"] NZDIGIT) / "0"      RFC 6710 section 3
_priority_value = re.compile(r"0|-?[1-9]", re.ASCII).fullmatch


def _size(text: str | None) -> int | None:
    return int(text) if text and _size_value(text) else None


def _one_of(*words: str) -> Callable[[str | None], str | None]:
    return lambda text: text.upper() if text and text.upper() in words else None


def _flag(text: str | None) -> bool | None:
    return True if text is None else None


def _auth(text: str | None) -> str | None:
    # Mailbox or "<>" as xtext; some put brackets around the mailbox, too.
    decoded = xtext_decode(text, utf8=True) if text else None
    if decoded is None or decoded == "<>":
        return "" if decoded else None
    if decoded[0] == "<" and decoded[-1] == ">":
        decoded = decoded[1:-1]
    return decoded if Address.parse(decoded) is not None else None


def _envid(text: str | None) -> str | None:
    # RFC 3461 section 4.4: printable ASCII, 100 characters at most as xtext
    return xtext_decode(text) if text and len(text) <= 100 else None


def _by(text: str | None) -> DeliverBy | None:
    match = _by_value(text or "")
    if match is None:
        return None
    by = DeliverBy(int(match[1]), match[2].upper(), bool(match[3]))
    # A message whose time has passed can only be noticed, not returned before it was there.
    return by if by.mode == "N" or by.seconds > 0 else None


def _hold_for(text: str | None) -> Hold | None:
    return Hold(seconds=int(text)) if text and _hold_integer(text) else None


def _hold_until(text: str | None) -> Hold | None:
    match = _date_time(text or "")
    if match is None:
        return None
    year, month, day, hour, minute, second, sign, hours, minutes = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        if offset >= timedelta(days=1):
            return None
        return Hold(until=int((moment + offset if sign == "-" else moment - offset).timestamp()))
    except (ValueError, OverflowError):
        return None


def _priority(text: str | None) -> int | None:
    return int(text) if text and _priority_value(text) else None


def _notify(text: str | None) -> tuple[str, ...] | None:
    words = tuple((text or "").upper().split(","))
    if words == ("NEVER",) or (set(words) <= {"SUCCESS", "FAILURE", "DELAY"} and len(set(words)) == len(words)):
        return words
    return None


def _orcpt(text: str | None) -> str | None:
    # original-recipient-address = atom ";" xtext       RFC 3461 section 4.2
    # With the type utf-8 the address has a form of its own (RFC 6533 section 3).
    kind, semicolon, address = (text or "").partition(";")
    kind = kind.lower()
    decoded = unitext_decode(address) if kind == "utf-8" else xtext_decode(address)
    if not semicolon or not decoded or not kind.isascii() or not kind.replace("-", "").isalnum():
        return None
    return f"{kind};{decoded}" if len(decoded) <= 500 else None


# What a server cannot take


def _check_size(size: int, limits: Limits) -> Reply | None:
    return replies.too_big(limits.max_size) if size > limits.max_size else None


def _check_body(body: str, limits: Limits) -> Reply | None:
    return replies.bad_parameter("BODY") if body == "BINARYMIME" and not limits.binary else None


def _check_tls(_value: bool, limits: Limits) -> Reply | None:
    return None if limits.secure else replies.ENCRYPTION_NEEDED


def _check_by(by: DeliverBy, limits: Limits) -> Reply | None:
    # RFC 2852 section 4: the minimum is for mode R
    return replies.by_too_soon(limits.by_minimum) if by.mode == "R" and by.seconds < limits.by_minimum else None


def _check_hold(hold: Hold, limits: Limits) -> Reply | None:
    too_long = (hold.seconds or 0) > limits.hold_interval or (hold.until or 0) > limits.hold_until
    return replies.HOLD_TOO_LONG if too_long else None


# What comes of a message that needs more than the server offers


def _missing_tls(_value: bool) -> Reply:
    return replies.REQUIRETLS_NOT_OFFERED


def _missing_by(by: DeliverBy) -> Reply | None:
    # RFC 2852 section 4.2: mode R must not be relayed to a server that does not know it; mode N may.
    return replies.DELIVERBY_NOT_OFFERED if by.mode == "R" else None


def _write_orcpt(orcpt: str) -> str:
    kind, _, address = orcpt.partition(";")
    return f"{kind};{unitext_encode(address) if kind == 'utf-8' else xtext_encode(address)}"


_MAIL = {
    "SIZE": Param("size", _size, "SIZE", _check_size),
    "BODY": Param("body", _one_of("7BIT", "8BITMIME", "BINARYMIME"), "8BITMIME", _check_body),
    "SMTPUTF8": Param("smtputf8", _flag, "SMTPUTF8"),
    "AUTH": Param("auth", _auth, "AUTH"),
    "RET": Param("ret", _one_of("FULL", "HDRS"), "DSN", write=str),
    "ENVID": Param("envid", _envid, "DSN", write=xtext_encode),
    "REQUIRETLS": Param("requiretls", _flag, "REQUIRETLS", _check_tls, write=lambda _value: "", missing=_missing_tls),
    "BY": Param("by", _by, "DELIVERBY", _check_by, write=str, missing=_missing_by),
    # One field for both, so that both together are one too many (RFC 4865 section 4).
    "HOLDFOR": Param("hold", _hold_for, "FUTURERELEASE", _check_hold),
    "HOLDUNTIL": Param("hold", _hold_until, "FUTURERELEASE", _check_hold),
    "MT-PRIORITY": Param("priority", _priority, "MT-PRIORITY", write=str),
}
_RCPT = {
    "NOTIFY": Param("notify", _notify, "DSN", write=",".join),
    "ORCPT": Param("orcpt", _orcpt, "DSN", write=_write_orcpt),
}


class Accepted(NamedTuple):
    """The rows of the extensions that a server offers, and its limits."""

    mail: Mapping[str, Param]
    rcpt: Mapping[str, Param]
    limits: Limits


def accepted(offered: frozenset[str], limits: Limits) -> Accepted:
    """What MAIL and RCPT may say where the extensions `offered` are."""
    return Accepted(
        {name: row for name, row in _MAIL.items() if row.offer in offered},
        {name: row for name, row in _RCPT.items() if row.offer in offered},
        limits,
    )


def mail_params(text: bytes, rows: Accepted) -> MailParams | Reply:
    """The parameters of MAIL, or the reply that refuses them."""
    values = _parse(text, rows.mail, rows.limits)
    if isinstance(values, Reply):
        return values
    params = MailParams(**values)
    if not params.smtputf8 and not (text.isascii() and (params.auth or "").isascii()):
        return replies.NEEDS_SMTPUTF8
    return params


def rcpt_params(text: bytes, rows: Accepted, utf8: bool) -> RcptParams | Reply:
    """The parameters of RCPT, or the reply that refuses them; `utf8`: MAIL said SMTPUTF8."""
    values = _parse(text, rows.rcpt, rows.limits)
    if isinstance(values, Reply):
        return values
    return RcptParams(**values) if utf8 or text.isascii() else replies.NEEDS_SMTPUTF8


def _parse(text: bytes, rows: Mapping[str, Param], limits: Limits) -> dict[str, Any] | Reply:
    values: dict[str, Any] = {}
    for word in text.split():
        # What is not UTF-8 becomes U+FFFD, and no name or value has that.
        name, equals, value = word.decode("utf-8", "replace").partition("=")
        row = rows.get(name) or rows.get(name.upper())
        if row is None:
            return replies.unknown_parameter(name)
        parsed = row.read(value if equals else None)
        if parsed is None or row.field in values or "\ufffd" in value:
            return replies.bad_parameter(name.upper())
        if row.check is not None and (refusal := row.check(parsed, limits)) is not None:
            return refusal
        values[row.field] = parsed
    return values


class Written(NamedTuple):
    """Parameters for a server: the text, what it must do without, and why it cannot have the message at all."""

    text: str
    left_out: tuple[str, ...] = ()  # extensions it does not offer, whose parameters were asked for
    refusal: Reply | None = None


def write_mail(params: MailParams, offered: Mapping[str, str]) -> Written:
    """RET, ENVID, REQUIRETLS, BY and MT-PRIORITY for a server with the extensions `offered`.

    SIZE, BODY and SMTPUTF8 depend on more than the envelope and are for the caller; AUTH and the holds
    are for the server that got them (RFC 4865 section 4.1: what is let go is not held again).
    """
    return _write(params, _MAIL, offered)


def write_rcpt(params: RcptParams, offered: Mapping[str, str]) -> Written:
    """NOTIFY and ORCPT, likewise."""
    return _write(params, _RCPT, offered)


def _write(params: MailParams | RcptParams, rows: Mapping[str, Param], offered: Mapping[str, str]) -> Written:
    words: list[str] = []
    left_out: dict[str, None] = {}
    for name, row in rows.items():
        value = getattr(params, row.field)
        if row.write is None or (not value and not (value == 0 and row.field == "priority")):
            continue
        if row.offer not in offered:
            refusal = row.missing(value) if row.missing is not None else None
            if refusal is not None:
                return Written("", (row.offer,), refusal)
            left_out[row.offer] = None
            continue
        text = row.write(value)
        words.append(f" {name}={text}" if text else f" {name}")
    return Written("".join(words), tuple(left_out))
