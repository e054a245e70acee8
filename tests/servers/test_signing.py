"""Mail of our own people: put right, signed by both keys, and what is delivered verifies, for us and for others."""

import asyncio
import email
import itertools
import smtplib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from posthouse.cli import opening
from posthouse.mime.threads import message_id_hash
from posthouse.net.dns import ZoneResolver
from posthouse.senderauth import arc
from posthouse.store import accounts, dkim_keys, events
from posthouse.store.database import Tx
from posthouse.store.dkim_keys import DkimKey
from posthouse.store.model import Change, SigningKeysChanged
from tests.support.house import PASSWORD, House, opened
from tests.support.signing import BOTH, MADE, dkimpy_says, new_keys, sign_for, verified, words, zone

ALICE, BOB, AMY = "alice@posthouse.test", "bob@posthouse.test", "amy@there.test"
PLAIN = b"From: Alice <alice@posthouse.test>\r\nTo: bob@posthouse.test\r\nSubject: signed\r\n"
COMPLETE = PLAIN + b"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <its-own@posthouse.test>\r\n"
BODY = b"\r\nHello \t there  \r\n\r\n.dots\r\nGr\xc3\xbc\xc3\x9fe\r\n\r\n\r\n"
PASS = [("pass", one) for one in BOTH]
Test = Callable[[House, list[DkimKey]], Coroutine[Any, Any, None]]


def signing(folder: Path, test: Test, sends: int = 0, **changes: Any) -> list[dict[str, object]]:
    """Run a test in a house whose domain signs; returns the so many messages that were sent on."""
    captured: list[dict[str, object]] = []

    async def main() -> None:
        went = asyncio.Queue[dict[str, object]]()
        async with asyncio.timeout(60), opened(folder, captured=went.put_nowait, **changes) as house:
            await test(house, await sign_for(house.database, "posthouse.test"))
            captured.extend([await went.get() for _ in range(sends)])

    asyncio.run(main())
    return captured


async def submit(
    house: House, message: bytes, *recipients: str, service: str = "submission", sender: str = ALICE
) -> None:
    """Send it, logged in where the service is for that."""

    def send() -> None:
        with smtplib.SMTP("localhost", house.ports[service]) as smtp:
            if service == "submission":
                smtp.starttls(context=house.context)
                smtp.login("alice", PASSWORD)
            smtp.sendmail(sender, recipients or [BOB], message, mail_options=["BODY=8BITMIME"])

    await asyncio.to_thread(send)


async def trace(house: House) -> dict[str, Any]:
    """How the newest message came."""

    def read(tx: Tx) -> dict[str, Any]:
        row = tx.one("SELECT trace FROM event WHERE kind = 'accepted' ORDER BY seq DESC")
        assert row is not None
        return events.of_trace(tx, row[0])[0].data

    return await house.database.read(read)


def split(message: bytes) -> tuple[list[bytes], bytes]:
    """The names of its fields in lower case, and its body."""
    header, _, body = message.partition(b"\r\n\r\n")
    return [line.partition(b":")[0].lower() for line in header.split(b"\r\n") if line[:1] not in b" \t"], body


def test_a_bare_message_is_completed_and_signed(tmp_path: Path) -> None:
    async def test(house: House, keys: list[DkimKey]) -> None:
        await submit(house, b"Bcc: secret@posthouse.test,\r\n\tother@there.test\r\n" + PLAIN + BODY, BOB, AMY)
        (message,) = await house.inbox("bob")
        names, body = split(message)
        assert body == BODY[2:]
        assert b"secret" not in message
        for name in (b"date", b"message-id", b"from", b"received", b"return-path", b"subject"):
            assert names.count(name) == 1, name
        assert names.count(b"bcc") == 0
        assert words(await verified(message, keys, house.app.clock.now())) == PASS
        assert dkimpy_says(message, keys) == [True, True]
        for damaged in (message + b"x\r\n", message.replace(b"Subject: signed", b"Subject: forged")):
            assert [word for word, _ in words(await verified(damaged, keys, house.app.clock.now()))] == ["fail"] * 2
            assert dkimpy_says(damaged, keys) == [False, False]
        data = await trace(house)
        assert [(one["d"], one["a"]) for one in data["signed"]] == [("posthouse.test", one) for one in BOTH]
        assert (data["added"], data["removed"]) == (["date", "message-id"], 1)
        # What was added is known to the store: ENVELOPE and searches are made of it.
        added = email.message_from_bytes(message)["Message-ID"]
        assert data["message_id"] == added.strip("<>")
        number = message_id_hash(added.strip("<>"))
        assert len(await house.database.read(events.traces_of_message_id, number)) == 1

    (sent,) = signing(tmp_path, test, 1)
    assert sent["recipients"] == (AMY,)
    elsewhere = Path(str(sent["file"])).read_bytes()
    assert b"secret" not in elsewhere
    names, _ = split(elsewhere[elsewhere.index(b"DKIM-Signature") :])
    assert names[:2] == [b"dkim-signature"] * 2


@pytest.mark.parametrize("size", [0, 1, 2000, 60_000, 300_000, 3_000_000])
def test_of_any_size_and_without_a_change(tmp_path: Path, size: int) -> None:
    body = (b"0123456789abcdef " * 4 + b"\r\n") * (size // 70) + b"x" * (size % 70)

    async def test(house: House, keys: list[DkimKey]) -> None:
        content = COMPLETE + b"\r\n" + body
        await submit(house, content)
        (message,) = await house.inbox("bob")
        ending = content if content.endswith(b"\n") else content + b"\r\n"
        assert message.endswith(b"\r\n" + ending)
        assert words(await verified(message, keys, house.app.clock.now())) == PASS
        assert "added" not in await trace(house)

    signing(tmp_path, test)


@pytest.mark.parametrize(
    ("content", "signatures"),
    [
        (COMPLETE, 2),  # no empty line
        (
            PLAIN + b"Message-ID: \r\nDate:\r\n \r\nmessage-id: <>\r\n" + BODY,
            2,
        ),  # as good as none: ours take their place
        (b"date: x\r\nMESSAGE-id: <a@b>\r\n" + PLAIN + BODY, 2),
        (b"just a text\r\n\r\nof somebody\r\n", 0),  # no From
        (b"Subject: nobody\r\n" + BODY, 0),
        (BODY, 0),
        (b"From: alice@posthouse.test\r\nFrom: alice@posthouse.test\r\n" + BODY, 0),  # who is it?
    ],
)
def test_odd_headers(tmp_path: Path, content: bytes, signatures: int) -> None:
    async def test(house: House, keys: list[DkimKey]) -> None:
        await submit(house, content)
        (message,) = await house.inbox("bob")
        names, body = split(message)
        assert names.count(b"date") == names.count(b"message-id") == 1
        assert body in (content.partition(b"\r\n\r\n")[2], content, content.removeprefix(b"\r\n"))
        assert words(await verified(message, keys, house.app.clock.now())) == PASS[:signatures]

    signing(tmp_path, test)


@pytest.mark.parametrize(
    "start", [b"Bcc: x@y.test\r\nno field\r\n", b"no field\r\n", b"Bcc: x@y.test\r\n folded\r\n\x01\r\n"]
)
def test_nobody_writes_a_from_below_what_is_removed(tmp_path: Path, start: bytes) -> None:
    """Some programs read on behind a line that is no field: who may not be boss must not look like it there."""

    async def test(house: House, _keys: list[DkimKey]) -> None:
        content = start + b"From: boss@posthouse.test\r\nSubject: pay\r\n" + BODY
        if start.startswith(b"Bcc"):
            with pytest.raises(smtplib.SMTPDataError, match="550"):
                await submit(house, content)
            return
        await submit(house, content)
        (message,) = await house.inbox("bob")
        assert b"boss@" not in message.partition(b"\r\n\r\n")[0]  # all of it is a body now, for everybody

    signing(tmp_path, test)


def test_chunks_and_lines_without_end(tmp_path: Path) -> None:
    """BDAT brings what DATA cannot: no last line end, bare CR and LF, the header in pieces."""

    async def test(house: House, keys: list[DkimKey]) -> None:
        content = COMPLETE + b"Content-Transfer-Encoding: binary\r\n\r\na\nb\rc \r\n\0\r\n\r\nend"
        cuts = [0, 5, 40, 41, 60, len(content) - 9, len(content)]
        pieces = [content[start:end] for start, end in itertools.pairwise(cuts)]
        last = len(pieces) - 1

        def send() -> None:
            with smtplib.SMTP("localhost", house.ports["submission"]) as smtp:
                smtp.starttls(context=house.context)
                smtp.login("alice", PASSWORD)
                assert smtp.docmd(f"MAIL FROM:<{ALICE}> BODY=BINARYMIME")[0] == 250
                assert smtp.docmd(f"RCPT TO:<{BOB}>")[0] == 250
                for number, piece in enumerate(pieces):
                    smtp.send(f"BDAT {len(piece)}{' LAST' * (number == last)}\r\n".encode() + piece)
                    assert smtp.getreply()[0] == 250

        await asyncio.to_thread(send)
        (message,) = await house.inbox("bob")
        assert message.endswith(content)
        assert words(await verified(message, keys, house.app.clock.now())) == PASS

    signing(tmp_path, test)


def test_strangers_are_left_as_they_are(tmp_path: Path) -> None:
    """Who writes our domain into From on the port for everybody gets no signature, and nothing is put right."""

    async def test(house: House, keys: list[DkimKey]) -> None:
        content = b"Bcc: x@y.test\r\n" + PLAIN + BODY
        await submit(house, content, service="smtp", sender="mallory@evil.test")
        (message,) = await house.inbox("bob")
        assert message.endswith(b"\r\n" + content)
        assert await verified(message, keys, house.app.clock.now()) == []
        assert not {"signed", "unsigned", "added"} & (await trace(house)).keys()

    signing(tmp_path, test)


def test_networks_of_ours_are_signed(tmp_path: Path) -> None:
    async def test(house: House, keys: list[DkimKey]) -> None:
        await submit(house, PLAIN + BODY, service="smtp")
        await submit(house, PLAIN.replace(b"posthouse.test>", b"elsewhere.test>") + BODY, service="smtp")
        ours, theirs = await house.inbox("bob")
        assert words(await verified(ours, keys, house.app.clock.now())) == PASS
        assert await verified(theirs, keys, house.app.clock.now()) == []

    signing(tmp_path, test, relay={"capture": True, "networks": ["127.0.0.0/8", "::1/128"]})


@pytest.mark.parametrize(
    ("settings", "seen", "result", "why"),
    [
        ({}, False, [], "the DNS has no key of posthouse.test"),
        ({"sign": "never"}, True, [], None),
        ({"sign": "always"}, False, PASS, None),
        ({"algorithms": ["rsa-sha256"]}, True, PASS[:1], None),
    ],
)
def test_a_key_that_nobody_can_find_does_not_sign(
    tmp_path: Path, settings: dict[str, Any], seen: bool, result: list[tuple[str, str]], why: str | None
) -> None:
    async def test(house: House, keys: list[DkimKey]) -> None:
        def forget(tx: Tx) -> None:
            for key in keys:
                dkim_keys.checked(tx, key, False, "gone", 5)

        if not seen:
            await house.database.write(forget)
        await submit(house, PLAIN + BODY)
        (message,) = await house.inbox("bob")
        assert words(await verified(message, keys, house.app.clock.now())) == result
        assert (await trace(house)).get("unsigned") == why

    signing(tmp_path, test, signing=settings)


def test_bounces_are_signed_for_the_host(tmp_path: Path) -> None:
    """The host writes as postmaster@mail.posthouse.test; the domain above it is ours and has keys."""

    async def test(house: House, keys: list[DkimKey]) -> None:
        settings = house.app.settings
        assert settings.hostname == "mail.posthouse.test"
        lines: list[str | bytes] = [
            "EHLO x",
            f"MAIL FROM:<{BOB}>",
            f"RCPT TO:<{ALICE}> NOTIFY=SUCCESS",
            "DATA",
            PLAIN + BODY + b".",
        ]
        replies = await house.said("smtp", *lines, "QUIT")
        assert replies[-2].startswith("250"), replies
        (report,) = await house.inbox("bob")
        assert b"From: " in report
        assert words(await verified(report, keys, house.app.clock.now())) == PASS
        (message,) = await house.inbox("alice")
        assert await verified(message, keys, house.app.clock.now()) == []

    signing(tmp_path, test)


STRANGER: dict[str, Any] = {"authentication": {"exempt": []}}


async def passed_on(house: House, content: bytes, sender: str = "mallory@evil.test") -> None:
    """A stranger's message to an alias that leads to amy, who is elsewhere, and to bob."""

    def alias(tx: Tx) -> None:
        accounts.add_address(tx, "list@posthouse.test", AMY)
        accounts.add_address(tx, "list@posthouse.test", BOB)

    await house.database.write(alias)
    await submit(house, content, "list@posthouse.test", service="smtp", sender=sender)


@pytest.mark.parametrize("sender", ["mallory@evil.test", ""])
def test_what_aliases_pass_on_is_sealed(tmp_path: Path, sender: str) -> None:
    content = b"From: m@evil.test\r\nAuthentication-Results: mail.posthouse.test; dmarc=pass\r\n" + BODY
    known: list[DkimKey] = []

    async def test(house: House, keys: list[DkimKey]) -> None:
        known.extend(keys)
        await passed_on(house, content, sender)
        (local,) = await house.inbox("bob")
        assert b"ARC-" not in local  # it did not leave
        assert (await trace(house))["sealed"] == {"d": "posthouse.test", "s": keys[0].selector, "cv": "none"}

    (sent,) = signing(tmp_path, test, 1, **STRANGER)
    message = Path(str(sent["file"])).read_bytes()
    message = message[message.index(b"ARC-Seal:") :]
    names, _ = split(message)
    assert names[:3] == [b"arc-seal", b"arc-message-signature", b"arc-authentication-results"]
    assert b"dmarc=pass" not in message
    chain = asyncio.run(arc.verify(message, ZoneResolver(zone(known)).txt, 1_900_000_000))
    assert (chain.word, chain.sealers) == ("pass", ("posthouse.test",)), chain
    (results,) = chain.results
    assert results.authserv_id == "mail.posthouse.test"
    assert ("dkim", "none") in [(one.method, one.result) for one in results.methods]
    for damaged in (message + b"x\r\n", message.replace(b"From: m@", b"From: n@")):
        assert asyncio.run(arc.verify(damaged, ZoneResolver(zone(known)).txt, 1_900_000_000)).word == "fail"


def test_without_keys_nothing_is_sealed(tmp_path: Path) -> None:
    async def test(house: House, _keys: list[DkimKey]) -> None:
        await house.database.write(dkim_keys.remove_domain, "posthouse.test")
        await passed_on(house, b"From: m@evil.test\r\n" + BODY)

    (sent,) = signing(tmp_path, test, 1, **STRANGER)
    assert b"ARC-" not in Path(str(sent["file"])).read_bytes()


def test_removing_a_domain_takes_its_keys(tmp_path: Path) -> None:
    async def test(house: House, _keys: list[DkimKey]) -> None:
        await house.database.write(accounts.add_domain, "short.test", 1)
        await sign_for(house.database, "short.test")
        await house.database.write(accounts.remove_domain, "short.test")
        assert await house.database.read(dkim_keys.of_domain, "short.test") == []
        assert len(await house.database.read(dkim_keys.all_keys)) == 2

    signing(tmp_path, test)


def test_a_running_server_takes_up_keys_when_it_is_told(tmp_path: Path) -> None:
    """Made by a command, published, looked for because another command says so: the next message is signed."""
    names: dict[str, Any] = {}

    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path, resolver=ZoneResolver(names)) as house:
            taken_up = asyncio.Queue[None]()

            def look(changes: list[Change]) -> None:
                if any(isinstance(one, SigningKeysChanged) for one in changes):
                    taken_up.put_nowait(None)

            keys = await house.database.write(dkim_keys.add, "posthouse.test", new_keys(), MADE)
            house.app.feed.subscribe(0, look)
            await submit(house, PLAIN + BODY)
            assert (await trace(house))["unsigned"] == "the DNS has no key of posthouse.test"
            names.update(zone(keys))
            assert await asyncio.to_thread(opening.tell, house.app.settings.data, "signing")
            while any(key.state != "used" for key in await house.database.read(dkim_keys.all_keys)):
                await taken_up.get()
            await submit(house, PLAIN + BODY)
            _, message = await house.inbox("bob")
            assert words(await verified(message, keys, house.app.clock.now())) == PASS

    asyncio.run(main())
