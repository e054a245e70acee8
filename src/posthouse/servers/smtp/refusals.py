"""Mail that was refused, on its way into the trace: so that `posthouse explain ADDRESS` says why a mail did not come.

Anybody can be refused as often as he likes, so what is kept is bounded: so much a minute and an hour, in all and of
one client (a network, or an account). The rest is counted, and the next that is kept says how many there were before
it. Rows are gathered for a moment and written in one transaction: no session waits for them. A crash loses those of
the last seconds, which the log has as well; what cannot be written is dropped with a line in the log.
"""

from collections import OrderedDict

from posthouse.base import ids
from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.networks import site
from posthouse.base.soon import Soon
from posthouse.servers.smtp.transaction import Transaction, Where
from posthouse.store import events
from posthouse.store.blobs.writer import Content
from posthouse.store.database import Database
from posthouse.store.model import Digest

EVERY = 2.0  # seconds
MINUTE, HOUR = 60_000_000, 3_600_000_000
# How many are kept in a minute and in an hour: of one client, and in all. A thousand an hour for thirty days
# are half a gigabyte.
OF_ONE = {MINUTE: 6, HOUR: 60}
OF_ALL = {MINUTE: 60, HOUR: 1000}
CLIENTS = 10_000  # that are counted; of more, those that were quiet longest are forgotten


class _Counts:
    """How much of one client, or of all, was kept lately, and how much was not since."""

    __slots__ = ("_kept", "missed")

    def __init__(self) -> None:
        self._kept: dict[int, tuple[int, int]] = {}  # length of a span: which one, how many in it
        self.missed = 0

    def has_room(self, limits: dict[int, int], now: int) -> bool:
        return all(self._in(span, now) < most for span, most in limits.items())

    def count(self, limits: dict[int, int], now: int) -> None:
        self._kept = {span: (now // span, self._in(span, now) + 1) for span in limits}
        self.missed = 0

    def _in(self, span: int, now: int) -> int:
        which, count = self._kept.get(span, (0, 0))
        return count if which == now // span else 0


class Refusals:
    """Gathers refusals of all SMTP listeners."""

    def __init__(self, database: Database, clock: Clock, new_ids: ids.IdSource, log: Logger) -> None:
        self._database = database
        self._clock = clock
        self._ids = new_ids
        self._log = log
        self._all = _Counts()
        self._clients: OrderedDict[str, _Counts] = OrderedDict()
        self._rows: list[events.Event] = []
        self._hashes: dict[int, int] = {}  # of Message-IDs, by trace
        self._soon = Soon(clock, EVERY, self.flush)

    def keep(
        self, client: str, transaction: Transaction, where: Where, content: Content | None, digest: Digest | None
    ) -> int:
        """Keep what a transaction came to; returns the id of its trace, or 0: it was only counted. `client` is the
        name of an account or an IP address."""
        now = self._clock.now()
        counts = self._counts(_site(client))
        if not counts.has_room(OF_ONE, now) or not self._all.has_room(OF_ALL, now):
            counts.missed += 1
            self._all.missed += 1
            return 0
        data = transaction.refusal(where, now, content, digest)
        if self._all.missed:
            data["not_kept"] = {"client": counts.missed, "all": self._all.missed}
        counts.count(OF_ONE, now)
        self._all.count(OF_ALL, now)
        number = self._ids.next(now)
        self._rows.append(events.Event(number, number, "refused", data))
        if digest is not None and digest.message_id_hash:
            self._hashes[number] = digest.message_id_hash
        self._soon.note()
        return number

    def _counts(self, client: str) -> _Counts:
        counts = self._clients.get(client)
        if counts is None:
            counts = self._clients[client] = _Counts()
            if len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
        else:
            self._clients.move_to_end(client)
        return counts

    async def flush(self) -> None:
        """Write what waits."""
        rows, self._rows = self._rows, []
        hashes, self._hashes = self._hashes, {}
        if not rows:
            return
        try:
            await self._database.write(events.add_all, rows, hashes)
        except Exception as error:
            self._log.error("server.failed", what="recording refusals", error=repr(error))

    async def close(self) -> None:
        """Write what waits, and stop."""
        await self._soon.close()


def _site(client: str) -> str:
    try:
        return site(client)
    except ValueError:  # the path of a socket
        return client
