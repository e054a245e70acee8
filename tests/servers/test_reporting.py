"""Daily reports: whom they go to, what they look like, and the whole circle from one server's counts to another's
tables."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from posthouse.app import App
from posthouse.base.ids import IdSource
from posthouse.base.log import get_logger
from posthouse.base.settings import Settings
from posthouse.cli import opening
from posthouse.delivery.directory import Directory
from posthouse.delivery.inject import Injector
from posthouse.mime import header
from posthouse.net.dns import ZoneResolver
from posthouse.net.http import HttpFailed, Response
from posthouse.queue.tls_counts import Counts, Recorder
from posthouse.queue.transport_security import Finding
from posthouse.reports import letters, recognise
from posthouse.reports.dmarc_aggregate import Aggregate
from posthouse.reports.tls_rpt import TlsReport
from posthouse.senderauth.tally import Tally
from posthouse.servers import report_making
from posthouse.servers import reporting as reporting_module
from posthouse.servers.reporting import Reporting
from posthouse.store import accounts, report_counts, report_tables, sts
from posthouse.store.blobs import rows as blobs
from posthouse.store.database import Tx
from posthouse.store.feed import ChangeFeed
from posthouse.store.model import EntriesAdded
from posthouse.store.report_counts import DAY, Sent
from posthouse.store.sqlite import SqliteDatabase
from tests.senderauth.test_tally import ONE
from tests.servers.test_authentication import ZONE, send, signed
from tests.servers.test_authentication import message as mail
from tests.servers.test_smtp_more import CLEAR
from tests.support.clock import FakeClock
from tests.support.house import opened as house
from tests.support.house import settings as house_settings
from tests.support.loop import on_loop
from tests.support.signing import sign_for, verified
from tests.support.store import opened

AGREED = "example.org._report._dmarc"


class Desk:
    """A server that counted something yesterday. Nothing is sent on: the queue has no manager."""

    def __init__(self, database: SqliteDatabase, zone: dict[str, Any], reports: dict[str, Any], folder: Path) -> None:
        self.database = database
        self.zone = zone
        self.clock = FakeClock()
        self.posts: list[tuple[str, bytes, Mapping[str, str]]] = []
        self.answer: int | HttpFailed = 200
        self.settings = Settings.model_validate({"hostname": "mx.here.test", "data": folder, "reports": reports})
        feed = ChangeFeed()
        database.on_commit(feed.publish)
        directory = Directory(database, feed, "mx.here.test")
        injector = Injector(database, directory, self.clock, IdSource(), "mx.here.test", 5.0)
        self.reporting = Reporting(
            self.settings, database, ZoneResolver(zone), self.clock, get_logger(), injector.keeper, self.post
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], addresses: list[str]) -> Response:
        assert addresses == ["203.0.113.9"]
        self.posts.append((url, body, headers))
        if isinstance(self.answer, HttpFailed):
            raise self.answer
        return Response(self.answer, "text/plain", b"")

    async def due(self, spread: float) -> None:
        """Let the time come at which the first report is due, and as much more."""
        at = await self.database.read(report_counts.next_due)
        if at is not None:
            self.clock.move(max(at - self.clock.now(), 0) / 1e6 + spread)

    async def run(self, spread: float = 4 * 3600) -> list[Sent]:
        await self.due(spread)
        while await self.reporting.round():
            pass
        return await self.database.read(report_counts.sent_since, 0)

    async def queued(self) -> list[tuple[str, str, bytes]]:
        """Sender, recipient and content of each message in the queue."""

        def read(tx: Tx) -> list[tuple[str, str, bytes]]:
            rows = tx.all(
                "SELECT queue.sender, recipient.address, queue.blob_id FROM queue "
                "JOIN recipient ON recipient.queue_id = queue.id ORDER BY recipient.address"
            )
            return [(sender, address, blobs.read(tx, blob, 0, 1 << 24)) for sender, address, blob in rows]

        return await self.database.read(read)


@asynccontextmanager
async def desk(folder: Path, zone: dict[str, Any], **reports: Any) -> AsyncIterator[Desk]:
    async with opened(folder) as database:
        await database.write(accounts.add_domain, "here.test", 1)
        await database.write(accounts.add_domain, "another.test", 2)
        one = Desk(database, zone, reports, folder)
        tally = Tally(database, one.clock, get_logger())
        tally.note(ONE)
        tally.note(ONE)
        tally.note(
            ONE._replace(
                source_ip="2001:db8::1",
                dkim=(),
                aligned_spf="fail",
                aligned_dkim="fail",
                disposition="none",
                reasons=(("mailing_list", "list.test"), ("sampled_out", "")),
            )
        )
        await tally.close()
        yield one


def record(rua: str) -> dict[str, list[bytes]]:
    return {"TXT": [f"v=DMARC1; p=reject; sp=none; rua={rua}".encode()]}


@pytest.mark.parametrize(
    ("text", "header_from", "aligned", "done", "disposition"),
    [
        ("p=reject", "example.org", "pass", "none", "pass"),
        ("p=reject", "a.example.org", "pass", "none", "pass"),
        ("p=none; sp=reject", "example.org", "pass", "none", "none"),
        ("p=none; sp=reject", "a.example.org", "pass", "none", "pass"),
        ("p=reject; sp=none", "a.example.org", "pass", "none", "none"),
        ("p=reject", "example.org", "fail", "reject", "reject"),
        ("p=reject", "example.org", "fail", "none", "none"),
        ("p=nothing; rua=mailto:a@b.test", "example.org", "pass", "none", "none"),
        ("p=reject; sp=nothing; rua=mailto:a@b.test", "example.org", "fail", "none", "none"),
        ("p=reject; sp=nothing; rua=mailto:a@b.test", "example.org", "pass", "none", "none"),
    ],
)
def test_pass_means_that_there_was_a_policy_to_apply(
    text: str, header_from: str, aligned: str, done: str, disposition: str
) -> None:
    facts = ["192.0.2.1", header_from, "b.test", ["b.test", "mfrom", "pass"], [], aligned, "fail", done, []]
    period = report_counts.Period("dmarc", 1, "example.org", [f"v=DMARC1; {text}", "treewalk"], 0, 0)
    who = letters.From("Here", "here.test", "postmaster@here.test")
    report = report_making.dmarc(period, [(facts, 3)], who, "u1", 0, 1, "")
    [found] = report.records
    assert report.policy.p == ("none" if "nothing" in text else text[2:].partition(";")[0])
    assert (found.disposition, found.messages) == (disposition, 3)


@on_loop
async def test_a_dmarc_report_as_the_rfc_wants_it(tmp_path: Path) -> None:
    zone = {"_dmarc.example.org": record("mailto:dmarc@example.org")}
    async with desk(tmp_path, zone, organization="Here & Co") as one:
        assert await one.reporting.round() == 0  # the day is not over
        [sent] = await one.run()
        [(sender, to, message)] = await one.queued()
        day = sent.day * DAY // 1_000_000
        assert (sender, to) == ("", "dmarc@example.org")
        assert (sent.outcome, sent.target, sent.counted) == ("sent", "mailto:dmarc@example.org", 3)

        head = message.partition(b"\r\n\r\n")[0] + b"\r\n"

        def field(name: bytes) -> bytes:
            return header.unfold(header.find(head, name) or b"").strip()

        assert field(b"From") == b"Here & Co <postmaster@here.test>"
        unique = sent.report_id.encode()
        assert field(b"Subject") == b"Report Domain: example.org Submitter: here.test Report-ID: <" + unique + b">"
        assert field(b"Auto-Submitted") == b"auto-generated"
        name = f"here.test!example.org!{day}!{day + 86_399}!{sent.report_id}.xml.gz"
        assert name.encode() in message
        assert b"application/gzip" in message

        report = recognise.of_message(message)
        assert isinstance(report, Aggregate)
        assert (report.organization, report.email, report.begin) == ("Here & Co", "postmaster@here.test", day)
        policy = report.policy
        assert (policy.domain, policy.p, policy.sp, policy.np, policy.fo) == (
            "example.org",
            "reject",
            "reject",
            "reject",
            "0",
        )
        first, second = report.records
        assert (first.source_ip, first.messages, first.disposition, first.passes) == ("192.0.2.1", 2, "pass", True)
        assert first.dkim_results == (("example.org", "s1", "pass"),)
        assert first.spf_results == (("bounce.example.org", "mfrom", "pass"),)
        assert (second.disposition, second.passes, second.reasons) == (
            "none",
            False,
            (("mailing_list", "list.test"), ("other", "sampled_out")),
        )
        # It went once, and nothing is left.
        assert len(await one.run()) == 1
        assert await one.database.read(report_counts.next_due) is None


A, B, X = "mailto:a@example.org", "mailto:b@sub.example.org", "mailto:x@watch.test"
CASES: list[tuple[str, dict[str, Any], list[tuple[str, str, str]]]] = [
    ("two addresses", {"_dmarc.example.org": record(f"{A},{B}")}, [("sent", A, ""), ("sent", B, "")]),
    ("no record any more", {}, [("skipped", "", "no DMARC record")]),
    ("no address any more", {"_dmarc.example.org": {"TXT": [b"v=DMARC1; p=none"]}}, [("skipped", "", "asks for no")]),
    ("https only", {"_dmarc.example.org": record("https://example.org/")}, [("skipped", "", "cannot be sent to")]),
    ("too small a limit", {"_dmarc.example.org": record(f"{A}!1k,{B}!1m")}, [("failed", A, "1024"), ("sent", B, "")]),
    (
        "a stranger who agrees",
        {"_dmarc.example.org": record(X), f"{AGREED}.watch.test": {"TXT": [b"v=DMARC1"]}},
        [("sent", X, "")],
    ),
    (
        "a stranger who agrees for everybody",
        {"_dmarc.example.org": record(X), "*._report._dmarc.watch.test": {"TXT": [b"v=DMARC1;"]}},
        [("sent", X, "")],
    ),
    (
        "a stranger who wants it elsewhere",
        {
            "_dmarc.example.org": record(X),
            f"{AGREED}.watch.test": {"TXT": [b"v=DMARC1; rua=mailto:y@watch.test"]},
        },
        [("sent", "mailto:y@watch.test", "")],
    ),
    (
        "a stranger who passes it on to a victim",
        {
            "_dmarc.example.org": record(f"{X},{A}"),
            f"{AGREED}.watch.test": {"TXT": [b"v=DMARC1; rua=mailto:y@victim.test"]},
        },
        [("sent", A, ""), ("skipped", "", "does not say that it takes")],
    ),
    (
        "a stranger who does not agree",
        {"_dmarc.example.org": record(X)},
        [("skipped", "", "_report._dmarc.watch.test")],
    ),
    (
        "strangers below one public suffix",
        {"_dmarc.example.org": record("mailto:v@victim.org")},
        [("skipped", "", "victim.org does not say")],
    ),
]


@pytest.mark.parametrize(("zone", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_to_whom_dmarc_reports_go(zone: dict[str, Any], expected: list[tuple[str, str, str]], tmp_path: Path) -> None:
    @on_loop
    async def test() -> None:
        async with desk(tmp_path, zone) as one:
            rows = sorted(await one.run(), key=lambda row: (row.outcome != "sent", row.target, row.outcome))
            found = [(row.outcome, row.target) for row in rows]
            assert sorted(found) == sorted(each[:2] for each in expected)
            for outcome, target, note in expected:
                assert any(note in row.note for row in rows if (row.outcome, row.target) == (outcome, target))
            assert [f"mailto:{to}" for _, to, _ in await one.queued()] == sorted(
                target for outcome, target, _ in expected if outcome == "sent"
            )
            assert await one.database.read(report_counts.next_due) is None

    test()


@on_loop
async def test_the_parent_of_an_organization_gets_the_reports_of_its_subdomain(tmp_path: Path) -> None:
    zone: dict[str, Any] = {
        "_dmarc.news.example.org": record(A),
        "_dmarc.example.org": record(A),
    }
    async with desk(tmp_path, zone) as one:
        tally = Tally(one.database, one.clock, get_logger())
        tally.note(ONE._replace(policy_domain="news.example.org"))
        await tally.close()
        assert {(row.domain, row.target) for row in await one.run()} == {("news.example.org", A), ("example.org", A)}


@on_loop
async def test_a_dns_that_is_down_puts_reports_off_and_not_for_ever(tmp_path: Path) -> None:
    zone: dict[str, Any] = {"_dmarc.example.org": None}
    async with desk(tmp_path, zone) as one:
        assert await one.run(0) == []
        zone["_dmarc.example.org"] = record(X)
        zone[f"{AGREED}.watch.test"] = None
        for _ in range(reporting_module.ATTEMPTS - 2):
            assert await one.run(0) == []
        [row] = await one.run(0)
        assert (row.outcome, row.target) == ("failed", "")
        assert "no answer from the DNS" in row.note
        assert await one.queued() == []
    assert reporting_module.ATTEMPTS * reporting_module.AGAIN >= DAY


@on_loop
async def test_what_the_settings_say(tmp_path: Path) -> None:
    zone = {"_dmarc.example.org": record(A), "_dmarc.b.test": record("mailto:r@b.test")}
    reports = {"domain": "another.test", "contact": "dmarc@another.test", "sender": "bounces@another.test"}
    async with desk(tmp_path / "a", zone, domains_per_day=1, **reports) as one:
        tally = Tally(one.database, one.clock, get_logger())
        tally.note(ONE._replace(policy_domain="b.test"))
        await tally.close()
        rows = await one.run()
        assert sorted(row.outcome for row in rows) == ["sent", "skipped"]
        assert "domains_per_day" in next(row.note for row in rows if row.outcome == "skipped")
        [(sender, _, message)] = await one.queued()
        assert sender == "bounces@another.test"
        assert b'From: "another.test" <dmarc@another.test>\r\n' in message
    async with desk(tmp_path / "b", zone, send=False) as one:
        [row] = await one.run()
        assert (row.outcome, row.note) == ("skipped", "reports are not sent (reports.send)")
    async with desk(tmp_path / "c", zone) as one:
        one.clock.move(6 * 86_400)
        [row] = await one.run()
        assert (row.outcome, row.note) == ("skipped", "it is more than 3 days old")


@on_loop
async def test_names_of_one_organization_do_not_take_the_reports_of_all(tmp_path: Path) -> None:
    """A wildcard makes as many domains as somebody likes."""
    names = [f"n{number}.evil.test" for number in range(8)]
    zone = {f"_dmarc.{name}": record(f"mailto:r@{name}") for name in names}
    async with desk(tmp_path, zone | {"_dmarc.example.org": record(A)}, domains_per_day=40) as one:
        tally = Tally(one.database, one.clock, get_logger())
        for name in names:
            tally.note(ONE._replace(policy_domain=name))
        await tally.close()
        rows = await one.run()
        sent = [row.domain for row in rows if row.outcome == "sent"]
        assert sum(domain.endswith(".evil.test") for domain in sent) == 4
        assert "example.org" in sent
        assert "domains below evil.test had theirs today" in next(row.note for row in rows if row.outcome == "skipped")


def test_our_own_report_addresses_are_not_reported_about(tmp_path: Path) -> None:
    @on_loop
    async def test() -> None:
        async with opened(tmp_path) as database:
            tally = Tally(database, FakeClock(), get_logger(), ("dmarc@here.test",))
            tally.note(ONE, ["DMARC@here.test"])
            await tally.flush()
            assert await database.read(report_counts.next_due) is None
            tally.note(ONE, ["dmarc@here.test", "alice@here.test"])
            await tally.close()
            assert await database.read(report_counts.next_due) is not None

    test()


def _tls_counts() -> Counts:
    counts = Counts()
    for _ in range(3):
        counts.note("example.org", "mx.example.org", Finding(True, "", policy="sts"), "192.0.2.1")
    counts.note("example.org", "mx.example.org", Finding(False, "", "certificate-expired", "sts"), "192.0.2.1")
    records = ["_25._tcp.mx.example.org. IN TLSA 3 1 1 ab"]
    counts.note("example.org", "mx.example.org", Finding(True, "", policy="tlsa"), "192.0.2.1", records)
    return counts


@asynccontextmanager
async def tls_desk(folder: Path, rua: str, **more: Any) -> AsyncIterator[Desk]:
    zone = {"_smtp._tls.example.org": {"TXT": [f"v=TLSRPTv1; rua={rua}".encode()]}, **more}
    async with opened(folder) as database:
        await database.write(accounts.add_domain, "here.test", 1)
        one = Desk(database, zone, {}, folder)
        policy = sts.StoredPolicy("example.org", "1", "enforce", ("mx.example.org",), 86_400, 0, 1 << 60, 0)
        await database.write(sts.put, policy)
        counts = _tls_counts()
        recorder = Recorder(counts, database, one.clock, get_logger())
        counts.note("example.org", "mx.example.org", Finding(True, "", policy="sts"), "192.0.2.1")
        await recorder.close()
        yield one


@on_loop
async def test_a_tls_report_by_mail(tmp_path: Path) -> None:
    async with tls_desk(tmp_path, "mailto:tls@elsewhere.test") as one:  # no agreement is needed (RFC 8460)
        [sent] = await one.run()
        [(sender, to, message)] = await one.queued()
        assert (sent.outcome, sent.counted, sender, to) == ("sent", 6, "", "tls@elsewhere.test")
        for line in (
            b"\r\nTLS-Report-Domain: example.org\r\n",
            b"\r\nTLS-Report-Submitter: here.test\r\n",
            b"\r\nTLS-Required: No\r\n",
            b'Content-Type: multipart/report; report-type="tlsrpt"; ',
            b"\r\nContent-Type: application/tlsrpt+gzip\r\n",
        ):
            assert line in message.replace(b"\r\n boundary", b" boundary")
        report = recognise.of_message(message)
        assert isinstance(report, TlsReport)
        sts_policy, tlsa = report.policies
        assert (sts_policy.type, sts_policy.successes, sts_policy.failures) == ("sts", 4, 1)
        assert sts_policy.strings == ("version: STSv1", "mode: enforce", "mx: mx.example.org", "max_age: 86400")
        assert sts_policy.mx == ("mx.example.org",)
        [detail] = sts_policy.details
        assert (detail.result, detail.host, detail.receiving_ip) == (
            "certificate-expired",
            "mx.example.org",
            "192.0.2.1",
        )
        assert (tlsa.type, tlsa.strings) == ("tlsa", ("_25._tcp.mx.example.org. IN TLSA 3 1 1 ab",))


@on_loop
async def test_a_tls_report_by_https(tmp_path: Path) -> None:
    address = {"A": ["203.0.113.9"]}
    async with tls_desk(tmp_path / "a", "https://web.test/tls,mailto:t@example.org", **{"web.test": address}) as one:
        one.reporting._is_public = lambda address: address == "203.0.113.9"
        rows = await one.run()
        assert {(row.outcome, row.target) for row in rows} == {
            ("sent", "https://web.test/tls"),
            ("sent", "mailto:t@example.org"),
        }
        [(url, body, headers)] = one.posts
        assert (url, dict(headers)) == ("https://web.test/tls", {"Content-Type": "application/tlsrpt+gzip"})
        assert json.loads(gzip.decompress(body))["organization-name"] == "here.test"
    # Refused, down for a while, and one that leads inside.
    async with tls_desk(tmp_path / "b", "https://web.test/tls", **{"web.test": address}) as one:
        one.reporting._is_public = lambda _: True
        one.answer = HttpFailed("down")
        assert await one.run() == []
        one.answer = 503
        assert await one.run() == []
        one.answer = 404
        [row] = await one.run()
        assert (row.outcome, row.note) == ("failed", "web.test answers with 404")
    for number, inner in enumerate(("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254")):
        async with tls_desk(tmp_path / f"c{number}", "https://web.test/", **{"web.test": {"A": [inner]}}) as one:
            [row] = await one.run()
            assert (row.outcome, row.note, one.posts) == ("failed", "web.test is no public web server", [])


@on_loop
async def test_counts_of_tls_outlive_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    for _ in range(2):
        async with opened(tmp_path) as database:
            counts = Counts()
            recorder = Recorder(counts, database, clock, get_logger())
            counts.note("example.org", "mx.example.org", Finding(True, "", policy="sts"), "192.0.2.1")
            await recorder.close()
    async with opened(tmp_path) as database:
        day = clock.now() // DAY
        found = await database.read(report_counts.of_period, "tls", day, "example.org")
        assert found == [(["sts", "", "", ""], 2)]


@on_loop
async def test_the_whole_circle(tmp_path: Path) -> None:
    """What one server counts arrives at another's address for reports and stands in its tables."""
    async with house(tmp_path / "b", reports={"addresses": ["reports@posthouse.test"]}) as there:
        await there.database.write(accounts.add_address, "reports@posthouse.test", "alice@posthouse.test")
        await there.app.intake.still.wait()
        zone = {
            "_dmarc.posthouse.test": {"TXT": ["v=DMARC1; p=none; rua=mailto:reports@posthouse.test"]},
            "_smtp._tls.posthouse.test": {"TXT": ["v=TLSRPTv1; rua=mailto:reports@posthouse.test"]},
        }
        settings = house_settings(
            tmp_path / "a",
            hostname="mx.here.test",
            dns={"only_zone": True, "zone": zone},
            relay={"smarthost": {"host": "127.0.0.1", "port": there.ports["smtp"], "tls": "none"}},
        )
        came, arrived = 0, asyncio.Event()

        def on_change(changes: list[Any]) -> None:
            nonlocal came
            came += sum(isinstance(change, EntriesAdded) for change in changes)
            if came == 2:
                arrived.set()

        account = (await there.database.read(accounts.find_account, "alice@posthouse.test")).id
        there.app.feed.subscribe(account, on_change)
        async with App(settings) as app:
            await app.database.write(accounts.add_domain, "here.test", 1)
            # Yesterday's mail, and sessions.
            yesterday = FakeClock(app.clock.now() - 2 * DAY)
            tally = Tally(app.database, yesterday, get_logger())
            seen = ONE._replace(policy_domain="posthouse.test", header_from="posthouse.test")
            tally.note(seen)
            tally.note(seen._replace(source_ip="198.51.100.5", aligned_spf="fail", aligned_dkim="fail"))
            await tally.close()
            counts = Counts()
            recorder = Recorder(counts, app.database, yesterday, get_logger())
            counts.note("posthouse.test", "mx", Finding(True, "", "starttls-not-supported"), "192.0.2.1")
            await recorder.close()
            await asyncio.to_thread(opening.tell, settings.data, "reports")
            await arrived.wait()
            await there.app.intake.still.wait()
            sent = await app.database.read(report_counts.sent_since, 0)
            assert {(row.kind, row.outcome) for row in sent} == {("dmarc", "sent"), ("tls", "sent")}
        found = await there.database.read(report_tables.overview, 0, True)
        assert [(one.domain, one.kind, one.reports, one.counted, one.failed) for one in found] == [
            ("posthouse.test", "dmarc", 1, 2, 1),
            ("posthouse.test", "tls", 1, 1, 1),
        ]
        sources = await there.database.read(report_tables.sources, 0, "posthouse.test", True)
        assert {(one.source, one.messages, one.passed) for one in sources} == {
            ("192.0.2.1", 1, 1),
            ("198.51.100.5", 1, 0),
        }
        [result] = await there.database.read(report_tables.tls_results, 0, "posthouse.test", True)
        assert result[:4] == ("no-policy-found", "starttls-not-supported", "mx", 1)
        [report] = await there.database.read(report_tables.reports, "dmarc", 0)
        assert report.organization == "here.test"


@on_loop
async def test_from_mail_that_came_to_the_report_about_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "resolver": ZoneResolver(ZONE),
        **CLEAR,
        "authentication": {"exempt": []},
        "reports": {"addresses": ["reports@posthouse.test"]},
    }
    async with house(tmp_path, **options) as here:
        await here.database.write(accounts.add_address, "reports@posthouse.test", "bob@posthouse.test")
        assert (await send(here, "a@good.test", signed(mail("a@good.test"), "good.test"))).startswith("250")
        assert (await send(here, "a@other.test", mail("a@good.test"))).startswith("550")
        # A report of good.test about us, as other servers send them: no report about it.
        assert (await send(here, "a@good.test", mail("r@good.test"), "reports@posthouse.test")).startswith("250")

    def two_days_ago(tx: Tx) -> None:
        tx.run("UPDATE report_period SET day = day - 2, due = 0")
        tx.run("UPDATE report_count SET day = day - 2")

    captured: list[dict[str, object]] = []
    sent = asyncio.Event()

    def on_captured(facts: dict[str, object]) -> None:
        captured.append(facts)
        sent.set()

    async with house(tmp_path, captured=on_captured, **options) as here:
        keys = await sign_for(here.database, "posthouse.test")
        await here.database.write(two_days_ago)
        await asyncio.to_thread(opening.tell, here.app.settings.data, "reports")
        await sent.wait()
        [facts] = captured
        assert facts["recipients"] == ("reports@good.test",)
        content = Path(str(facts["file"])).read_bytes()
        # RFC 9990 section 3.5.2: what carries a report passes DMARC itself.
        assert {(one.word, one.domain) for one in await verified(content, keys, here.app.clock.now())} == {
            ("pass", "posthouse.test")
        }
        report = recognise.of_message(content)
        assert isinstance(report, Aggregate)
        assert sorted((one.disposition, one.dkim, one.spf, one.messages) for one in report.records) == [
            ("pass", "pass", "pass", 1),
            ("reject", "fail", "fail", 1),
        ]
        assert {one.dkim_results for one in report.records} == {(), (("good.test", "key", "pass"),)}
        assert {one.header_from for one in report.records} == {"good.test"}
