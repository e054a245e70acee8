"""Recipients that need more than the directory: addresses of forwarded mail, and those on the suppression list.

Bounces (mail from the null sender) to an address that SRS made go to where the message came from; other mail to it is
refused, as nobody writes there. Who logged in does not send to an address that refused their mail for good.
"""

import datetime
from collections.abc import Callable

from posthouse.auth.login import Login
from posthouse.delivery.srs import Fault
from posthouse.servers.smtp.shared import Shared
from posthouse.smtp import replies
from posthouse.smtp.replies import Reply
from posthouse.store import suppression
from posthouse.store.accounts import Resolution
from posthouse.wire.address import Address

_NOBODY = Resolution()
BOUNCES_ONLY = Reply(550, "5.7.1", "This address takes bounces of forwarded mail only: send to the person instead")


def needs_more(service: Shared, login: Login | None, recipient: Address, resolution: Resolution) -> bool:
    """Whether a resolution that is known is not all: `look_up` has to be asked."""
    if service.forwarding is not None and service.forwarding.concerns(recipient):
        return True
    return login is not None and not resolution.local and service.settings.queue.suppress


async def look_up(
    service: Shared,
    login: Login | None,
    sender: Address,
    recipient: Address,
    decide: Callable[[Resolution], Reply],
) -> tuple[Resolution, Reply]:
    """Where mail for a recipient goes, and what RCPT is answered. `decide` judges what the directory says."""
    forwarding = service.forwarding
    if forwarding is not None and forwarding.concerns(recipient):
        origin = await forwarding.origin(recipient)
        if isinstance(origin, Address):
            if not sender.is_null:
                return _NOBODY, BOUNCES_ONLY
            resolution = await service.directory.resolve(origin)
            if resolution.local:
                return resolution, decide(resolution)
            return Resolution((), (str(origin),)), replies.RECIPIENT_OK
        if origin is not Fault.NOT_SRS:
            return _NOBODY, Reply(550, "5.1.1", origin.value)
    resolution = service.directory.known(recipient) or await service.directory.resolve(recipient)
    reply = decide(resolution)
    if reply.accepted and login is not None and not resolution.local and service.settings.queue.suppress:
        now = service.clock.now()
        entry = await service.database.read(suppression.find, login.account_id, str(recipient), now)
        if entry is not None:
            return resolution, suppressed(entry)
    return resolution, reply


def suppressed(entry: suppression.Entry) -> Reply:
    """The refusal of a recipient on the suppression list."""
    since = datetime.datetime.fromtimestamp(entry.since // 1_000_000, datetime.UTC).date()
    reply = " ".join(entry.reply.split())[:120]
    why = f"its server said: {reply}" if reply else entry.reason[:120]
    return Reply(
        550,
        "5.1.1",
        f"{entry.address[:120]} is on the suppression list since {since} ({why}). To try again, have your postmaster "
        f"remove it: posthouse suppression remove {entry.address[:120]}",
    )
