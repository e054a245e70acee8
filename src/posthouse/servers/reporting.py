"""Sends the daily reports to domains that ask for them: DMARC aggregate (RFC 9990) and TLS (RFC 8460).

What is counted waits in the store (`store/report_counts.py`); each domain's report is due at its own time some hours
after the day. Then the domain is asked once more whether and where it wants it (`reports/destinations.py`), strangers
whether they agree (RFC 9990 section 4), and the report goes into the queue like any message of ours, in the transaction
that forgets the counts: it goes once, whatever crashes. TLS reports may go by HTTPS, and then twice if it crashes
between the answer and the transaction; receivers know them by their id.

A DNS that does not answer puts a report off, for a day at the most. Nothing here raises; what became of each report is
written down (`report_sent`). No report is sent about mail that brought reports (`senderauth/tally.py`), and messages
with TLS reports, which need no TLS, are not counted: so reports do not breed reports.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from posthouse import __version__
from posthouse.base.clock import Clock, wait_for
from posthouse.base.log import Logger
from posthouse.base.networks import public
from posthouse.base.settings import Settings
from posthouse.delivery.inject import Kept
from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable
from posthouse.net.http import HttpFailed, Response, fetch
from posthouse.reports import destinations, dmarc_aggregate, letters, tls_rpt
from posthouse.reports.destinations import Target
from posthouse.reports.letters import From
from posthouse.senderauth.organization import Walker, registrable
from posthouse.servers import report_making
from posthouse.store import accounts, report_counts, sts
from posthouse.store.database import Database, Tx
from posthouse.store.report_counts import DAY, Period, Sent

EVERY = 600.0  # seconds between two looks, if nothing is due before
SLICE = 20  # reports between two looks
AGAIN = 3600 * 1_000_000  # microseconds until a report is tried again
ATTEMPTS = 24
STALE = 3  # days after which a report interests nobody
MOST_OCTETS = 10 * 1024 * 1024  # of a packed report
SENT_KEPT = 400 * DAY
MOST_ADDRESSES = 4  # of a web server that are tried
SHARE = 10  # names of one organization get one part in so many of the reports of a day at the most
PATIENCE = 60.0  # seconds for a report by HTTPS

Keep = Callable[[str, list[str], bytes, dict[str, object]], Awaitable[Kept | None]]
Post = Callable[[str, bytes, Mapping[str, str], list[str]], Awaitable[Response]]


class _Later(Exception):
    """It cannot be sent now."""


class _Made(NamedTuple):
    """A report, ready to go."""

    packed: bytes
    begin: int  # seconds
    end: int
    unique: str
    counted: int
    text: list[str]  # for people


async def post_by_https(url: str, body: bytes, headers: Mapping[str, str], addresses: list[str]) -> Response:
    """Send a report to a web server at these addresses: asked for again, its name might lead to others."""
    return await fetch(url, body=body, headers=headers, patience=PATIENCE, addresses=addresses)


class Reporting:
    """The background task."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        resolver: Resolver,
        clock: Clock,
        log: Logger,
        keep: Keep,
        post: Post = post_by_https,
        is_public: Callable[[str], bool] = public,
    ) -> None:
        self._settings = settings
        self._database = database
        self._resolver = resolver
        self._clock = clock
        self._log = log
        self._keep = keep
        self._post = post
        self._is_public = is_public  # whether a web server at an address may be sent to
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self.round():
                    pass
                due = await self._database.read(report_counts.next_due)
            except Exception as error:
                self._log.error("server.failed", what="sending reports", error=repr(error))
                due = None
            wait = EVERY if due is None else min(max((due - self._clock.now()) / 1e6, 1.0), EVERY)
            await wait_for(self._wake, self._clock, wait)

    async def round(self) -> int:
        """Send what is due, some of it; how many reports were looked at."""
        now = self._clock.now()
        periods = await self._database.read(report_counts.due, now, SLICE)
        for period in periods:
            try:
                if not self._settings.reports.send:
                    await self._skip(period, "reports are not sent (reports.send)")
                elif period.day < now // DAY - STALE:
                    await self._skip(period, f"it is more than {STALE} days old")
                elif why := await self._is_too_many(period):
                    await self._skip(period, why)
                else:
                    await self._send(period)
            except _Later as why:
                await self._put_off(period, str(why))
            except Exception as error:
                # One report that fails must not keep back the others.
                self._log.error("server.failed", what="a report", domain=period.domain, error=repr(error))
                await self._put_off(period, "an error of this server")
        return len(periods)

    async def _is_too_many(self, period: Period) -> str:
        """Why no more reports are sent today; "" if there may be more."""
        today, most = self._clock.now() // DAY * DAY, self._settings.reports.domains_per_day
        sent = (await self._database.read(report_counts.sent_of_day, today)).get(period.kind, 0)
        if sent >= most:
            return "reports.domains_per_day was reached"
        if sent < most // SHARE:
            return ""
        # With a wildcard in its zone anybody has as many domains as he likes: others shall get theirs, too.
        owner = await asyncio.to_thread(registrable, period.domain)
        below = await self._database.read(report_counts.sent_below, period.kind, today, owner)
        return f"{below} domains below {owner} had theirs today" if below >= max(1, most // SHARE) else ""

    async def _skip(self, period: Period, why: str, *, failed: bool = False) -> None:
        sent = self._row(period, None, "", "failed" if failed else "skipped", why)
        await self._database.write(report_counts.finish, period, [sent])

    async def _put_off(self, period: Period, why: str) -> None:
        if period.attempts + 1 >= ATTEMPTS:
            await self._skip(period, why, failed=True)
        else:
            await self._database.write(report_counts.later, period, self._clock.now() + AGAIN)

    def _row(self, period: Period, made: _Made | None, target: str, outcome: str, note: str, trace: int = 0) -> Sent:
        return Sent(
            id=0,
            kind=period.kind,
            domain=period.domain,
            day=period.day,
            report_id=made.unique if made is not None else "",
            target=target[:2000],
            at=self._clock.now(),
            octets=len(made.packed) if made is not None else 0,
            counted=made.counted if made is not None else 0,
            trace=trace,
            outcome=outcome,
            note=note[:500],
        )

    async def _send(self, period: Period) -> None:
        targets, refused = await (self._dmarc_targets(period) if period.kind == "dmarc" else self._tls_targets(period))
        if not targets:
            await self._skip(period, refused or "the domain asks for no reports")
            return
        who = await self._who()
        made = await self._make(period, who)
        rows: list[Sent] = []
        kept: list[Kept] = []
        for target in targets:
            if len(made.packed) > MOST_OCTETS:
                rows.append(self._row(period, made, _shown(target), "failed", "the report is too large"))
            elif target.scheme == "https":
                try:
                    rows.append(await self._by_https(period, made, target))
                except _Later as why:
                    if len(targets) == 1:
                        raise
                    # Others need not wait for it, and would get theirs again and again.
                    rows.append(self._row(period, made, target.address, "failed", str(why)))
            else:
                letter = self._letter(period, made, target, who)
                # The limit is for what travels, encoded (RFC 9990 section 3.5).
                if target.most and len(letter) > target.most:
                    note = f"the message has {len(letter)} octets, {target.most} are wanted at the most"
                    rows.append(self._row(period, made, _shown(target), "failed", note))
                    continue
                event: dict[str, object] = {"notice": f"{period.kind.upper()} report about {period.domain}"}
                keep = await self._keep(self._settings.reports.sender, [target.address], letter, event)
                if keep is None or target.address in keep.nobody:
                    rows.append(self._row(period, made, _shown(target), "failed", "nobody has this address"))
                    continue
                kept.append(keep)
                rows.append(self._row(period, made, _shown(target), "sent", "", keep.trace))
        if refused:
            rows.append(self._row(period, None, "", "skipped", refused))

        def write(tx: Tx) -> bool:
            if not report_counts.finish(tx, period, rows):
                return False
            for one in kept:
                one(tx)
            return True

        if await self._database.write(write):
            for row in rows:
                if row.outcome == "sent":
                    self._log.info("report.sent", kind=row.kind, domain=row.domain, to=row.target, counted=row.counted)

    # To whom

    async def _dmarc_targets(self, period: Period) -> tuple[list[Target], str]:
        """Who gets the report, and why somebody who is named does not."""
        walker = Walker(self._resolver)
        try:
            found = await walker.at(period.domain)
        except Unavailable as error:
            raise _Later(str(error)) from error
        if found is None:
            return [], "the domain has no DMARC record any more"
        wanted = [
            one._replace(most=uri.limit or 0)
            for uri in found.record.rua
            for one in destinations.destinations(uri.uri)[:1]
        ][: destinations.MAX_TARGETS]
        if not wanted and found.record.rua:
            return [], f"reports cannot be sent to {found.record.rua[0].uri[:200]}"
        targets: dict[str, Target] = {}
        refused = ""
        for target in wanted:
            agreed = await self._agreed(walker, period.domain, target)
            if agreed is None:
                refused = refused or (
                    f"{target.host} does not say that it takes reports for {period.domain} "
                    f"(TXT {period.domain}._report._dmarc.{target.host})"
                )
            else:
                targets.setdefault(agreed.address.lower(), agreed)
        return list(targets.values()), refused

    async def _agreed(self, walker: Walker, domain: str, target: Target) -> Target | None:
        """Whether a destination may get the reports of a domain: one of the same organization may."""
        if target.host == domain or target.host.endswith(f".{domain}"):
            return target
        ours, theirs = await asyncio.gather(walker.walk(domain), walker.walk(target.host))
        if ours.failure or theirs.failure:
            raise _Later(ours.failure or theirs.failure)
        if ours.organization == theirs.organization:
            return target
        name = f"{domain}._report._dmarc.{target.host}"
        if len(name) > 253:
            return None
        try:
            texts = await self._resolver.txt(name)
        except NoSuchDomain:
            return None
        except Unavailable as error:
            raise _Later(str(error)) from error
        return destinations.confirms(texts, target)

    async def _tls_targets(self, period: Period) -> tuple[list[Target], str]:
        try:
            texts = await self._resolver.txt(f"_smtp._tls.{period.domain}")
        except NoSuchDomain:
            return [], ""
        except Unavailable as error:
            raise _Later(str(error)) from error
        record = destinations.the_record(texts, "TLSRPTv1")
        tags = destinations.tags(record, "TLSRPTv1") if record is not None else None
        if tags is None:
            return [], ""
        found = destinations.destinations(tags.get("rua", ""), ("mailto", "https"))
        return list(found), "" if found else "its record names no address that can be used"

    # What

    async def _who(self) -> From:
        reports = self._settings.reports
        domain = reports.domain or reports.contact.rpartition("@")[2]
        if not domain:
            domain = await self._database.read(accounts.first_domain) or self._settings.hostname
        return From(reports.organization or domain, domain, reports.contact or f"postmaster@{domain}")

    async def _make(self, period: Period, who: From) -> _Made:
        """The report, packed. Its id is the same whenever it is made, so that receivers know it again."""
        counts = await self._database.read(report_counts.of_period, period.kind, period.day, period.domain)
        seed = f"{self._settings.hostname} {period.kind} {period.day} {period.domain}"
        unique = hashlib.blake2b(seed.encode("utf-8", "replace"), digest_size=12).hexdigest()
        begin = period.day * DAY // 1_000_000
        end = begin + 86_399
        if period.kind == "dmarc":
            generator = f"Posthouse {__version__}"
            report = report_making.dmarc(period, counts, who, unique, begin, end, generator)
            packed = await self._database.work(lambda: letters.packed(dmarc_aggregate.write(report)))
            passed = sum(one.messages for one in report.records if one.passes)
            text = [f"Messages: {sum(one.messages for one in report.records)}, of which {passed} pass DMARC."]
        else:
            policy = await self._database.read(sts.get, period.domain, self._clock.now())
            tls = report_making.tls(period, counts, who, unique, begin, end, policy)
            packed = await self._database.work(lambda: letters.packed(tls_rpt.write(tls)))
            good, bad = (sum(getattr(one, name) for one in tls.policies) for name in ("successes", "failures"))
            text = [f"Sessions: {good + bad}, of which {bad} failed."]
        return _Made(packed, begin, end, unique, sum(number for _, number in counts), text)

    def _letter(self, period: Period, made: _Made, target: Target, who: From) -> bytes:
        write = letters.dmarc if period.kind == "dmarc" else letters.tls
        return write(
            made.packed,
            who,
            target.address,
            period.domain,
            made.begin,
            made.end,
            made.unique,
            made.text,
            self._clock.now(),
        )

    async def _by_https(self, period: Period, made: _Made, target: Target) -> Sent:
        """RFC 8460 section 5.4. Only to addresses that everybody can reach: a stranger chooses where we call."""
        try:
            addresses = await self._resolver.addresses(target.host)
        except NoSuchDomain as error:
            return self._row(period, made, target.address, "failed", str(error))
        except Unavailable as error:
            raise _Later(str(error)) from error
        if not addresses or not all(map(self._is_public, addresses)):
            note = f"{target.host} is no public web server"
            return self._row(period, made, target.address, "failed", note)
        try:
            answer = await self._post(
                target.address, made.packed, {"Content-Type": "application/tlsrpt+gzip"}, addresses[:MOST_ADDRESSES]
            )
        except HttpFailed as error:
            raise _Later(str(error)) from error
        if answer.status >= 500:
            raise _Later(f"{target.host} answers with {answer.status}")
        good = 200 <= answer.status <= 299
        note = "" if good else f"{target.host} answers with {answer.status}"
        return self._row(period, made, target.address, "sent" if good else "failed", note)

    # Beside it

    async def tidy(self) -> None:
        """Forget what was sent long ago."""
        while await self._database.write(report_counts.expire, self._clock.now() - SENT_KEPT):
            pass

    async def close(self) -> None:
        """Stop. What is due is sent after the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def _shown(target: Target) -> str:
    return f"mailto:{target.address}" if target.scheme == "mailto" else target.address
