"""VRFY and EXPN: real answers for those who may have them, 252 for others (RFC 5321 section 3.5)."""

from collections.abc import Awaitable

from posthouse.servers.smtp.session import SmtpSession
from posthouse.smtp import replies
from posthouse.smtp.events import Vrfy
from posthouse.smtp.replies import Reply
from posthouse.store import accounts
from posthouse.wire.address import Address

MOST = 100  # members that are listed


def on_vrfy(session: SmtpSession, event: Vrfy) -> Awaitable[None] | None:
    who = session.service.settings.smtp.verify
    if who == "nobody" or (who == "users" and session.login is None):
        session.engine.reply(replies.CANNOT_EXPAND if event.expand else replies.CANNOT_VRFY)
        return None
    return _answer(session, event)


async def _answer(session: SmtpSession, event: Vrfy) -> None:
    text = event.text.strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    if "@" not in text:
        own = session.login.name if session.login is not None else session.service.settings.hostname
        text = f"{text}@{own.rpartition('@')[2]}"
    address = Address.parse(text)
    if address is None:
        session.engine.reply(replies.VRFY_SYNTAX)
        return
    found = await session.service.directory.resolve(address)
    if not found.local:
        session.engine.reply(replies.CANNOT_VRFY)
    elif not found.accounts and not found.remote:
        session.engine.reply(replies.VRFY_UNKNOWN)
    elif not event.expand:
        session.engine.reply(Reply(250, "2.1.5", f"<{address}>"))
    else:
        names = await session.service.database.read(accounts.names, found.accounts[:MOST])
        members = [f"<{member}>" for member in (*names, *found.remote)][:MOST]
        session.engine.reply(Reply(250, "2.1.5", "\n".join(members)))
