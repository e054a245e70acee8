"""Mail of our own people: put right as it comes in, and signed before it is kept.

Those are who logged in, and the networks that may send anywhere (`relay.networks`): what they send in the name of a
domain of ours is believed to be from it. Mail of others passes as it came.
"""

from typing import TYPE_CHECKING

from posthouse.base import ids
from posthouse.delivery.accept import Delivery
from posthouse.delivery.submitted import Stamp, Submitted

if TYPE_CHECKING:
    from posthouse.servers.smtp.session import SmtpSession


def way(session: "SmtpSession") -> Submitted | None:
    """What a content that begins passes before it is stored; None: it is not of our own people."""
    service = session.service
    if not session.relay_allowed():
        return None
    now = service.clock.now()
    unique = ids.to_text(service.ids.next(now)).lower()
    return Submitted(Stamp(f"{unique}@{service.settings.hostname}", now), service.signing)


async def signed(submitted: Submitted | None, header: bytes, delivery: Delivery) -> Delivery:
    """The delivery with the signatures on top of all other fields, if somebody signs it; `header` is that of the
    content."""
    if submitted is None:
        return delivery
    result = await submitted.sign(header, delivery.received)
    delivery.event.update(result.facts)
    if submitted.added:
        delivery.event["added"] = list(submitted.added)
    if submitted.removed:
        delivery.event["removed"] = submitted.removed
    return delivery._replace(received=result.fields + delivery.received)
