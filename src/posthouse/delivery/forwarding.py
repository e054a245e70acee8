"""Mail that is passed on in its sender's name: the envelope sender becomes ours (SRS), and bounces find their way back.

Which addresses are rewritten, and with which key, is decided here; the form is `srs.py`. A sender that cannot be
rewritten (its address is too long) stays as it is: the message may fail SPF then, which is better than to lose it.
"""

from posthouse.base.clock import Clock
from posthouse.base.settings import Settings
from posthouse.delivery import srs
from posthouse.delivery.srs import Fault
from posthouse.store import accounts, keys
from posthouse.store.database import Database
from posthouse.wire.address import Address

KEY = "srs"  # in the table of secrets


class Forwarding:
    """Rewrites senders and turns addresses back."""

    def __init__(self, database: Database, clock: Clock, settings: Settings) -> None:
        self._database = database
        self._clock = clock
        self._on = settings.relay.srs
        self._domain = settings.relay.srs_domain or settings.hostname
        self._ours = {self._domain, settings.hostname}
        self._keys: tuple[bytes, ...] = ()

    def forget(self) -> None:
        """The key may have been changed."""
        self._keys = ()

    async def sender(self, sender: Address) -> Address:
        """The envelope sender of a message that goes on to somewhere else."""
        if not self._on or sender.is_null or not sender.domain or sender.domain in self._ours:
            return sender
        if await self._database.read(accounts.is_ours, sender.domain):
            return sender
        made = srs.forward(sender, self._domain, (await self._known_keys())[0], self._clock.now())
        return sender if isinstance(made, Fault) else made

    def concerns(self, address: Address) -> bool:
        """Whether an address may be one that we made; also where rewriting was switched off since."""
        return address.domain == self._domain and srs.is_srs(address)

    async def origin(self, address: Address) -> Address | Fault:
        """Where a bounce to an address that `concerns` us belongs."""
        return srs.reverse(address, await self._known_keys(), self._clock.now())

    async def _known_keys(self) -> tuple[bytes, ...]:
        if not self._keys:
            self._keys = await self._database.write(keys.usable, KEY)
        return self._keys
