"""What contents pass on their way into the store, and the signatures that go on top of them.

Mail of our own people (who logged in, and the networks of `relay.networks`) is put right as it comes in, and signed
before it is kept: what they send in the name of a domain of ours is believed to be from it. Mail of others is verified
(`authentication.py`), and sealed (ARC) where aliases of ours lead it elsewhere: so those who get it there hear what it
was worth when it came, though SPF and often DKIM fail after us.
"""

from typing import TYPE_CHECKING

from posthouse.base import ids
from posthouse.delivery.accept import Delivery
from posthouse.delivery.submitted import Forwardable, Stamp, Submitted
from posthouse.mime.header import empty_line
from posthouse.senderauth import authres, verdict_fields
from posthouse.senderauth.signing import NOTHING
from posthouse.senderauth.verify import Check
from posthouse.servers.smtp.authentication import Passage
from posthouse.servers.smtp.transaction import Transaction
from posthouse.smtp import replies
from posthouse.smtp.replies import Reply

if TYPE_CHECKING:
    from posthouse.servers.smtp.session import SmtpSession
    from posthouse.servers.smtp.shared import Shared


MANY_LINES, LONG_HEADER = 300, 16 * 1024  # lines and octets of a header from which on it is looked at on a thread


class Way:
    """What one content passes (`store.intake.Through`): first what looks at it, then what changes or hashes it."""

    def __init__(self, passage: Passage | None, own: Submitted | Forwardable | None) -> None:
        self.own = own
        self._stages = tuple([one for one in (passage, own) if one is not None])
        self._passage = passage
        self._header = 0  # octets of the header that came; -1: it has ended

    @property
    def check(self) -> Check | None:
        """Who verifies it."""
        return self._passage.check if self._passage is not None else None

    @property
    def forged(self) -> dict[str, int]:
        """The fields in our name that were taken out: how many, by name."""
        return self._passage.forged if self._passage is not None else {}

    @property
    def held(self) -> int:
        """Octets that may still come out at once."""
        return sum([one.held for one in self._stages])

    def takes_long(self, data: bytes) -> bool:
        """Whether the next piece is better fed on a thread, as the event loop would wait for it: 250 KB of header may
        have 80,000 fields, and half a microsecond for each and more."""
        if self._header < 0:
            return False
        end = empty_line(data)
        size = self._header + (len(data) if end < 0 else end)
        self._header = size if end < 0 else -1
        return size > LONG_HEADER or data.count(b"\n", 0, len(data) if end < 0 else end) > MANY_LINES

    def feed(self, data: bytes) -> bytes:
        """The next piece, and what is to be stored now."""
        for stage in self._stages:
            data = stage.feed(data)
        return data

    def finish(self) -> bytes:
        """What is left to be stored."""
        left = b""
        for stage in self._stages:
            left = (stage.feed(left) if left else b"") + stage.finish()
        return left


def way(session: "SmtpSession") -> Way | None:
    """The way of a content that begins; None: it may pass as it is."""
    service, transaction = session.service, session.transaction
    passage = service.authentication.passage(session)
    own: Submitted | Forwardable | None = None
    if session.relay_allowed():
        now = service.clock.now()
        unique = ids.to_text(service.ids.next(now)).lower()
        own = Submitted(Stamp(f"{unique}@{service.settings.hostname}", now), service.signing)
    elif transaction is not None and service.signing is not None and passage is not None and passage.check:
        own = Forwardable() if any(map(service.signing.may_sign, transaction.aliases)) else None
    return Way(passage, own) if passage is not None or own is not None else None


def odd(way: Way | None) -> Reply | None:
    """The refusal of a content of which nothing is left that all programs take for a header."""
    own = way.own if way is not None else None
    return replies.ODD_HEADER if isinstance(own, Submitted) and own.odd else None


async def signed(
    service: "Shared", transaction: Transaction, way: Way | None, header: bytes, delivery: Delivery
) -> Delivery:
    """The delivery with the signatures on top of all other fields, if somebody signs it; `header` is that of the
    content as it is stored."""
    own = way.own if way is not None else None
    if isinstance(own, Submitted):
        result = await own.sign(header, delivery.received)
        delivery.event.update(result.facts)
        if own.added:
            delivery.event["added"] = list(own.added)
        if own.removed:
            delivery.event["removed"] = own.removed
        return delivery._replace(received=result.fields + delivery.received)
    judged, signing = transaction.judged, service.signing
    if isinstance(own, Forwardable) and own.body is not None and judged is not None and signing is not None:
        results = authres.pieces(
            service.authentication.authserv_id, verdict_fields.methods(judged.verdict, judged.decision)
        )
        chain = judged.verdict.arc
        result = NOTHING
        if chain is not None:
            result = await signing.seal(transaction.aliases, delivery.received + header, own.body, chain.word, results)
        delivery.event.update(result.facts)
        return delivery._replace(sealed=result.fields)
    return delivery
