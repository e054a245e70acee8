"""Held messages to people of ours, whose time has come: they are delivered here, not sent.

Where these people forward, the message goes on and asks for what it asked for. It is kept by the transaction that
writes the outcome down; nothing is kept here.
"""

from collections.abc import AsyncIterator

from posthouse.base import ids
from posthouse.queue.jobs import Job, Keep, Prepare
from posthouse.queue.results import DELIVERED, FAILED, Report, Verdict
from posthouse.smtp.params import MailParams
from posthouse.store.envelope import marks_of, pack_mail


async def deliver(
    prepare: Prepare, job: Job, addresses: tuple[str, ...], pieces: AsyncIterator[bytes], params: MailParams
) -> tuple[Report, Keep | None]:
    """Deliver a message to `addresses`; `pieces` are its content, `params` what is still asked for it. The outcome, and
    what is to be kept with it."""
    message = job.message
    keep = await prepare(
        message.sender,
        list(addresses),
        pieces,
        {"released": ids.to_text(message.id)},
        message,
        {claim.address: claim.options for claim in job.claims},
        pack_mail(params, marks_of(message.options)),
    )
    gone = Verdict(FAILED, 550, "5.1.1", "There is no such mailbox any more", "", False)
    if keep is None:
        return Report(dict.fromkeys(addresses, gone)), None
    delivered = Verdict(DELIVERED, 250, "2.0.0", "Delivered", "", False)
    verdicts = dict.fromkeys(addresses, delivered) | dict.fromkeys(keep.nobody, gone)
    unwanted = Verdict(FAILED, 550, "5.7.1", "A rule of this server refuses the message", "", False)
    return Report(verdicts | dict.fromkeys(keep.refused, unwanted)), keep
