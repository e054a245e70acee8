"""Mail of our own people: put right as it comes in, and signed before it is kept.

Those are who logged in, and the networks that may send anywhere (`relay.networks`): what they send in the name of a
domain of ours is believed to be from it. Mail of others passes as it came.
"""

from typing import TYPE_CHECKING

from posthouse.base import ids
from posthouse.delivery.accept import Delivery
from posthouse.delivery.submitted import Stamp, Submitted
from posthouse.store.intake import Intake

if TYPE_CHECKING:
    from posthouse.servers.smtp.session import SmtpSession


def intake(session: "SmtpSession", *, any_line_ends: bool) -> Intake:
    """Where the content of a session's message goes."""
    service = session.service
    if not session.relay_allowed():
        return Intake(service.database.files, any_line_ends=any_line_ends)
    now = service.clock.now()
    unique = ids.to_text(service.ids.next(now)).lower()
    stamp = Stamp(f"{unique}@{service.settings.hostname}", now)
    return Submitted(service.database.files, stamp, service.signing, any_line_ends=any_line_ends)


async def signed(taken: Intake, delivery: Delivery) -> Delivery:
    """The delivery with the signatures on top of all other fields, if somebody signs it."""
    if not isinstance(taken, Submitted):
        return delivery
    result = await taken.sign(delivery.received)
    delivery.event.update(result.facts)
    if taken.added:
        delivery.event["added"] = list(taken.added)
    if taken.removed:
        delivery.event["removed"] = taken.removed
    return delivery._replace(received=result.fields + delivery.received)
