"""Who sent a message, as servers that bring mail meet it: what is taken, refused, put into Junk, and written down."""

import asyncio
import hashlib
import io
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from posthouse.app import App
from posthouse.base.clock import SystemClock
from posthouse.cli import story, timeline
from posthouse.net.dns import Resolver, SystemResolver, ZoneResolver
from posthouse.senderauth import arc, dkim
from posthouse.senderauth.dkim import Signer, record_of
from posthouse.store import accounts, mailboxes, messages, outbox_admin, quota, traces
from posthouse.store.database import Tx
from tests.senderauth.keys import rsa_key
from tests.servers.test_refusals import tell
from tests.servers.test_smtp_more import CLEAR, listening, submitted
from tests.support.clock import FakeClock
from tests.support.house import House, opened, settings
from tests.support.nameserver import NameServer

HERE = {"TXT": [b"v=spf1 ip4:127.0.0.1 -all"]}
ELSEWHERE = {"TXT": [b"v=spf1 ip4:192.0.2.1 -all"]}


def policy(text: str) -> dict[str, list[bytes]]:
    return {"TXT": [f"v=DMARC1; {text}".encode()]}


ZONE: dict[str, Mapping[str, Any] | None] = {
    "good.test": HERE,
    "_dmarc.good.test": policy("p=reject; rua=mailto:reports@good.test"),
    "key._domainkey.good.test": {"TXT": [record_of(rsa_key()).encode()]},
    "bank.test": ELSEWHERE,
    "_dmarc.bank.test": policy("p=reject; sp=quarantine"),
    "key._domainkey.bank.test": {"TXT": [record_of(rsa_key()).encode()]},
    "soft.test": ELSEWHERE,
    "_dmarc.soft.test": policy("p=quarantine"),
    "tests.test": ELSEWHERE,
    "_dmarc.tests.test": policy("p=reject; t=y"),
    "lax.test": ELSEWHERE,
    "_dmarc.lax.test": policy("p=none"),
    "other.test": HERE,
    "list.test": HERE,
    "key._domainkey.fwd.test": {"TXT": [record_of(rsa_key()).encode()]},
    "key._domainkey.odd.test": {"TXT": [record_of(rsa_key()).encode()]},
    "plain.test": {"A": ["192.0.2.9"]},
    "far.test": None,
    "_dmarc.lame.bank.test": None,
    "down.test": None,
    "_dmarc.down.test": None,
    "mx.sender.test": {"A": ["127.0.0.1"]},
    "1.0.0.127.in-addr.arpa": {"PTR": ["mx.sender.test"]},
}
FORGED = b"Authentication-Results: mail.posthouse.test; dmarc=pass header.from=bank.test\r\n"


def message(author: str, *, above: bytes = b"", body: bytes = b"hello\r\n") -> bytes:
    fields = f"From: Ann <{author}>\r\nTo: bob@posthouse.test\r\nSubject: hi\r\nMessage-ID: <{author}>\r\n\r\n"
    return above + fields.encode() + body


def signed(raw: bytes, domain: str) -> bytes:
    return dkim.sign(raw, [Signer(domain, "key", rsa_key())], None)


def run(
    folder: Path,
    test: Callable[[House], Awaitable[None]],
    resolver: Resolver | None = None,
    chosen: Mapping[str, Any] = {},
    **changes: Any,
) -> None:
    async def main() -> None:
        asked = resolver or ZoneResolver(ZONE)
        how = CLEAR | changes | {"authentication": {"exempt": [], **chosen}}
        async with asyncio.timeout(120), opened(folder, resolver=asked, **how) as house:
            await test(house)

    asyncio.run(main())


async def send(
    house: House, sender: str, raw: bytes, *recipients: str, service: str = "smtp", hello: str = "EHLO mx.sender.test"
) -> str:
    """The reply to a message by DATA."""
    to = [f"RCPT TO:<{one}>" for one in recipients or ("bob@posthouse.test",)]
    dotted = raw.replace(b"\r\n.", b"\r\n..")
    return (await house.said(service, hello, f"MAIL FROM:<{sender}>", *to, "DATA", dotted + b"."))[-1]


async def in_mailbox(house: House, use: str = "\\Junk", name: str = "bob") -> list[bytes]:
    def read(tx: Tx) -> list[bytes]:
        rows = tx.all(
            "SELECT email_id FROM entry JOIN mailbox ON mailbox.id = mailbox_id JOIN account "
            "ON account.id = account_id WHERE special_use = ? AND account.name = ? ORDER BY uid",
            use,
            f"{name}@posthouse.test",
        )
        return [messages.read_source(tx, email_id) for (email_id,) in rows]

    return await house.database.read(read)


async def story_of(house: House, text: str) -> tuple[dict[str, Any], str]:
    """What the trace of a message says, and its story as a person reads it. `text` is a reply with an id."""
    await asyncio.to_thread(tell, house.app.settings.data)
    number = int((await house.database.read(lambda tx: tx.all("SELECT max(trace) FROM event")))[0][0])
    case = await house.database.read(traces.case, number)
    assert case is not None
    told = story.tell(case, house.app.clock.now())
    rows = timeline.rows(told.lines, None)
    assert text
    return dict(case.events[0].data), "\n".join("".join(piece for piece, _ in row).strip() for row in rows)


# Sender, author, who signs, the reply, the words of Authentication-Results, whether it is in Junk
CASES = {
    "both": ("a@good.test", "a@good.test", "good.test", "250", "spf=pass dkim=pass dmarc=pass", False),
    "SPF alone": ("a@good.test", "a@good.test", "", "250", "spf=pass dkim=none dmarc=pass", False),
    "DKIM alone": ("a@other.test", "a@bank.test", "bank.test", "250", "spf=pass dkim=pass dmarc=pass", False),
    "of a subdomain": ("a@b.good.test", "a@good.test", "good.test", "250", "spf=none dkim=pass dmarc=pass", False),
    "forged": ("a@bank.test", "a@bank.test", "", "550 5.7.26 bank.test asks by DMARC (p=reject)", "", False),
    "a NUL in From": ("a@good.test", "a@bank.test\0", "", "550 5.7.1 The From field does not say who wrote", "", False),
    "no domain": ("a@good.test", "bank.test", "", "550 5.7.1 The From field does not say who wrote this", "", False),
    "DNS of a name below is down": ("a@other.test", "a@lame.bank.test", "", "451 4.4.3 ", "", False),
    "forged From": ("a@other.test", "a@bank.test", "", "550 5.7.1 bank.test asks by DMARC (p=reject)", "", False),
    "signed by another": ("a@other.test", "a@bank.test", "good.test", "550 5.7.1 ", "", False),
    "to Junk": ("a@soft.test", "a@soft.test", "", "250", "spf=fail dkim=none dmarc=fail", True),
    "of a subdomain that has none": ("a@other.test", "a@x.bank.test", "", "250", "dmarc=fail", True),
    "only tested": ("a@tests.test", "a@tests.test", "", "250", "dmarc=fail", True),
    "lax": ("a@lax.test", "a@lax.test", "", "250", "spf=fail dmarc=fail", False),
    "without a policy": ("a@plain.test", "a@plain.test", "", "250", "spf=none dkim=none dmarc=none", False),
    "the DNS is down": ("a@down.test", "a@down.test", "", "250", "spf=temperror dkim=none dmarc=temperror", False),
    "a bounce": ("", "mailer-daemon@good.test", "good.test", "250", "dkim=pass dmarc=pass", False),
}


def test_what_becomes_of_mail(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for name, (sender, author, signer, reply, words, junk) in CASES.items():
            raw = message(author, above=f"X-Case: {name}\r\n".encode())
            said = await send(house, sender, signed(raw, signer) if signer else raw)
            assert said.startswith(reply), (name, said)
            found = [one for one in await house.inbox("bob") if f"X-Case: {name}\r\n".encode() in one]
            aside = [one for one in await in_mailbox(house) if f"X-Case: {name}\r\n".encode() in one]
            assert (len(found), len(aside)) == ((0, 0) if said[0] in "45" else (0, 1) if junk else (1, 0)), name
            for word in words.split():
                top = (found or aside)[0].partition(b"\r\nReceived: ")[0]
                assert top.startswith(
                    f"Return-Path: <{sender}>\r\nAuthentication-Results: mail.posthouse.test;".encode()
                )
                assert f"\r\n {word}".encode() in top, name
                assert b"\r\nReceived-SPF: " in top

    run(tmp_path, test)


def test_a_bounce_of_an_old_server(tmp_path: Path) -> None:
    """Its From names nobody. Nobody else may have such a From, nor a bounce one with a trick in it."""

    async def test(house: House) -> None:
        def bounce(author: str, above: str = "") -> bytes:
            return f"{above}From: {author}\r\nSubject: Returned mail: User unknown\r\n\r\nno such user\r\n".encode()

        for author in ("MAILER-DAEMON (Mail Delivery System)", "Postmaster <MAILER-DAEMON>", "<>"):
            assert (await send(house, "", bounce(author))).startswith("250 "), author
            data, told = await story_of(house, "250")
            assert data["authentication"]["dmarc"]["result"] == "none"
            assert "DMARC: none: " in told
            refused = await send(house, "a@good.test", bounce(author))
            assert refused.startswith("550 5.7.1 The From field does not say who wrote this"), author
        stored = await house.inbox("bob")
        assert len(stored) == 3
        assert all(b"\r\n dmarc=none\r\n" in one for one in stored)
        for author, above in (
            ("bank.test", ""),
            ('"ceo@bank.test" <MAILER-DAEMON>', ""),
            ("=?utf-8?q?ceo=40bank=2Etest?= <MAILER-DAEMON>", ""),
            ("MAILER-DAEMON", "Sender: ceo@bank.test\r\n"),
            ("MAILER-DAEMON", "From: postmaster\r\n"),
            ("MAILER-DAEMON", "X: x\r\n From: ceo@bank.test\r\n"),
            ("undisclosed:;", ""),
        ):
            said = await send(house, "", bounce(author, above))
            assert said.startswith("550 5.7.1 The From field does not say who wrote this"), (author, said)
        assert (await send(house, "", bounce("ceo@bank.test"))).startswith("550 5.7.26 bank.test asks by DMARC")
        assert len(await house.inbox("bob")) == 3

    run(tmp_path, test)


def test_refusals_say_who_asks_and_what_failed(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        raw = signed(message("a@bank.test"), "bank.test").replace(b"hello", b"hallo")
        said = await send(house, "x@other.test", raw)
        assert said.startswith("550 5.7.1 bank.test asks by DMARC (p=reject) that mail is refused ")
        assert "SPF pass for other.test (another domain); DKIM fail for bank.test (id " in said
        data, told = await story_of(house, said)
        assert data["authentication"]["done"] == "reject"
        assert "SPF: pass: other.test (the sender), matched by ip4:127.0.0.1 of: v=spf1 ip4:127.0.0.1 -all" in told
        assert "DKIM: fail: bank.test, key key (rsa-sha256 2048), relaxed/relaxed, the body was changed" in told
        assert "DMARC: fail: bank.test, bank.test asks for reject: v=DMARC1; p=reject; sp=quarantine" in told
        assert "Name of the client: pass: mx.sender.test" in told
        assert "key._domainkey.bank.test TXT: v=DKIM1; k=rsa; p=" in told
        assert "Refused, as its domain asks" in told
        assert await house.inbox("bob") == []

    run(tmp_path, test)


def test_the_log_says_whose_message_was_refused(tmp_path: Path) -> None:
    written = io.BytesIO()

    async def test(house: House) -> None:
        to = ("bob@posthouse.test", "alice@posthouse.test")
        said = await send(house, "a@other.test", message("a@bank.test>, <b@good.test"), *to)
        (line,) = [json.loads(one) for one in written.getvalue().splitlines() if b"smtp.rejected" in one]
        assert f"(id {line['message']})" in said
        assert (line["sender"], line["recipients"], line["recipient"]) == ("a@other.test", 2, "")
        assert line["authors"] == ["bank.test", "good.test"]
        assert (line["code"], line["ip"], line["session"] != "") == (550, "127.0.0.1", True)
        assert line["message_id"]
        assert line["size"] > 100

    run(tmp_path, test, written=written)


def test_fields_in_our_name_are_taken_out_and_signatures_verified_before(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        spf = b"Received-SPF: pass (x) receiver=mail.posthouse.test; identity=mailfrom\r\n"
        theirs = b"Authentication-Results: mx.other.test; spf=pass\r\n"
        for large in (False, True):
            raw = message("a@good.test", above=FORGED + spf + theirs, body=b"x" * 70 + b"\r\n" * (40_000 * large + 1))
            signer = Signer("good.test", "key", rsa_key(), signed=("Authentication-Results",))
            sent = dkim.sign(raw, [signer], None)
            assert (await send(house, "a@good.test", sent)).startswith("250 ")
            stored = (await house.inbox("bob"))[-1]
            assert stored.count(b"Authentication-Results: mail.posthouse.test;") == 1
            assert b"dmarc=pass header.from=bank.test" not in stored
            assert b" dkim=pass header.d=good.test" in stored
            assert stored.count(b"Received-SPF: ") == 1
            assert theirs in stored
            assert stored.endswith(sent.replace(FORGED, b"").replace(spf, b"")[-200:])
            data, told = await story_of(house, "250")
            assert data["forged"] == {"Authentication-Results": 1, "Received-SPF": 1}
            assert "Taken out, as it claimed to be ours: Authentication-Results, Received-SPF" in told
        # Of what is refused, too; and what has none says nothing.
        data, told = await story_of(house, await send(house, "a@bank.test", message("a@bank.test", above=FORGED)))
        assert (data["forged"], data["authentication"]["done"]) == ({"Authentication-Results": 1}, "reject")
        assert "Taken out, as it claimed to be ours: Authentication-Results" in told
        data, told = await story_of(house, await send(house, "a@good.test", message("a@good.test", above=theirs)))
        assert "forged" not in data
        assert "Taken out" not in told

    run(tmp_path, test)


def test_in_chunks_and_by_lmtp(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        raw = signed(message("a@good.test", above=FORGED), "good.test")
        chunks = [raw[at : at + 37] for at in range(0, len(raw), 37)]
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["smtp"])
        writer.write(b"EHLO mx.sender.test\r\nMAIL FROM:<a@good.test>\r\nRCPT TO:<bob@posthouse.test>\r\n")
        for number, chunk in enumerate(chunks):
            writer.write(f"BDAT {len(chunk)}{' LAST' * (number == len(chunks) - 1)}\r\n".encode() + chunk)
        writer.write(b"QUIT\r\n")
        replies = (await reader.read()).decode().splitlines()
        writer.close()
        assert replies[-2].startswith("250 2.0.0 Accepted")
        to = ("alice@posthouse.test", "bob@posthouse.test")
        assert (await send(house, "a@good.test", raw, *to, service="lmtp", hello="LHLO mx.sender.test"))[:3] == "250"
        for stored in [*await house.inbox("bob"), *await house.inbox("alice")]:
            assert stored.count(b"Authentication-Results: ") == 1
            assert b" dkim=pass header.d=good.test" in stored
            assert b" dmarc=pass (p=reject dis=none) header.from=good.test" in stored
        assert len(await house.inbox("bob")) == 2
        said = await send(
            house, "a@bank.test", message("a@bank.test"), *to, service="lmtp", hello="LHLO mx.sender.test"
        )
        assert said.startswith("550 5.7.26 ")

    listen = [*CLEAR["listen"], listening("lmtp")]
    run(tmp_path, test, listen=listen)


def test_our_own_people_and_networks(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        raw = message("alice@posthouse.test", above=FORGED)
        lines = "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<bob@posthouse.test>", "DATA", raw.decode() + "."
        assert (await submitted(house, *lines))[-1].startswith("250 ")
        (stored,) = await house.inbox("bob")
        assert b"Authentication-Results" not in stored

    run(tmp_path / "people", test)
    # Those of a webmail on this machine are no less strangers to our results.
    run(tmp_path / "people-here", test, chosen={"exempt": ["127.0.0.0/8"]})

    async def exempt(house: House) -> None:
        assert (await send(house, "a@bank.test", message("a@bank.test", above=FORGED))).startswith("250 ")
        (stored,) = await house.inbox("bob")
        assert stored.count(b"Authentication-Results") == 1
        assert FORGED in stored

    run(tmp_path / "exempt", exempt, chosen={"exempt": ["127.0.0.0/8"]})
    run(tmp_path / "relaying", exempt, relay={"capture": True, "networks": ["127.0.0.1"]})
    run(tmp_path / "off", exempt, chosen={"verify": False})


def is_signature_of(digest: str, field: bytes, raw: bytes) -> bool:
    """Whether the hash in a trace is what the uppermost field of a name signs, by the key of all domains here."""
    text = re.search(rb"(?m)^" + field + rb":[^\0]*?\bb=([A-Za-z0-9+/=\s]+?)(?:;|\r\n\S)", raw)
    assert text is not None
    signature, hashed = b64decode(b"".join(text[1].split())), b64decode(digest)
    try:
        rsa_key().public_key().verify(signature, hashed, PKCS1v15(), Prehashed(SHA256()))
    except InvalidSignature:
        return False
    return True


def test_everything_a_decision_rested_on_is_told(tmp_path: Path) -> None:
    """Who reads the trace can do each check again, without the message and without the DNS."""
    record = record_of(rsa_key())
    raw = sealed(signed(message("a@good.test"), "good.test"), "fwd.test", "dmarc=pass")
    body = b64encode(hashlib.sha256(b"hello\r\n").digest()).decode()

    async def test(house: House) -> None:
        said = await send(house, "a@good.test", raw)
        assert said.startswith("250 ")
        data, told = await story_of(house, said)
        found = data["authentication"]
        answers = {(one["name"], one["kind"]): one.get("values") for one in found["dns"]}
        of_spf, policy_text = "v=spf1 ip4:127.0.0.1 -all", "v=DMARC1; p=reject; rua=mailto:reports@good.test"
        # SPF
        spf = {one["identity"]: one for one in found["spf"]}["mailfrom"]
        assert (spf["result"], spf["domain"], spf["record"]) == ("pass", "good.test", of_spf)
        assert spf["mechanism"] == "ip4:127.0.0.1"
        assert answers["good.test", "TXT"] == [of_spf]
        # DKIM
        (one,) = found["dkim"]
        assert (one["result"], one["domain"], one["selector"], one["bits"]) == ("pass", "good.test", "key", 2048)
        assert (one["algorithm"], one["canon"], one["aligned"]) == ("rsa-sha256", "relaxed/relaxed", True)
        assert "from" in one["signed"].split()
        assert answers["key._domainkey.good.test", "TXT"] == [record]
        assert one["body_hash"] == body
        assert is_signature_of(one["header_hash"], b"DKIM-Signature", raw)
        # ARC
        chain = found["arc"]
        (seal,) = chain["sets"]
        assert (chain["result"], chain["sealers"], chain["body_hash"]) == ("pass", ["fwd.test"], body)
        assert (seal["selector"], seal["bits"], seal["cv"]) == ("key", 2048, "none")
        assert (seal["seal"], seal["message"], seal["saw"]) == ("pass", "pass", "dmarc=pass")
        assert answers["key._domainkey.fwd.test", "TXT"] == [record]
        assert is_signature_of(seal["header_hash"], b"ARC-Message-Signature", raw)
        assert is_signature_of(seal["seal_hash"], b"ARC-Seal", raw)
        # DMARC
        judged = found["dmarc"]
        assert (judged["result"], judged["author"], judged["policy"]) == ("pass", "good.test", "reject")
        assert (judged["record"], judged["policy_domain"]) == (policy_text, "good.test")
        assert answers["_dmarc.good.test", "TXT"] == [policy_text]
        assert judged["aligned"] == ["spf", "dkim"]
        assert any(each.startswith("DKIM proves good.test, and") for each in judged["because"])
        assert any(each.startswith("SPF proves good.test, and") for each in judged["because"])
        # Each stands in the story as well, on a line of its own that is not endless.
        lines = told.splitlines()
        for words in (
            ("SPF: pass", "good.test (the sender)", "ip4:127.0.0.1", of_spf),
            ("DKIM: pass", "rsa-sha256 2048", one["body_hash"], one["header_hash"], "of the author's organization"),
            ("ARC: pass", "sealed by fwd.test", body),
            ("1: fwd.test", "rsa-sha256 2048", "cv=none", seal["seal_hash"], seal["header_hash"], "saw dmarc=pass"),
            ("DMARC: pass", "asks for reject", policy_text),
            ("DKIM proves good.test",),
            *((f"{name} {kind}",) for name, kind in answers),
        ):
            assert any(all(word in line for word in words) for line in lines), words
        document = (Path(__file__).parents[2] / "docs/explain.md").read_text("utf-8")
        for key in {*found, *spf, *one, *chain, *seal, *judged}:
            assert f"`{key}`" in document, f"{key} is not explained"

    run(tmp_path, test)


def test_a_from_far_below_hides_nothing(tmp_path: Path) -> None:
    """However the message is cut on its way: the header ends for us where it does for the reader of mail."""

    async def test(house: House) -> None:
        fill = b"X: y\r\n" * 60_000
        for raw in (
            message("a@good.test").replace(b"\r\n\r\n", b"\r\n" + fill + b"From: a@bank.test\r\n\r\n", 1),
            message("a@good.test", above=fill),
        ):
            said = await send(house, "a@good.test", raw)
            assert said.startswith("550 5.7.1 "), said
            assert "DMARC (p=reject)" in said or "From field" in said

    run(tmp_path, test)


MARKS = b"X-Posthouse-Tag: good\r\nx-POSTHOUSE-tag : night\r\n x\r\nX-Posthouse-Tag\x01: y\r\nX-Posthouse-Tags: z\r\n"


@pytest.mark.parametrize("chosen", [{}, {"verify": False}, {"exempt": ["127.0.0.0/8"]}])
def test_marks_of_strangers_go(tmp_path: Path, chosen: dict[str, Any]) -> None:
    async def test(house: House) -> None:
        raw = message("a@other.test", above=MARKS)
        assert (await send(house, "a@other.test", raw)).startswith("250 ")
        (stored,) = await house.inbox("bob")
        # What is from a network that is trusted, may be from a server of ours before this one.
        kept = MARKS if "exempt" in chosen else b"X-Posthouse-Tags: z\r\n"
        assert kept in stored
        assert stored.lower().count(b"x-posthouse-tag") == kept.lower().count(b"x-posthouse-tag") + 1
        assert stored.index(b"X-Posthouse-Tag: odd\r\n") < stored.index(kept)
        raw = message("alice@posthouse.test", above=MARKS)
        lines = "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<bob@posthouse.test>", "DATA", raw.decode() + "."
        assert (await submitted(house, *lines))[-1].startswith("250 ")
        stored = (await house.inbox("bob"))[-1]
        assert stored.lower().count(b"x-posthouse-tag") == 2

    rules = [{"recipient": ["bob@posthouse.test"], "action": "tag", "tag": "odd"}]
    run(tmp_path, test, chosen=chosen, filter={"rule": rules})


def test_junk_is_made_where_it_is_missing(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        raw = message("a@soft.test")
        await house.database.write(lambda tx: mailboxes.delete(tx, 1, "Junk"))
        for _ in range(2):
            assert (await send(house, "a@soft.test", raw, "alice@posthouse.test")).startswith("250 ")
        assert len(await in_mailbox(house, name="alice")) == 2
        await house.database.write(lambda tx: mailboxes.rename(tx, 2, "Junk", "Spam"))
        said = await send(house, "a@soft.test", raw)
        assert [
            one.name for one in await house.database.read(mailboxes.list_all, 2) if one.special_use == "\\Junk"
        ] == ["Spam"]
        assert len(await in_mailbox(house)) == 1
        assert "Put into the mailbox for junk, as its domain asks" in (await story_of(house, said))[1]

    run(tmp_path, test)


def test_a_copy_that_waits_for_room_goes_into_junk_too(tmp_path: Path) -> None:
    clock = FakeClock()

    async def main() -> None:
        chosen = settings(tmp_path, **CLEAR, authentication={"exempt": []})
        async with asyncio.timeout(60), App(chosen, clock=clock, resolver=ZoneResolver(ZONE)) as app:
            house = House(app)
            await house.database.write(accounts.add_domain, "posthouse.test", 1_000_000)
            for name in ("alice", "bob"):
                await house.database.write(accounts.add_account, f"{name}@posthouse.test", "x", 1_000_000)
                await house.database.write(accounts.add_address, "all@posthouse.test", f"{name}@posthouse.test")
            await house.database.write(quota.set_limits, "bob@posthouse.test", 10, 0)
            raw = message("a@soft.test")
            assert (await send(house, "a@soft.test", raw, "all@posthouse.test")).startswith("250 ")
            assert len(await in_mailbox(house, name="alice")) == 1
            while not any(one.attempts for _, some in await house.database.read(outbox_admin.listing) for one in some):
                pass
            assert await in_mailbox(house) == []
            await house.database.write(quota.set_limits, "bob@posthouse.test", 0, 0)
            await clock.advance(7200)
            while await house.database.read(outbox_admin.listing):
                pass
            assert len(await in_mailbox(house)) == 1
            assert await house.inbox("bob") == []

    asyncio.run(main())


def test_settings_that_only_mark(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        said = await send(house, "a@bank.test", message("a@bank.test"))
        assert said.startswith("250 ")
        (stored,) = await house.inbox("bob")
        assert b" dmarc=fail (p=reject dis=none) header.from=bank.test" in stored
        assert "by the settings" in (await story_of(house, said))[1]

    run(tmp_path, test, chosen={"dmarc": "mark"})


def test_mailing_lists(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        said = await send(house, "list-bounces@list.test", message("a@bank.test"))
        assert said.startswith("250 ")
        assert "by a mailing list that is known: list.test is a mailing list" in (await story_of(house, said))[1]
        assert (await send(house, "a@other.test", message("a@bank.test"))).startswith("550 5.7.1 ")

    run(tmp_path, test, chosen={"mailing_lists": ["list.test"]})


def sealed(raw: bytes, sealer: str, saw: str, cv: Literal["none", "pass"] = "none") -> bytes:
    """As a forwarder passes it on."""
    header, body = dkim.split(raw)
    made = arc.Sealer(sealer, "key", rsa_key())
    hashed = made.body()
    hashed.feed(body)
    return made.fields(header, hashed, cv, [sealer, saw], None) + raw


def test_forwarders_that_are_trusted(tmp_path: Path) -> None:
    passed, failed = "dmarc=pass header.from=bank.test", "dmarc=fail header.from=bank.test"
    raw = message("a@bank.test")
    once = sealed(raw, "fwd.test", passed)
    cases = {
        "sealed": (once, True),
        "not sealed": (raw, False),
        "it saw it fail": (sealed(raw, "fwd.test", failed), False),
        "changed after": (once.replace(b"hello", b"hallo"), False),
        "sealed by a stranger": (sealed(raw, "odd.test", passed), False),
        "a stranger after it": (sealed(once, "odd.test", passed, "pass"), False),
        "after a stranger": (sealed(sealed(raw, "odd.test", passed), "fwd.test", failed, "pass"), False),
        "twice": (sealed(once, "fwd.test", failed, "pass"), True),
    }

    async def test(house: House) -> None:
        for name, (sent, taken) in cases.items():
            said = await send(house, "a@other.test", sent)
            assert said.startswith("250 " if taken else "550 5.7.1 "), (name, said)
            if name == "sealed":
                told = (await story_of(house, said))[1]
                assert "ARC: pass: sealed by fwd.test" in told
                assert "1: fwd.test, key key (rsa-sha256 2048), cv=none, seal pass for " in told
                assert ", saw dmarc=pass" in told
                assert "by a forwarder that is trusted: fwd.test saw it pass DMARC" in told
        assert b" arc=pass smtp.remote-ip=127.0.0.1" in (await house.inbox("bob"))[0]

    run(tmp_path, test, chosen={"trusted_sealers": ["fwd.test"]})


def test_what_the_dns_does_not_answer_may_be_put_off(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house, "a@down.test", message("a@down.test"))).startswith(
            "451 4.4.3 The DNS does not answer"
        )
        assert (await send(house, "a@plain.test", message("a@plain.test"))).startswith("250 ")

    run(tmp_path, test, chosen={"trouble": "defer"})


class Silence(dict[tuple[str, str], Any]):
    """The table of a name server that answers nothing."""

    def get(self, _key: tuple[str, str], _default: Any = None) -> str:
        return "SILENCE"


def test_a_silent_name_server_stalls_nobody(tmp_path: Path) -> None:
    server = NameServer(Silence())
    resolver = SystemResolver(SystemClock(), ["127.0.0.1"], timeout=0.5)

    async def test(house: House) -> None:
        resolver._port = await server.start()  # the server begins with the loop
        try:
            raw = signed(message("a@good.test"), "good.test")
            said = await asyncio.gather(*[send(house, f"a{number}@good.test", raw) for number in range(30)])
            assert {one[:4] for one in said} == {"250 "}
            stored = await house.inbox("bob")
            assert len(stored) == 30
            assert all(b" spf=temperror" in one and b" dmarc=temperror" in one for one in stored)
            # Each question is asked once for all of them, with its repeats.
            assert len({question[1:] for question in server.questions}) < 20
        finally:
            await server.stop()

    run(tmp_path, test, resolver, chosen={"patience": 1})
