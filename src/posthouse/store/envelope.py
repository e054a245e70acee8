"""What outlives the session of an envelope: the parameters of MAIL and RCPT as texts in queue rows.

Most messages ask for nothing; theirs is the empty text. SIZE, AUTH and the holds are done with when a message is
queued; of BODY only BINARYMIME is kept, as 8-bit content is recognized by itself. Reading never fails: what
this program does not know is left out.
"""

import json
from typing import Any

from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, DeliverBy, MailParams, RcptParams


def pack_mail(params: MailParams) -> str:
    """The text for `queue.options`."""
    if params is NO_MAIL_PARAMS:
        return ""
    body = params.body if params.body == "BINARYMIME" else ""
    return _pack(params._replace(body=body, size=None, auth=None, hold=None), NO_MAIL_PARAMS)


def pack_rcpt(params: RcptParams) -> str:
    """The text for `recipient.options`."""
    return "" if params is NO_RCPT_PARAMS else _pack(params, NO_RCPT_PARAMS)


def _pack(params: MailParams | RcptParams, nothing: MailParams | RcptParams) -> str:
    said = {
        name: value for name, value, default in zip(params._fields, params, nothing, strict=True) if value != default
    }
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
