"""`posthouse dmarc check` and `dmarc record`, against a name server on loopback."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from typer.testing import CliRunner

from posthouse.cli.main import app
from tests.senderauth import example
from tests.support.nameserver import NameServer, Table

TABLE: Table = {
    ("_dmarc.football.example.com.", "TXT"): ['"v=DMARC1; p=reject; adkim=s"'],
    ("default._bimi.football.example.com.", "TXT"): ['"v=BIMI1; l=https://example.com/logo.svg"'],
    ("sender.test.", "TXT"): ['"v=spf1 ip4:192.0.2.1 -all"'],
    ("_dmarc.sender.test.", "TXT"): ['"v=DMARC1; p=reject; pct=20"'],
    ("_dmarc.faulty.test.", "TXT"): ['"v=DMARC1; p=quarantine; sp=x; rua=ann@faulty.test"'],
    ("faulty.test.", "TXT"): ['"v=DMARC1; p=none"'],
    ("_dmarc.two.test.", "TXT"): ['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'],
    ("_dmarc.far.test.", "TXT"): ['"v=DMARC1; p=none; rua=mailto:a@yes.test,mailto:a@no.test,mailto:a@in.far.test"'],
    ("far.test._report._dmarc.yes.test.", "TXT"): ['"v=DMARC1"'],
    ("_dmarc.down.test.", "TXT"): "SERVFAIL",
    **{
        (f"{name}.", "TXT"): [" ".join(f'"{text[at : at + 200].decode()}"' for at in range(0, len(text), 200))]
        for name, records in example.ZONE.items()
        for text in records["TXT"]
    },
}
PLAIN = b"From: Ann <ann@%b>\r\nSubject: x\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def where() -> Iterator[str]:
    with name_server() as found:
        yield found


@contextmanager
def name_server() -> Iterator[str]:
    """A name server in a thread, as the command has a loop of its own."""
    server, ready, port = NameServer(TABLE), Event(), 0
    done: asyncio.Event
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal port, done
        done = asyncio.Event()
        port = await server.start()
        ready.set()
        await done.wait()
        await server.stop()

    thread = Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(lambda: done.set())
        thread.join()
        loop.close()


def test_a_bounce_that_names_nobody(where: str) -> None:
    plain = b"From: MAILER-DAEMON\r\n\r\nno such user\r\n"
    for above, arguments, word in (
        (b"", (), "permerror"),  # who knows whether it is a bounce
        (b"", ("--mail-from", ""), "none"),
        (b"Return-Path: <>\r\n", (), "none"),
        (b"Return-Path: <a@sender.test>\r\n", (), "permerror"),
        (b"Return-Path: <>\r\nSender: a@b.test\r\n", (), "permerror"),
    ):
        code, text = run("check", "--resolver", where, *arguments, message=above + plain)
        assert (code, text.splitlines()[-1]) == (0, word), text
        assert ("A bounce of an old server" in text) is (word == "none")


def run(*arguments: str, message: bytes = b"") -> tuple[int, str]:
    done = CliRunner().invoke(app, ["dmarc", *arguments], input=message)
    return done.exit_code, done.stdout or str(done.exception)


def test_a_signature_proves_the_author(where: str) -> None:
    who = ["--ip", "192.0.2.1", "--helo", "mail.sender.test", "--mail-from", "joe@sender.test"]
    code, said = run("check", *who, "--resolver", where, message=example.MESSAGE)
    lines = said.splitlines()
    assert (code, lines[-1]) == (0, "pass")
    rows = [line.split()[:3] for line in lines]
    assert ["SPF", "MAIL", "FROM"] in rows
    assert ["DKIM", "pass", "football.example.com"] in rows
    assert ["DMARC", "pass", "football.example.com"] in rows
    assert ["BIMI", "found", "football.example.com"] in rows
    assert "SPF proves sender.test, but the record wants the very domain of From." not in said
    assert "DKIM proves football.example.com, and it is the domain of From." in said
    assert "The message comes from football.example.com, as far as that domain has a say." in said


@pytest.mark.parametrize(
    ("author", "options", "word", "sentence"),
    [
        (b"sender.test", ["--ip", "192.0.2.1", "--mail-from", "joe@sender.test"], "pass", "SPF proves sender.test"),
        (b"sender.test", ["--ip", "192.0.2.1", "--helo", "sender.test"], "pass", "SPF proves sender.test"),
        (b"a.sender.test", ["--ip", "192.0.2.1", "--mail-from", "x@sender.test"], "pass", "of the organization"),
        (b"sender.test", ["--ip", "192.0.2.9", "--mail-from", "joe@sender.test"], "fail", "wants it refused"),
        (b"sender.test", [], "fail", "SPF was not checked: --ip says which address the message came from."),
        (b"faulty.test", [], "permerror", "sp=x is not none, quarantine or reject"),
        (b"nothing.test", [], "none", "There is no DMARC record for nothing.test."),
        (b"down.test", [], "temperror", "when the DNS answers"),
        (b"a..b", [], "permerror", "is not the name of a domain"),
        (b"\x1b[31mred.test", [], "permerror", "\\x1b[31mred.test"),
    ],
)
def test_results(where: str, tmp_path: Path, author: bytes, options: list[str], word: str, sentence: str) -> None:
    (tmp_path / "message.eml").write_bytes(PLAIN % author)
    code, said = run("check", str(tmp_path / "message.eml"), *options, "--resolver", where)
    assert (code, said.splitlines()[-1]) == (0, word), said
    assert sentence in said
    assert "\x1b" not in said


def test_the_sender_stands_in_return_path(where: str) -> None:
    message = b"Return-Path: <joe@sender.test>\r\n" + PLAIN % b"sender.test"
    assert run("check", "--ip", "192.0.2.1", "--resolver", where, message=message)[1].endswith("\npass\n")
    empty = ["--mail-from", "", "--helo", "other.test"]
    assert run("check", "--ip", "192.0.2.1", *empty, "--resolver", where, message=message)[1].endswith("\nfail\n")


def test_json(where: str) -> None:
    code, said = run("check", "--ip", "192.0.2.1", "--json", "--resolver", where, message=example.MESSAGE)
    found = json.loads(said)
    assert code == 0
    assert [one["word"] for one in found["dkim"]] == ["pass", "pass"]
    assert found["dmarc"]["word"] == "pass"
    assert found["dmarc"]["published"]["adkim"] == "s"
    assert found["dmarc"]["lookups"][0]["name"] == "_dmarc.football.example.com"
    assert found["bimi"]["location"] == "https://example.com/logo.svg"


def test_wrong_calls(where: str) -> None:
    assert "'x' is not an IP address" in run("check", "--ip", "x", "--resolver", where)[1]
    assert run("check", "--ip", "192.0.2.1", "--resolver", "x:y")[0] == 2
    assert "is not the name of a domain" in run("record", "a..b", "--resolver", where)[1]


def test_a_record_in_words(where: str) -> None:
    code, said = run("record", "sub.faulty.test", "--resolver", where)
    assert code == 0
    assert said.startswith("v=DMARC1; p=quarantine; sp=x; rua=ann@faulty.test\n")
    assert "It is the record of faulty.test: sub.faulty.test has none itself." in said
    assert "The organization is faulty.test." in said
    assert "Mistake: 'ann@faulty.test' is no URI: write mailto: before it" in said
    assert "Mistake: servers ignore this record" in said
    assert "its place is _dmarc.faulty.test" in run("record", "faulty.test", "--resolver", where)[1]
    found = json.loads(run("record", "Sender.Test.", "--json", "--resolver", where)[1])
    assert (found["domain"], found["policy"], found["organization"]) == ("sender.test", "reject", "sender.test")
    assert found["mistakes"] == ["pct= is of RFC 7489: t=y says that a policy is only tried"]


def test_reports_to_others_need_their_word(where: str) -> None:
    found = json.loads(run("record", "far.test", "--json", "--resolver", where)[1])
    assert found["mistakes"] == [
        "no.test does not say that it takes these reports: "
        'it needs a TXT record "v=DMARC1" at far.test._report._dmarc.no.test'
    ]


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        ("nothing.test", "nothing.test has no DMARC record"),
        ("two.test", "_dmarc.two.test has 2 DMARC records: servers ignore them all"),
        ("down.test", "no answer from the DNS for _dmarc.down.test TXT"),
    ],
)
def test_no_record(where: str, domain: str, sentence: str) -> None:
    code, said = run("record", domain, "--resolver", where)
    assert code == 1
    assert sentence in said
