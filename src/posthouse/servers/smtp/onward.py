"""What goes on because a message was taken: copies that aliases pass on, and reports of success to its sender.

Both are prepared before the commit and kept by it: the message and what follows from it stand or fall together.
"""

from posthouse.delivery import accept
from posthouse.delivery.inject import Kept
from posthouse.servers.smtp.shared import Shared
from posthouse.servers.smtp.transaction import Transaction


async def forwarded(service: Shared, transaction: Transaction, number: int, now: int) -> accept.Forwarded | None:
    """What aliases of ours pass on, if it goes with another sender than the message came with."""
    if service.forwarding is None:
        return None
    sender = await service.forwarding.sender(transaction.sender)
    if sender == transaction.sender:
        return None
    rest = tuple(one for address, one in transaction.forwarded.items() if address not in transaction.remote)
    own = service.ids.next(now) if transaction.remote else number
    return accept.Forwarded(own, str(sender), rest) if rest else None


async def receipts(service: Shared, transaction: Transaction, header: bytes, now: int, text: str) -> list[Kept]:
    """The reports of success that are due with the delivery of the message `text`. They show `header`: none where a
    stranger asked for REQUIRETLS, as the way back is not certain (RFC 8689 section 5)."""
    keeps = []
    for report in transaction.receipts(header, service.settings.hostname, now, text.lower()):
        keep = await service.prepare("", [str(transaction.sender)], report, {"receipt_of": text})
        if keep is not None:
            keeps.append(keep)
    return keeps
