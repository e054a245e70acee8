"""Whether a message that is here whole is wanted: loops, odd headers, in whose name it is, who sent it, what filters
say.

Decided in this order, the cheap before the dear; the first refusal is the answer. Recipients and room were looked at
before (`recipients.py`, `room.py`).
"""

from typing import TYPE_CHECKING

from posthouse.filter.visitor import ContentFacts
from posthouse.mime import trace
from posthouse.servers.smtp import senders, signed
from posthouse.servers.smtp.signed import Way
from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from posthouse.wire.dots import has_bare

if TYPE_CHECKING:
    from posthouse.servers.smtp.session import SmtpSession


async def judge(session: "SmtpSession", way: Way | None, facts: ContentFacts) -> Reply | None:
    """Why a complete message is not wanted; None: it is. `way` is what its content passed."""
    if trace.count_received(facts.header) >= session.service.settings.limits.hops:
        return replies.MAIL_LOOP
    transaction = session.transaction
    if transaction is not None and transaction.params.body == "BINARYMIME" and has_bare(facts.header):
        return replies.ODD_HEADER  # programs differ in where they see the end of a line
    if session.login is not None and not session.service.settings.smtp.any_sender:
        owned = await session.owned_addresses()
        refusal = signed.odd(way) or senders.check_header(owned, facts.header, facts.size)
        if refusal is not None:
            return refusal
    if way is not None and way.check is not None:
        refusal = await session.service.authentication.judge(session, way.check)
        if refusal is not None:
            return refusal
    if session.visitor is None:
        return None
    session.visitor.size = facts.size
    session.visitor.go_on()
    return await session.ask("headers", facts) or await session.ask("message", facts)
