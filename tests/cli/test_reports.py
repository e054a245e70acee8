"""`posthouse reports`: tables, words, JSON, and files that anybody has."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.clock import SystemClock
from posthouse.base.errors import Permanent
from posthouse.cli import opening, output, report_words, reports
from posthouse.cli.output import Options
from posthouse.reports import dmarc_aggregate, tls_rpt
from posthouse.reports.dmarc_aggregate import Aggregate, Published, Record
from posthouse.reports.unpack import Unreadable
from posthouse.servers.report_intake import rows
from posthouse.store import report_counts, report_tables
from posthouse.store.database import Tx
from posthouse.store.report_counts import DAY, Counted, Period, Sent
from posthouse.store.report_tables import DmarcRow
from tests.cli.test_commands import Server
from tests.reports.test_recognise import FAILURE
from tests.reports.test_tls_rpt import REPORT

CONFIG = """hostname = 'mail.posthouse.test'
data = 'data'
[dns]
only_zone = true
[dns.zone."5.113.0.203.in-addr.arpa"]
PTR = ['mail.example.com']
"""
NOW = SystemClock().now()
AGGREGATE = Aggregate(
    "There \x1b[31m[bold]",
    "r@there.test",
    "r1",
    NOW // 1_000_000 - 86_400,
    NOW // 1_000_000,
    Published("example.org", p="none"),
    (
        Record(
            "203.0.113.5",
            312,
            "none",
            "fail",
            "fail",
            "example.org",
            "bounce.example.net",
            spf_results=(("bounce.example.net", "mfrom", "pass"),),
        ),
        Record("192.0.2.1", 688, "pass", "pass", "pass", "example.org"),
    ),
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    (tmp_path / "posthouse.toml").write_text(CONFIG)

    def fill(tx: Tx) -> None:
        for report in (AGGREGATE, REPORT._replace(end=NOW // 1_000_000)):
            for kept, dmarc, tls in rows(report, "there.test", NOW, 77):
                assert report_tables.add(tx, kept, dmarc, tls) == ""
        from posthouse.reports.recognise import of_message

        for kept, _, _ in rows(of_message(FAILURE), "there.test", NOW, 78):
            assert report_tables.add(tx, kept) == ""
        counted = Counted("there.test", [], 0, [(["x"], 3)])
        report_counts.add(tx, "dmarc", NOW // DAY, [counted])
        period = Period("dmarc", NOW // DAY, "there.test", [], 0, 0)
        sent = Sent(0, "dmarc", "there.test", NOW // DAY, "u1", "mailto:d@there.test", NOW, 900, 3, 5, "sent", "")
        report_counts.finish(tx, period, [sent, sent._replace(outcome="skipped", target="", note="nobody agrees")])

    opening.write(Options(tmp_path / "posthouse.toml"), fill)
    return server


WORDS = (
    "203.0.113.5 (mail.example.com) sent 312 messages as example.org that fail DMARC; "
    "SPF passes for bounce.example.net, which is not aligned; there is no DKIM signature; "
    "if you use that service, sign with DKIM d=example.org there, or "
    "let it send with a reverse-path below example.org; if you do not, it is somebody who uses your name."
)


def test_the_overview(server: Server) -> None:
    said = server.text("reports")
    assert "example.org  dmarc    1        1          1000     312     68 %" in said
    assert "example.org  tls" in said
    assert WORDS in said
    found = server.json("reports")
    assert found["advice"] == [WORDS]
    assert found["domains"][0]["counted"] == 1000
    assert "203.0.113.5 sent 312" in server.text("reports", "--no-names")
    assert server.text("reports", "--days", "0.01").strip()


def test_what_nobody_proves_is_left_out_and_said(server: Server) -> None:
    assert "left out" not in server.text("reports")

    def fill(tx: Tx) -> None:
        for report, trace in ((AGGREGATE._replace(report_id="r2"), 80), (REPORT._replace(report_id="r2"), 81)):
            for kept, dmarc, tls in rows(report, "", NOW, trace):
                assert report_tables.add(tx, kept._replace(ends=NOW), dmarc, tls) == ""
        tx.run("UPDATE report SET reporter = '' WHERE kind = 'failure'")

    opening.write(Options(server.path), fill)
    said = server.text("reports")
    assert "example.org  dmarc    1        1          1000     312     68 %  1" in said
    assert "3 reports are left out: neither DMARC nor DKIM proves who sent them" in said
    assert "--unverified" in said
    assert [one["counted"] for one in server.json("reports", "--unverified")["domains"]][:1] == [2000]
    assert "left out" not in server.text("reports", "--unverified")
    for kind, figure in (("dmarc", "312"), ("tls", "5326")):
        said = server.text("reports", kind)
        assert figure in said
        assert "1 report is left out" in said
        twice = server.text("reports", kind, "--unverified")
        assert str(2 * int(figure)) in twice
        assert "left out" not in twice
    assert "(unverified)" in server.text("reports", "failures")


def test_the_sources_of_a_domain(server: Server) -> None:
    said = server.text("reports", "dmarc", "Example.org")
    good, bad = (" ".join(line.split()) for line in said.splitlines()[1:3])
    assert good == "example.org 192.0.2.1 example.org 688 100 % 100 % 100 % 0 0 1"
    assert bad == "example.org 203.0.113.5 example.org 312 0 % 0 % 0 % 0 0 1"
    assert WORDS in said
    assert server.json("reports", "dmarc")["sources"][1]["messages"] == 312
    assert "No DMARC report about other.test" in server.text("reports", "dmarc", "other.test")


def test_tls_failures_and_what_went_out(server: Server) -> None:
    said = server.text("reports", "tls")
    assert "100 sessions to mx1.example.org of example.org failed: the certificate had expired; renew it" in said
    assert [one["sessions"] for one in server.json("reports", "tls")["results"]] == [203, 100, 5326, 1]
    said = server.text("reports", "failures")
    assert "192.0.2.9" in said
    assert "boss@example.org" in said
    assert server.json("reports", "failures")[0]["facts"]["failed"] == "dmarc"
    said = server.text("reports", "sent")
    assert "d@there.test" in said
    assert "nobody agrees" in said
    told = server.json("reports", "sent")
    assert [one["outcome"] for one in told] == ["skipped", "sent"]
    assert (told[0]["at"], told[0]["day"]) == (output.when(NOW), output.when(NOW)[:10])
    assert server.json("reports", "sent", "other.test") == []


def test_what_is_counted_before_it_leaves(server: Server) -> None:
    assert "Nothing waits to be reported. Only domains that ask" in server.text("reports", "counted")
    assert server.json("reports", "counted") == []
    today = NOW // DAY

    def facts(header_from: str, spf: str, dkim: str) -> list[Any]:
        return ["192.0.2.1", header_from, "b.test", ["b.test", "mfrom", "pass"], [], spf, dkim, "none", []]

    def fill(tx: Tx) -> None:
        seen = [(facts("b.test", "pass", "fail"), 5), (facts("x.b.test", "fail", "pass"), 2)]
        seen += [(facts("b.test", "fail", "fail"), 4)]
        report_counts.add(tx, "dmarc", today, [Counted("b.test", ["v=DMARC1"], NOW + DAY, seen)])
        report_counts.add(tx, "dmarc", today - 1, [Counted("old.test", ["v=DMARC1"], NOW, seen[:1])])
        report_counts.later(tx, Period("dmarc", today - 1, "old.test", [], 0, 0), NOW + 1)
        tls = [(["sts", "", "", ""], 30), (["sts", "certificate-expired", "mx.b.test", "192.0.2.1"], 10)]
        report_counts.add(tx, "tls", today, [Counted("b.test", [], NOW + DAY, tls)])
        report_counts.add(tx, "tls", today, [Counted("odd.test", [], NOW + DAY, [(["of another version"], 1)])])
        tx.run("UPDATE report_period SET lost = 7 WHERE kind = 'tls' AND domain = 'b.test'")

    opening.write(Options(server.path), fill)
    lines = [" ".join(line.split()) for line in server.text("reports", "counted").splitlines()]
    day, before = output.when(NOW)[:10], output.when(NOW - DAY)[:10]
    assert lines[0] == "Day Kind About Counted Failed Pass No room Goes out Attempts"
    assert lines[1] == f"{day} tls b.test 40 10 75 % 7 {output.when(NOW + DAY)}"
    assert lines[2] == f"{day} dmarc b.test 11 4 63 % {output.when(NOW + DAY)}"
    assert lines[3] == f"{day} tls odd.test 1 0 100 % {output.when(NOW + DAY)}"
    assert lines[4] == f"{before} dmarc old.test 5 0 100 % {output.when(NOW + 1)} 1"
    told = server.json("reports", "counted", "B.test")
    assert [(one["kind"], one["counted"], one["failed"], one["lost"]) for one in told] == [
        ("tls", 40, 10, 7),
        ("dmarc", 11, 4, 0),
    ]
    assert (told[0]["day"], told[0]["due"]) == (day, output.when(NOW + DAY))
    assert "Nothing about other.test waits" in server.text("reports", "counted", "other.test")


def test_of_very_many_that_wait_the_first_are_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_WAITING", 2)

    def fill(tx: Tx) -> None:
        for number in range(3):
            report_counts.add(
                tx, "tls", 20_000, [Counted(f"d{number}.test", [], NOW, [(["sts", "", "", ""], number + 1)])]
            )

    opening.write(Options(server.path), fill)
    said = server.text("reports", "counted")
    assert "d2.test" in said
    assert "d0.test" not in said
    assert "These are the first 2" in said


def test_files_of_anybody(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "r.xml.gz"
    file.write_bytes(gzip.compress(dmarc_aggregate.write(AGGREGATE)))
    said = server.text("reports", "read", str(file))
    assert "\x1b" not in said
    assert "There [31m[bold], " in said  # what XML cannot hold is left out; what rich would act upon stays text
    assert "Policy: domain=example.org; p=none" in said
    assert "203.0.113.5 sent 312 messages as example.org that fail DMARC" in said
    assert server.json("reports", "read", str(file))["records"][0]["messages"] == 312
    assert "203.0.113.5 (mail.example.com) sent" in server.text("reports", "read", "--names", str(file))
    file.write_bytes(tls_rpt.write(REPORT))
    assert "certificate-expired" in server.text("reports", "read", str(file))
    assert server.json("reports", "read", str(file))["kind"] == "tls"
    file.write_bytes(FAILURE)
    assert "boss@example.org" in server.text("reports", "read", str(file))
    file.write_bytes(b"<html/>")
    with pytest.raises(Unreadable, match="no DMARC report"):
        server.text("reports", "read", str(file))
    with pytest.raises(Permanent, match="No such file"):
        server.text("reports", "read", str(tmp_path / "gone"))


PASS, FAIL = "pass", "fail"
FACTS: list[tuple[dict[str, Any], str]] = [
    ({"spf": [["example.org", "mfrom", "softfail"]]}, "add ip4:192.0.2.1 to the SPF record of example.org"),
    ({"spf": [["other.test", "mfrom", "fail"]]}, "if it is yours, let it sign with DKIM d=example.org"),
    ({"dkim": [["service.test", "s1", "pass"]]}, "DKIM passes for service.test, which is not aligned"),
    ({"dkim": [["example.org", "s1", "fail"]]}, "the signature of example.org (selector s1) says fail; either it was"),
    ({"spf": [["l.test", "mfrom", "pass"]], "reasons": [["mailing_list", ""]]}, "nothing to do"),
    ({"spf": [["news.example.org", "mfrom", "pass"]]}, "(too strict?)"),
    ({"spf": [["", "", ""]], "dkim": []}, "the sender has no SPF record; there is no DKIM signature"),
    ({}, "there is no DKIM signature"),
]


@pytest.mark.parametrize(("facts", "words"), FACTS)
def test_words_about_sources(facts: dict[str, Any], words: str) -> None:
    row = DmarcRow("192.0.2.1", "example.org", False, False, "none", 1, facts)
    said = report_words.source([row], 1, "example.org")
    assert said.startswith("192.0.2.1 sent 1 message as example.org that fail")
    assert words in said
    assert said.endswith(".")


def test_every_result_of_the_rfc_has_words() -> None:
    for result in (
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-expired",
        "certificate-not-trusted",
        "validation-failure",
        "tlsa-invalid",
        "dnssec-invalid",
        "dane-required",
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
    ):
        assert "they say" not in report_words.tls(result, 1, "mx.test", "example.org", {})
    assert "they say odd" in report_words.tls("odd", 2, "", "example.org", {"reason": "x"})
