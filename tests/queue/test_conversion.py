"""Messages for servers that take less than they hold: converted, or given back with the right status."""

import asyncio
import email
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from posthouse.queue import conversion
from posthouse.queue.conversion import fitted
from posthouse.queue.outgoing import Outgoing
from posthouse.senderauth import arc, arc_fields
from posthouse.senderauth.dkim import split
from posthouse.senderauth.dkim_canon import BodyHash
from posthouse.smtp.client import SmtpClient
from posthouse.smtp.params import MailParams
from posthouse.smtp.replies import Reply
from tests.queue.site import PREFIX, site
from tests.queue.test_asked import ask
from tests.senderauth.chains import resolver, sealed
from tests.support.loop import on_loop
from tests.support.signing import BOTH, sign_for, verified, words, zone

BOB = "bob@there.test"
PASS = [("pass", one) for one in BOTH]
TEXT = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xbc\r\n"
UTF8_PART = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Description: \xc3\xbc\r\n\r\nx\r\n--b--\r\n"
)
SIGNED = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n"
    b"--b\r\n\r\n\xc3\xbc\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
)


@on_loop
async def test_8bit_for_a_server_without() -> None:
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        trace = await here.run(BOB, content=TEXT)
        (taken,) = remote.taken
        assert taken.content.isascii()
        assert email.message_from_bytes(taken.content).get_payload(decode=True) == b"\xc3\xbc\r\n"
        assert "8BITMIME" not in "".join(remote.commands)
        (event,) = await here.attempts(trace)
        assert any("converted" in line for line in event.data["transcript"])


@on_loop
async def test_what_we_signed_is_signed_again() -> None:
    content = b"From: alice@here.test\r\nDate: x\r\n" + TEXT
    foreign = b"DKIM-Signature: v=1; a=rsa-sha256; d=else.test; s=s; h=from; bh=AAAA; b=AAAA\r\n"
    async with site() as here:
        keys = await sign_for(here.database, "here.test")
        signed = await here.signing.sign_message(foreign + content, PREFIX)
        assert words(await verified(signed.fields + PREFIX + foreign + content, keys, here.clock.now()))[:2] == PASS
        able = await here.remote("able.test")
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        await here.run("amy@able.test", content=foreign + content, prefix=signed.fields + PREFIX)
        await here.run(BOB, content=foreign + content, prefix=signed.fields + PREFIX)
        assert able.taken[0].content == signed.fields + PREFIX + foreign + content
        converted = remote.taken[0].content
        assert converted.isascii()
        assert converted.endswith(b"=C3=BC\r\n")
        results = words(await verified(converted, keys, here.clock.now()))
        assert (results[:2], len(results)) == (PASS, 3)  # new ones in place of ours, and the other's is left
        assert foreign in converted


@pytest.mark.parametrize("came", ["none", "pass", "fail"])
@on_loop
async def test_what_we_sealed_is_sealed_again(came: Literal["none", "pass", "fail"]) -> None:
    content = b"From: m@there.test\r\nDate: x\r\n" + TEXT
    if came != "none":
        content = sealed(content, cv="none")
    if came == "fail":
        content = content.replace(b"Date: x", b"Date: y")
    saw = ["mail.here.test", 'dkim=fail (a; b) reason="c; d" header.d=there.test', "spf=pass smtp.mailfrom=there.test"]
    async with site() as here:
        keys = await sign_for(here.database, "here.test")
        header, text = split(content)
        body = BodyHash("relaxed")
        body.feed(text)
        ours = (await here.signing.seal(["here.test"], PREFIX + header, body, came, saw)).fields
        assert ours
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        await here.run(BOB, content=content, prefix=ours + PREFIX)
        converted = remote.taken[0].content
        assert converted.isascii()
        asked = resolver(**zone(keys))
        found = await arc.verify(converted, asked.txt, here.clock.now() // 1_000_000)
        before = await arc.verify(ours + PREFIX + content, asked.txt, here.clock.now() // 1_000_000)
        assert found.word == before.word == ("fail" if came == "fail" else "pass")
        # The same set in place of the old: what was seen when it came, and what the chain was worth then.
        new, old = arc_fields.newest(converted), arc_fields.newest(ours)
        assert new is not None
        assert old is not None
        assert (new[1], new[0].cv, new[0].domain) == (old[1], came, "here.test")
        assert new[1] == "; ".join(saw)
        assert new[0].signature != old[0].signature
        assert converted.count(b"ARC-Seal") == (1 if came == "none" else 2)


@on_loop
async def test_what_a_stranger_wrote_below_our_fields_makes_nobody_sign() -> None:
    """Who wants our signature could write one that looks like ours into a message that an alias passes on."""
    async with site() as here:
        keys = await sign_for(here.database, "here.test")
        content = b"From: alice@here.test\r\n" + TEXT
        forged = b"DKIM-Signature: v=1; d=here.test; s=%b; bh=AA; b=AA\r\n" % keys[0].selector.encode()
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        await here.run(BOB, content=forged + content)
        assert remote.taken[0].content.count(b"DKIM-Signature") == 1


@on_loop
async def test_a_large_one_that_is_ascii_goes_as_it_is() -> None:
    content = b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 5000  # too large to be looked at before
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        await here.run(BOB, content=content)
        assert remote.taken[0].content == PREFIX + content


@on_loop
async def test_what_is_signed_comes_back_and_the_connection_goes_on() -> None:
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        await here.run(BOB, content=SIGNED)
        assert remote.taken == []
        (report,) = await here.bounces()
        assert b"Status: 5.6.3" in report
        assert b"signature" in report
        await here.run(BOB)
        assert (len(remote.taken), remote.connections) == (1, 1)


@pytest.mark.parametrize(
    ("extensions", "content", "delivered"),
    [
        (("SMTPUTF8", "8BITMIME"), b"Subject: \xc3\xbc\r\n\r\nx\r\n", True),
        (("8BITMIME",), b"Subject: \xc3\xbc\r\n\r\nx\r\n", False),
        (("8BITMIME",), UTF8_PART, False),
        (("8BITMIME",), TEXT, True),  # only ASCII is in its header
        (("8BITMIME",), b"Subject: x\r\n\r\n" + b"\xc3\xbc\r\n" * 100_000, True),  # a large one is looked at, too
        (("8BITMIME",), b"Subject: \xc3\xbc\r\n\r\n" + b"\xc3\xbc\r\n" * 100_000, False),
        ((), TEXT, True),
    ],
)
@on_loop
async def test_utf8_in_headers(extensions: Any, content: bytes, delivered: bool) -> None:
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING", *extensions))
        await ask(here, MailParams(smtputf8=True), content=content)
        assert len(remote.taken) == delivered
        assert [b"Status: 5.6.7" in report for report in await here.bounces()] == [True] * (not delivered)


@on_loop
async def test_what_is_too_large_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "LARGEST", 50)
    async with site() as here:
        remote = await here.remote("there.test", extensions=("PIPELINING",))
        await here.run(BOB, content=TEXT)
        assert remote.taken == []
        (report,) = await here.bounces()
        assert b"Status: 5.6.3" in report
        assert b"too large" in report


@on_loop
async def test_few_are_converted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, go = 0, 0, asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await go.wait()
        yield TEXT
        inside -= 1

    outgoing = Outgoing("a@b.test", (BOB,), len(TEXT), True, pieces)
    places = asyncio.Semaphore(conversion.AT_ONCE)
    tasks = [asyncio.create_task(fitted(outgoing, SmtpClient("x"), places)) for _ in range(6)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert most == conversion.AT_ONCE
    go.set()
    results = await asyncio.gather(*tasks)
    assert most == conversion.AT_ONCE
    assert not any(isinstance(result, Reply) for result in results)
