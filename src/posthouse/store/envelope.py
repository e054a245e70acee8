"""What outlives the session of an envelope: the parameters of MAIL and RCPT as texts in queue rows.

Most messages ask for nothing; theirs is the empty text. SIZE, AUTH and the holds are done with when a message is
queued; of BODY only BINARYMIME is kept, as 8-bit content is recognized by itself. Reading never fails: what
this program does not know is left out.
"""

import json
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, DeliverBy, MailParams, RcptParams

# In the text of a message: what is known of it. The first is also the tag of filters that says so.
UNAUTHENTIC = "unauthentic"  # somebody else wrote it in its sender's name: nobody hears of it but who gets it
AUTHENTIC = "authentic"  # a stranger's, and the sender's domain answers for it
JUNK = "junk"  # it goes into the mailbox with \Junk
_MARKS = (UNAUTHENTIC, AUTHENTIC, JUNK)


def pack_mail(params: MailParams, marks: Collection[str] = ()) -> str:
    """The text for `queue.options`, with what is known of the message (`marks`)."""
    if params is NO_MAIL_PARAMS and not marks:
        return ""
    more = {mark: True for mark in _MARKS if mark in marks}
    body = params.body if params.body == "BINARYMIME" else ""
    return _pack(params._replace(body=body, size=None, auth=None, hold=None), NO_MAIL_PARAMS, more)


def marks_of(text: str) -> frozenset[str]:
    """What is known of a queued message."""
    if not any(mark in text for mark in _MARKS):
        return frozenset()
    said = json.loads(text)
    return frozenset([mark for mark in _MARKS if said.get(mark)])


def is_unauthentic(text: str) -> bool:
    """Whether it is known that somebody else wrote the message in its sender's name."""
    return UNAUTHENTIC in marks_of(text)


def pack_rcpt(params: RcptParams) -> str:
    """The text for `recipient.options`."""
    return "" if params is NO_RCPT_PARAMS else _pack(params, NO_RCPT_PARAMS)


def _pack(
    params: MailParams | RcptParams, nothing: MailParams | RcptParams, more: Mapping[str, Any] = MappingProxyType({})
) -> str:
    said: dict[str, Any] = {
        name: value for name, value, default in zip(params._fields, params, nothing, strict=True) if value != default
    }
    said |= more
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")) if said else ""


def unpack_mail(text: str) -> MailParams:
    """The parameters of a queued message."""
    if not text:
        return NO_MAIL_PARAMS
    said = _known(text, MailParams._fields)
    if "by" in said:
        said["by"] = DeliverBy(*said["by"])
    return MailParams(**said)


def unpack_rcpt(text: str) -> RcptParams:
    """The parameters of a queued recipient."""
    if not text:
        return NO_RCPT_PARAMS
    said = _known(text, RcptParams._fields)
    if "notify" in said:
        said["notify"] = tuple(said["notify"])
    return RcptParams(**said)


def _known(text: str, fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in json.loads(text).items() if name in fields}
