"""Attempts against remote servers that do all kinds of things, over real sockets."""

import email
from typing import Any

import pytest

from tests.queue.site import ALICE, MESSAGE, PREFIX, site
from tests.support.certificates import root_file, server_context
from tests.support.loop import on_both_loops, on_loop
from tests.support.remote import DROP, SILENCE

BOB = "bob@there.test"
LARGE = b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 100_000  # more than the sockets hold
QUICK = dict.fromkeys(
    ("greeting", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "content", "end", "RSET", "QUIT"), 0.05
)


@on_both_loops
async def test_a_message_arrives() -> None:
    async with site() as here:
        remote = await here.remote("mx.there.test")
        here.domain("there.test", "mx.there.test")
        trace = await here.run(BOB, "carol@there.test")
        (taken,) = remote.taken
        assert taken.sender == ALICE
        assert taken.recipients == (BOB, "carol@there.test")
        assert taken.content == PREFIX + MESSAGE
        assert not taken.secure
        assert remote.connections == 1
        assert await here.waiting() == {}
        (event,) = await here.attempts(trace)
        assert event.data["results"][BOB]["code"] == 250
        assert event.data["results"][BOB]["host"] == "mx.there.test"
        transcript = "\n".join(event.data["transcript"])
        assert "connected to mx.there.test [127.0.0.2]" in transcript
        assert f"C: RCPT TO:<{BOB}>" in transcript
        assert "S: 250 2.0.0 taken" in transcript
        assert "Hello" not in transcript  # never the content
        assert await here.bounces() == []


@on_loop
async def test_a_large_message_streams() -> None:
    content = b"Subject: large\r\n\r\n" + b".xyz" * 15 + b"\r\n" + (b"y" * 70 + b"\r\n") * 30_000
    async with site() as here:
        remote = await here.remote("there.test")
        await here.run(BOB, content=content)
        assert remote.taken[0].content == PREFIX + content


@on_loop
async def test_eight_bit_content_is_declared() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        await here.run(BOB)
        await here.run(BOB, content=b"Subject: x\r\n\r\n\xc3\xa4\r\n")
        mails = [c for c in remote.commands if c.startswith("MAIL")]
        assert "BODY=8BITMIME" not in mails[0]
        assert "BODY=8BITMIME" in mails[1]


@on_both_loops
async def test_opportunistic_tls() -> None:
    async with site() as here:
        remote = await here.remote("there.test", tls=server_context("somebody-else.test"))
        trace = await here.run(BOB)
        assert remote.taken[0].secure
        (event,) = await here.attempts(trace)
        assert (event.data["tls"]["version"], event.data["tls"]["verified"]) == ("TLSv1.3", "")
        assert event.data["address"].startswith("[127.0.0.2]:")
        assert [c.split()[0] for c in remote.commands[:4]] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


@pytest.mark.parametrize("act", ["454 4.7.0 not now", "502 5.5.1 what?"])
@on_loop
async def test_starttls_refused_goes_on_without(act: str) -> None:
    async with site() as here:
        remote = await here.remote("there.test", {"STARTTLS": act}, tls=server_context())
        await here.run(BOB)
        assert not remote.taken[0].secure


@on_loop
async def test_a_tls_handshake_that_fails_is_followed_by_one_without() -> None:
    async with site() as here:
        remote = await here.remote(
            "there.test", {"STARTTLS": "220 go\r\nnonsense instead of TLS"}, tls=server_context()
        )
        trace = await here.run(BOB)
        assert not remote.taken
        assert remote.connections == 1  # a reply before the handshake: not a handshake that failed, but an attack
        (event,) = await here.attempts(trace)
        assert event.data["results"][BOB]["state"] == "deferred"
    async with site() as here:
        remote = await here.remote("there.test", {"STARTTLS": ["220 go", ""]}, tls=_broken())
        await here.run(BOB)
        assert [t.secure for t in remote.taken] == [False]
        assert remote.connections == 2


def _broken() -> Any:
    """A context that agrees with no client: there is no cipher in common."""
    context = server_context("broken.test")
    context.minimum_version = context.maximum_version = __import__("ssl").TLSVersion.TLSv1_2
    context.set_ciphers("PSK-AES128-GCM-SHA256")
    return context


@pytest.mark.parametrize("step", ["connect", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "content"])
@on_loop
async def test_a_connection_cut_before_the_end_goes_to_the_next_host(step: str) -> None:
    async with site() as here:
        tls = server_context() if step == "STARTTLS" else None
        first = await here.remote("mx1.test", {step: DROP}, tls=tls)
        second = await here.remote("mx2.test")
        here.domain("there.test", "mx1.test", "mx2.test")
        await here.run(BOB, content=LARGE if step == "content" else MESSAGE)
        assert not first.taken
        assert len(second.taken) == 1
        assert await here.waiting() == {}


@on_loop
async def test_a_connection_cut_after_the_final_dot_is_not_tried_elsewhere_at_once() -> None:
    """The first may have the message: only a later attempt may risk the duplicate (RFC 5321 section 6.1)."""
    async with site() as here:
        first = await here.remote("mx1.test", {"end": DROP})
        second = await here.remote("mx2.test")
        here.domain("there.test", "mx1.test", "mx2.test")
        await here.run(BOB)
        assert len(first.taken) == 1
        assert not second.connections
        row = (await here.waiting())[BOB]
        assert (row.attempts, row.last_status) == (1, "4.4.2")


@pytest.mark.parametrize("step", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "end"])
@on_loop
async def test_silence_is_ended_by_the_engines_patience(step: str) -> None:
    async with site(QUICK) as here:
        await here.remote("there.test", {step: SILENCE})
        await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert "did not answer" in row.last_text
        assert row.last_host == "there.test"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ({"MAIL": "451 4.7.1 later"}, 451),
        ({"RCPT": "450 4.2.0 greylisted"}, 450),
        ({"DATA": "452 4.3.1 full"}, 452),
        ({"end": "451 4.3.0 later"}, 451),
        ({"MAIL": "421 4.3.2 going down"}, 421),
    ],
)
@on_loop
async def test_a_server_that_defers_is_believed(script: Any, code: int) -> None:
    async with site() as here:
        await here.remote("mx1.test", script)
        second = await here.remote("mx2.test")
        here.domain("there.test", "mx1.test", "mx2.test")
        await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert (row.last_code, row.last_host, row.state) == (code, "mx1.test", "due")
        assert row.next_attempt > here.clock.now()
        assert not second.connections


@pytest.mark.parametrize("reply", ["554 5.7.1 not you", "421 4.3.2 too busy"])
@on_loop
async def test_a_server_that_does_not_want_to_talk_is_passed_over(reply: str) -> None:
    async with site() as here:
        await here.remote("mx1.test", {"connect": reply})
        second = await here.remote("mx2.test")
        here.domain("there.test", "mx1.test", "mx2.test")
        await here.run(BOB)
        assert len(second.taken) == 1


@on_loop
async def test_a_greeting_that_refuses_everywhere() -> None:
    async with site() as here:
        await here.remote("mx1.test", {"connect": "554 5.7.1 no mail from you"})
        await here.remote("mx2.test", {"connect": "421 4.3.2 too busy"})
        here.domain("one.test", "mx1.test")
        here.domain("two.test", "mx1.test", "mx2.test")
        await here.run("a@one.test", "a@two.test")
        assert list(await here.waiting()) == ["a@two.test"]  # one of the two may come back
        (bounce,) = await here.bounces()
        assert b"no mail from you" in bounce


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "end"])
@on_loop
async def test_a_refusal_bounces(step: str) -> None:
    async with site() as here:
        await here.remote("there.test", {step: "550 5.7.1 we do not\r\n"[:-2]})
        trace = await here.run(BOB)
        assert await here.waiting() == {}
        (bounce,) = await here.bounces()
        parsed = email.message_from_bytes(bounce)
        assert parsed["To"] == ALICE
        assert parsed["Return-Path"] == "<>"
        assert parsed.get_content_type() == "multipart/report"
        assert b"we do not" in bounce
        assert b"Final-Recipient: rfc822; bob@there.test" in bounce
        assert b"Status: 5.7.1" in bounce
        assert b"Remote-MTA: dns; there.test" in bounce
        assert b"Subject: hello" in bounce
        (event,) = await here.attempts(trace)
        assert event.data["results"][BOB]["state"] == "failed"


@on_loop
async def test_each_recipient_has_its_own_result() -> None:
    async with site() as here:
        remote = await here.remote(
            "there.test",
            {"RCPT no@there.test": "550 5.1.1 unknown", "RCPT later@there.test": "451 4.2.0 later"},
        )
        await here.run("yes@there.test", "no@there.test", "later@there.test", "also@there.test")
        assert remote.taken[0].recipients == ("yes@there.test", "also@there.test")
        assert list(await here.waiting()) == ["later@there.test"]
        (bounce,) = await here.bounces()
        assert b"no@there.test" in bounce
        assert b"later@there.test" not in bounce
        here.remotes["there.test"].script = {}
        await here.pass_time(70)
        assert remote.taken[1].recipients == ("later@there.test",)
        assert await here.waiting() == {}


@on_loop
async def test_a_server_without_pipelining_or_ehlo() -> None:
    async with site() as here:
        remote = await here.remote("there.test", {"EHLO": "502 5.5.1 what?"}, extensions=())
        await here.run(BOB)
        assert len(remote.taken) == 1
        assert remote.commands[1].startswith("HELO")


@on_loop
async def test_a_refusal_in_the_midst_of_the_content_is_heard() -> None:
    async with site() as here:
        await here.remote("there.test", {"content": "552 5.3.4 too big"})
        await here.run(BOB, content=LARGE)
        rows = await here.waiting()
        # The kernel may throw the reply away with the data that was not read: then it is tried again.
        assert rows == {} or "too big" in rows[BOB].last_text or "broke" in rows[BOB].last_text


@on_loop
async def test_addresses_of_a_host_in_turn() -> None:
    async with site() as here:
        remote = await here.remote("there.test")
        here.zone["there.test"]["A"].insert(0, "127.0.0.99")
        await here.run(BOB)
        assert len(remote.taken) == 1


@on_loop
async def test_no_connection() -> None:
    async with site() as here:
        await here.remote("other.test")
        here.zone["there.test"] = {"A": ["127.0.0.99"]}
        await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert row.last_status == "4.4.1"
        assert "connection refused" in row.last_text


@on_loop
async def test_a_smart_host_with_login_and_tls(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2hunter2\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(root_file()))
    for name, offered, taken in (("localhost", True, 1), ("localhost", False, 0), ("wrong.test", True, 0)):
        port = await _smart_port()
        smart = {"host": "localhost", "port": port, "user": "me", "password_file": str(password)}
        async with site(relay={"smarthost": smart}) as here:
            here.port = port
            here.zone["localhost"] = {"A": ["127.0.0.2"]}
            remote = await here.remote(
                "smart.test",
                extensions=("PIPELINING", "AUTH PLAIN"),
                tls=server_context(name) if offered else None,
            )
            trace = await here.run("a@one.test", "b@two.test")
            assert len(remote.taken) == taken
            if taken:
                assert remote.taken[0].recipients == ("a@one.test", "b@two.test")
                assert remote.taken[0].secure
                assert any(c.startswith("AUTH PLAIN ") for c in remote.commands)
            else:
                assert not any(c.startswith("AUTH") for c in remote.commands)
                assert len(await here.waiting()) == 2
            (event,) = await here.attempts(trace)
            assert "hunter2" not in str(event.data)


async def _smart_port() -> int:
    from tests.support.remote import Remote

    probe = Remote()
    port = await probe.start("127.0.0.2")
    await probe.stop()
    return port


@on_loop
async def test_a_refused_login_never_bounces(tmp_path: Any) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2hunter2\n")
    port = await _smart_port()
    smart = {"host": "127.0.0.2", "port": port, "user": "me", "password_file": str(password), "tls": "none"}
    async with site(relay={"smarthost": smart}) as here:
        here.port = port
        await here.remote("smart.test", {"AUTH": "535 5.7.8 wrong"}, extensions=("AUTH PLAIN",))
        await here.run(BOB)
        assert "refused our login" in (await here.waiting())[BOB].last_text
        assert await here.bounces() == []
