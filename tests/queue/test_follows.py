"""What an attempt writes into the trace besides the replies: the next attempt, the end, what it led to; no secrets."""

import base64
from pathlib import Path

import pytest

from posthouse.base import ids
from posthouse.store import events
from tests.queue.site import DAYS, SECOND, site
from tests.support.loop import on_loop
from tests.support.remote import Remote

BOB, AMY = "bob@there.test", "amy@there.test"


@on_loop
async def test_the_next_attempt_and_the_bounce() -> None:
    async with site() as here:
        await here.remote("there.test", {f"RCPT {BOB}": "450 4.2.0 later", f"RCPT {AMY}": "550 5.1.1 unknown"})
        trace = await here.run(BOB, AMY)
        (event,) = await here.attempts(trace)
        assert event.data["next"] == {BOB: (await here.waiting())[BOB].next_attempt}
        assert "ended" not in event.data
        (led,) = event.data["led_to"]
        assert led["why"] == "failed"
        (bounce,) = await here.database.read(events.of_trace, ids.from_text(led["id"]) or 0)
        assert bounce.data["bounce_of"] == ids.to_text(trace)
        assert bounce.data["became"] == [{"accounts": [here.alice]}]


@on_loop
async def test_a_message_that_is_given_up_has_failed() -> None:
    async with site(queue={"delay_warning": "4 h"}) as here:
        await here.remote("there.test", {"RCPT": "450 4.2.0 later"})
        trace = await here.run(BOB)
        await here.pass_time(5 * DAYS / SECOND + 60)
        attempts = await here.attempts(trace)
        assert attempts[-1].data["ended"] == {BOB: "failed"}
        assert "next" not in attempts[-1].data
        assert [led["why"] for event in attempts for led in event.data.get("led_to", ())] == ["delayed", "failed"]


async def _port() -> int:
    probe = Remote()
    port = await probe.start("127.0.0.2")
    await probe.stop()
    return port


PASSWORD = "hunter2hunter2"
PROOFS = [
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0me\0{PASSWORD}".encode()).decode(),
]


@on_loop
@pytest.mark.parametrize(
    ("mechanism", "script"),
    [
        ("PLAIN", {}),
        ("PLAIN", {"AUTH": "535 5.7.8 wrong"}),
        # Some servers repeat what they were told.
        ("PLAIN", {"AUTH": f"535 5.7.8 wrong: AUTH PLAIN {PROOFS[2]} is not for {PASSWORD}"}),
        ("LOGIN", {"AUTH": "334 VXNlcm5hbWU6", "BWU=": "334 UGFzc3dvcmQ6", PROOFS[1].upper(): f"500 {PROOFS[1]}?"}),
        ("CRAM-MD5", {"AUTH": "334 PDEuMkBoZXJlLnRlc3Q+"}),
        ("SCRAM-SHA-256", {"AUTH": "334 cj1ub25lLHM9c2FsdCxpPTE="}),
    ],
)  # fmt: skip
async def test_logins_at_smart_hosts_are_not_in_the_trace(
    mechanism: str, script: dict[str, str | list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    port = await _port()
    smart = {"host": "127.0.0.2", "port": port, "user": "me", "password_file": str(file), "tls": "none"}
    async with site(relay={"smarthost": smart}) as here:
        here.port = port
        remote = await here.remote("smart.test", script, extensions=(f"AUTH {mechanism}",))
        trace = await here.run(BOB)
        assert any(command.startswith(f"AUTH {mechanism}") for command in remote.commands)
        (event,) = await here.attempts(trace)
        assert any(line.startswith(f"C: AUTH {mechanism}") for line in event.data["transcript"])
        told = [*map(str, await here.database.read(events.of_trace, trace)), str(await here.waiting())]
        known = ("EHLO", "MAIL", "RCPT")
        sent = [one.split()[-1] for one in remote.commands if not one.startswith(known) and len(one.split()[-1]) > 16]
        assert sent
        for secret in (*PROOFS, *sent):
            assert not any(secret in text for text in told), secret
