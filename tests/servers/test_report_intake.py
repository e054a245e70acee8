"""Reports of others: what is kept of them, what is not, and that nothing counts twice."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from posthouse.base.log import get_logger
from posthouse.delivery.directory import Directory
from posthouse.delivery.inject import Injector
from posthouse.mime.compose import Attachment, message
from posthouse.reports import tls_rpt
from posthouse.servers import report_intake
from posthouse.servers.report_intake import ReportIntake
from posthouse.store import accounts, events, report_tables
from posthouse.store.report_tables import DAY
from tests.queue.site import Site, site
from tests.reports.test_dmarc_aggregate import META, POLICY, feedback
from tests.reports.test_recognise import FAILURE
from tests.reports.test_tls_rpt import REPORT
from tests.support.loop import on_loop

DMARC = "dmarc@here.test"
ABOUT = POLICY.replace("example.org", "here.test")


def mail(data: bytes, type_: str = "application/gzip", name: str = "r.xml.gz") -> bytes:
    return message(
        sender="r@there.test",
        to=[DMARC],
        subject="Report",
        date=0,
        message_id="1@there.test",
        text="A report.",
        attachments=[Attachment(data, type_, name)],
    )


def dmarc(text: str) -> bytes:
    return mail(gzip.compress(text.encode()))


class Desk:
    def __init__(self, here: Site) -> None:
        self.here = here
        self.directory = Directory(here.database, here.feed, "mail.here.test")
        self.injector = Injector(here.database, self.directory, here.clock, here.ids, "mail.here.test", 5.0)
        self.intake = self.new()

    def new(self) -> ReportIntake:
        here = self.here
        return ReportIntake(
            here.settings, here.database, here.feed, self.directory.resolve, here.clock, here.ids, get_logger()
        )

    async def arrives(
        self, content: bytes, to: str = DMARC, sender: str = "r@there.test", came: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """What the trace says of a message that came; `came` is what it says of how, by default that DMARC passed."""
        passed = {"authentication": {"dmarc": {"result": "pass", "author": sender.rpartition("@")[2]}}}
        keep = await self.injector.keeper(sender, [to], content, passed if came is None else came)
        assert keep is not None
        await self.here.database.write(keep)
        await self.intake.still.wait()
        return await self.told(keep.trace)

    async def told(self, trace: int) -> list[dict[str, Any]]:
        found = await self.here.database.read(events.of_trace, trace)
        return [event.data for event in found if event.kind == "report"]

    async def overview(self) -> list[tuple[str, str, int, int, int]]:
        found = await self.here.database.read(report_tables.overview, 0)
        return [(one.domain, one.kind, one.reports, one.counted, one.failed) for one in found]


@asynccontextmanager
async def desk(**options: Any) -> AsyncIterator[Desk]:
    async with site(reports={"addresses": (DMARC,)}, **options) as here:
        await here.database.write(accounts.add_account, "desk@here.test", "hash", 1)
        await here.database.write(accounts.add_address, DMARC, "desk@here.test")
        one = Desk(here)
        await one.intake.start()
        await one.intake.still.wait()
        try:
            yield one
        finally:
            await one.intake.close()


@on_loop
async def test_reports_of_each_kind_go_into_tables() -> None:
    async with desk() as one:
        [told] = await one.arrives(dmarc(feedback(policy=ABOUT)))
        assert told == {
            "kind": "dmarc",
            "about": "here.test",
            "organization": "There",
            "report_id": "r1",
            "reporter": "there.test",
            "counted": 2,
            "failed": 0,
        }
        policies = [policy._replace(domain="here.test") for policy in REPORT.policies]
        two = REPORT._replace(policies=(*policies, policies[0]._replace(domain="sub.here.test")))
        about = await one.arrives(mail(tls_rpt.write(two), "application/tlsrpt+json", "r.json"))
        assert [told["about"] for told in about] == ["here.test", "sub.here.test"]
        await one.arrives(FAILURE.replace(b"Example.org", b"here.test"))
        assert await one.overview() == [
            ("here.test", "dmarc", 1, 2, 0),
            ("here.test", "failure", 1, 3, 3),
            ("here.test", "tls", 1, 5630, 303),
            ("sub.here.test", "tls", 1, 5629, 303),
        ]
        [failure] = await one.here.database.read(report_tables.reports, "failure", 0, "here.test")
        assert (failure.organization, failure.facts["source_ip"]) == ("there.test", "192.0.2.9")
        results = await one.here.database.read(report_tables.tls_results, 0, "here.test")
        assert [row[:4] for row in results] == [
            ("sts", "validation-failure", "mx2.example.org", 203),
            ("sts", "certificate-expired", "mx1.example.org", 100),
            ("sts", "", "", 5326),
            ("no-policy-found", "", "", 1),
        ]


@on_loop
async def test_a_report_counts_once() -> None:
    async with desk() as one:
        same = dmarc(feedback(policy=ABOUT))
        await one.arrives(same)
        [told] = await one.arrives(same)
        assert told["ignored"] == "it came before"
        # Another reporter may use the same id, and the same reporter another.
        await one.arrives(dmarc(feedback(policy=ABOUT, meta=META.replace("There", "Elsewhere"))))
        await one.arrives(dmarc(feedback(policy=ABOUT, meta=META.replace("r1", "r2"))))
        assert await one.overview() == [("here.test", "dmarc", 3, 6, 0)]


def signed(policy: str = "none", **more: Any) -> dict[str, Any]:
    signature = {"result": "pass", "domain": "there.test"} | more
    return {"authentication": {"dmarc": {"result": policy, "author": "mail.there.test"}, "dkim": [signature]}}


@pytest.mark.parametrize(
    ("came", "domain"),
    [
        ({}, ""),
        ({"login": "amy@here.test"}, "here.test"),
        ({"notice": "DMARC report"}, report_intake.HERE),
        ({"released": "x"}, ""),
        ({"authentication": {"spf": [{"result": "pass", "domain": "there.test"}]}}, ""),
        ({"authentication": {"dmarc": {"result": "fail", "author": "there.test"}}}, ""),
        (signed("pass", result="fail"), "mail.there.test"),
        (signed(), "mail.there.test"),
        (signed("fail"), ""),
        (signed("temperror"), ""),
        (signed(result="fail"), ""),
        (signed(domain="else.test"), ""),
        (signed(domain="re.test"), ""),
        (signed(domain="a.mail.there.test"), ""),
        (signed(weak=["l= leaves the end open"]), ""),
        (signed(testing=True), ""),
    ],
)
def test_who_certainly_sent_it(came: dict[str, Any], domain: str) -> None:
    assert report_intake.proven(came) == domain


@on_loop
async def test_what_is_not_verified_is_in_no_figure_and_hides_nothing() -> None:
    async with desk() as one:
        same = dmarc(feedback(policy=ABOUT))
        [told] = await one.arrives(same, came={})
        assert told["unverified"] is True
        assert "reporter" not in told
        assert await one.overview() == [("here.test", "dmarc", 0, 0, 0)]
        read = one.here.database.read
        assert await read(report_tables.sources, 0, "here.test") == []
        # Somebody who can prove another domain has the same name and id, and then the real one comes.
        for sender in ("r@else.test", "r@there.test", "r@there.test"):
            told = (await one.arrives(same, sender=sender))[-1]
        assert told["ignored"] == "it came before"
        assert await one.overview() == [("here.test", "dmarc", 2, 4, 0)]
        [told] = await one.arrives(same, came={})
        assert told["ignored"] == "it came before"
        [seen] = await read(report_tables.overview, 0)
        assert (seen.reporters, seen.unverified) == (2, 1)
        [seen] = await read(report_tables.overview, 0, True)
        assert (seen.reports, seen.reporters, seen.counted, seen.unverified) == (3, 3, 6, 0)
        assert sum(row.messages for row in await read(report_tables.sources, 0, "here.test")) == 4
        assert sum(row.messages for row in await read(report_tables.sources, 0, "here.test", True)) == 6


@on_loop
async def test_a_flood_of_what_is_not_verified_leaves_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_tables, "MOST_A_DAY", 2)
    async with desk() as one:
        for number in range(3):
            last = await one.arrives(dmarc(feedback(policy=ABOUT, meta=META.replace("r1", f"r{number}"))), came={})
        assert last[0]["ignored"] == "more than 1 reports that are not verified came in a day"
        [told] = await one.arrives(dmarc(feedback(policy=ABOUT)))
        assert "ignored" not in told


@on_loop
async def test_what_is_left_out_says_why() -> None:
    async with desk() as one:
        for content, why in (
            (dmarc(feedback()), "the domain is not of this server"),
            (dmarc(feedback(policy=POLICY.replace("example.org", "nothere.test"))), "the domain is not of this server"),
            (dmarc("<html/>"), "the message holds no report"),
            (mail(gzip.compress(bytes(20_000_000))), "the report unpacks to more than 200 times its size"),
            (b"Subject: hello\r\n\r\nBuy reports!\r\n", "the message holds no report"),
            (b"", "the message holds no report"),
        ):
            [told] = await one.arrives(content)
            assert told["ignored"] == why or (why == "the message holds no report" and "no" in told["ignored"])
        # Not to one of the addresses: nobody looks.
        assert await one.arrives(dmarc(feedback(policy=ABOUT)), to="desk@here.test") == []
        assert await one.overview() == []


@on_loop
async def test_what_came_while_nobody_looked_is_looked_at_once() -> None:
    async with desk() as one:
        await one.intake.close()
        came = {"authentication": {"dmarc": {"result": "pass", "author": "there.test"}}}
        keep = await one.injector.keeper("r@there.test", [DMARC], dmarc(feedback(policy=ABOUT)), came)
        assert keep is not None
        await one.here.database.write(keep)
        for _ in range(2):
            again = one.new()
            await again.start()
            await again.still.wait()
            await again.close()
            # As after a crash: it is looked at once more.
            await one.here.database.write(lambda tx: tx.run("DELETE FROM looked_at"))
        assert await one.overview() == [("here.test", "dmarc", 1, 2, 0)]
        assert len(await one.told(keep.trace)) == 1


@on_loop
async def test_there_is_an_end_to_reports_of_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_tables, "MOST_A_DAY", 4)
    said = []
    async with desk() as one:
        for number in range(6):
            [told] = await one.arrives(
                dmarc(feedback(policy=ABOUT, meta=META.replace("r1", f"r{number}"))),
                sender=f"r@{'there' if number < 3 else 'other'}.test",
            )
            said.append(told.get("ignored", ""))
        assert said[2] == "more than 2 reports of there.test came in a day"
        assert said[5] == "more than 4 reports came in a day"
        assert [row[2] for row in await one.overview()] == [4]


@on_loop
async def test_there_is_an_end_to_rows_of_a_day_and_of_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail of 200 KB may have 30,000 of them, and each the longest domains."""
    signatures = "<dkim><domain>" + "d" * 250 + "</domain><result>fail</result></dkim>"
    row = (
        "<record><row><source_ip>192.0.2.1</source_ip><count>{0}</count></row><identifiers><header_from>here.test"
        "</header_from></identifiers><auth_results>" + signatures * 10 + "</auth_results></record>"
    )

    def report(name: str, rows: int) -> bytes:
        records = "".join(row.format(number) for number in range(rows))
        return dmarc(
            feedback(policy=ABOUT, meta=META.replace("r1", name)).replace("</feedback>", records + "</feedback>")
        )

    monkeypatch.setattr(report_tables, "MOST_ROWS_A_DAY", 60)
    monkeypatch.setattr(report_intake, "MAX_ROWS", 20)
    async with desk() as one:
        [told] = await one.arrives(report("a", 200))
        assert told["counted"] >= sum(range(200))
        kept = await one.here.database.read(
            lambda tx: tx.all("SELECT messages, length(facts) FROM dmarc_row ORDER BY messages DESC")
        )
        assert [messages for messages, _ in kept] == list(range(199, 179, -1))
        assert all(octets < 1000 for _, octets in kept)
        [told] = await one.arrives(report("b", 200))
        assert told["ignored"] == "more than 30 rows of reports of there.test came in a day"
        assert "ignored" not in (await one.arrives(report("c", 30), sender="r@other.test"))[0]


@on_loop
async def test_old_reports_go_and_those_from_the_future_do_too() -> None:
    async with desk() as one:
        future = META.replace("1700086399", "99999999999")
        await one.arrives(dmarc(feedback(policy=ABOUT, meta=future)))
        await one.arrives(dmarc(feedback(policy=ABOUT, meta=META.replace("r1", "r2").replace("1700", "1790"))))
        [_, late] = await one.here.database.read(report_tables.reports, "dmarc", 0)
        assert late.ends <= one.here.clock.now()
        await one.intake.tidy()
        assert [row[2] for row in await one.overview()] == [2]
        one.here.clock.move(401 * DAY / 1e6)
        await one.intake.tidy()
        assert await one.overview() == []
        left = await one.here.database.read(lambda tx: tx.all("SELECT * FROM dmarc_row"))
        assert left == []


def test_domains_below_ours_are_ours() -> None:
    @on_loop
    async def test() -> None:
        async with site() as here:
            for domain, ours in (
                ("here.test", True),
                ("a.b.here.test", True),
                ("there.test", False),
                ("xhere.test", False),
                ("test", False),
                ("", False),
                (".".join(["a"] * 120) + ".here.test", True),
            ):
                assert await here.database.read(report_intake.is_ours, domain) is ours

    test()


@on_loop
async def test_many_at_once_do_not_stop_the_loop() -> None:
    async with desk() as one:
        big = "<record>" + feedback(policy=ABOUT).partition("<record>")[2].partition("</feedback>")[0]
        await one.arrives(dmarc(feedback(policy=ABOUT).replace("</feedback>", big * 3000 + "</feedback>")))
        await asyncio.sleep(0)
        assert await one.overview() == [("here.test", "dmarc", 1, 6002, 0)]


@on_loop
async def test_a_fault_with_one_message_does_not_stand_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as one:
        with monkeypatch.context() as broken:
            broken.setattr(report_intake, "rows", lambda *_: 1 // 0)
            [told] = await one.arrives(dmarc(feedback(policy=ABOUT)))
        assert told["ignored"] == "it could not be looked at: an error of this server"
        await one.arrives(dmarc(feedback(policy=ABOUT)))
        assert await one.overview() == [("here.test", "dmarc", 1, 2, 0)]
