"""What must be done to a message before a certain server can have it, as its EHLO says (RFC 6152, RFC 3030, RFC 6531).

8-bit content for a server without 8BITMIME and binary content for one without BINARYMIME is converted
(`mime/downgrade.py`); what cannot be is refused with 5.6.3, and header fields in UTF-8 for a server without SMTPUTF8
with 5.6.7. Addresses are looked at by the engine (`smtp/client.py`).

What this server had signed or sealed is signed and sealed again: the old signatures are of a content that is no more.
What others signed is left as it is; nobody but they can do it anew.

Conversion needs the whole message in memory, twice: only up to `LARGEST`, and `AT_ONCE` at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from posthouse.mime.downgrade import Obstacle, convert
from posthouse.senderauth.signing import has_signatures, without_signatures
from posthouse.smtp.client import SmtpClient
from posthouse.smtp.replies import Reply

if TYPE_CHECKING:
    from posthouse.queue.outgoing import Outgoing

LARGEST = 64 << 20  # octets
AT_ONCE = 2
SMALL = 64 * 1024  # octets that are converted without a thread

SignedAgain = Callable[[bytes, bytes], Awaitable[bytes]]  # `senderauth.signing.Signing.signed_again`


async def fitted(
    outgoing: "Outgoing", client: SmtpClient, places: asyncio.Semaphore, signed_again: SignedAgain | None = None
) -> "Outgoing | Reply":
    """The message in a form that the server takes, or why there is none. `places` are `AT_ONCE`, shared by all."""
    mail = outgoing.mail
    binary = mail.body == "BINARYMIME" and not (client.offers("BINARYMIME") and client.offers("CHUNKING"))
    eight_bit = client.offers("8BITMIME") or (mail.body == "BINARYMIME" and not binary)
    # The header of the message itself was looked at; those of its parts were not.
    utf8 = mail.smtputf8 and not outgoing.utf8_header and not client.offers("SMTPUTF8")
    if not (binary or utf8 or (outgoing.eight_bit and not eight_bit)):
        return outgoing
    if outgoing.size > LARGEST:
        return Reply(
            554, "5.6.3", "The message is too large to be converted for the server, which takes no such content"
        )
    async with places:
        message = b"".join([piece async for piece in outgoing.pieces()])
        # Only the prefix is certainly ours: a stranger may have written anything below it.
        again = signed_again if has_signatures(outgoing.prefix) else None
        message = without_signatures(outgoing.prefix) + message[len(outgoing.prefix) :]
        if len(message) <= SMALL:
            converted = convert(message, eight_bit=eight_bit, utf8_header=not utf8)
        else:
            converted = await asyncio.to_thread(convert, message, eight_bit=eight_bit, utf8_header=not utf8)
        if again is not None and not isinstance(converted, Obstacle):
            converted = await again(converted, outgoing.prefix)
    if isinstance(converted, Obstacle):
        missing = "BINARYMIME" if binary else "SMTPUTF8" if utf8 and eight_bit else "8BITMIME"
        status = "5.6.7" if missing == "SMTPUTF8" else "5.6.3"
        text = f"The server does not offer {missing}, and the message cannot be converted: {converted.text}"
        return Reply(554, status, text)

    async def pieces() -> AsyncIterator[bytes]:
        yield converted

    return outgoing._replace(
        size=len(converted),
        eight_bit=not converted.isascii(),
        pieces=pieces,
        mail=mail._replace(body="") if binary else mail,
    )
