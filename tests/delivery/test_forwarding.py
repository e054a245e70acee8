"""Forwarding by aliases: the sender becomes ours, bounces find their way back, and nothing else comes in that way."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from posthouse.delivery.forwarding import KEY
from posthouse.delivery.inject import Injector
from posthouse.store import accounts, events, keys
from posthouse.wire.address import Address
from tests.support.house import House, opened
from tests.support.store import opened as store_opened

MESSAGE = "From: x@example.com\r\nSubject: hello\r\n\r\nbody\r\n."


Sent = Callable[[], Awaitable[tuple[str, tuple[str, ...]]]]  # sender and recipients of the next that goes out


def run(folder: Path, test: Callable[[House, Sent], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def sent_on() -> tuple[str, tuple[str, ...]]:
            one = await queue.get()
            return one["sender"], one["recipients"]

        async with asyncio.timeout(60), opened(folder, captured=queue.put_nowait, **changes) as house:
            await house.database.write(accounts.add_address, "fwd@posthouse.test", "bob@far.example")
            await test(house, sent_on)
            assert queue.empty()

    asyncio.run(main())


async def sent(house: House, sender: str, *recipients: str) -> list[str]:
    rcpts = [f"RCPT TO:<{r}>" for r in recipients]
    return (await house.said("smtp", "EHLO c.example", f"MAIL FROM:<{sender}>", *rcpts, "DATA", MESSAGE))[3:]


def test_the_sender_of_forwarded_mail_is_ours_and_bounces_go_back(tmp_path: Path) -> None:
    async def test(house: House, sent_on: Sent) -> None:
        replies = await sent(house, "Ann@origin.example", "fwd@posthouse.test", "bob@posthouse.test")
        assert replies[-1].startswith("250 ")
        sender, to = await sent_on()
        assert to == ("bob@far.example",)
        address = Address.parse(sender)
        assert address is not None
        assert address.domain == "mail.posthouse.test"
        assert address.local_part.startswith("SRS0=")
        assert address.local_part.endswith("=origin.example=Ann")
        (kept,) = await house.inbox("bob")
        assert kept.startswith(b"Return-Path: <Ann@origin.example>\r\n"), "who has a mailbox sees who wrote"

        assert (await sent(house, "", sender))[-1].startswith("250 ")
        assert await sent_on() == ("", ("Ann@origin.example",))

        for stranger, whom, code in (
            ("x@example.com", sender, "550 5.7.1 This address takes bounces"),
            ("", sender.replace("=Ann", "=Eve"), "550 5.1.1 This address of forwarded mail was not made here"),
            ("", "SRS0=x@mail.posthouse.test", "550 5.7.1 We do not relay"),
            ("", sender.replace("@mail.posthouse.test", "@elsewhere.example"), "550 5.7.1 We do not relay"),
        ):
            assert (await sent(house, stranger, whom))[0].startswith(code), whom

        await house.database.write(keys.rotate, KEY)
        assert (await sent(house, "", sender))[-1].startswith("250 "), "the key before is believed"
        assert await sent_on() == ("", ("Ann@origin.example",))

    run(tmp_path, test)


def test_what_is_not_rewritten(tmp_path: Path) -> None:
    async def test(house: House, sent_on: Sent) -> None:
        for sender in ("", "carol@posthouse.test", "x@mail.posthouse.test"):
            assert (await sent(house, sender, "fwd@posthouse.test"))[-1].startswith("250 ")
            assert await sent_on() == (sender, ("bob@far.example",))

    run(tmp_path, test)


def test_it_can_be_switched_off_and_have_a_domain_of_its_own(tmp_path: Path) -> None:
    async def off(house: House, sent_on: Sent) -> None:
        await sent(house, "x@example.com", "fwd@posthouse.test")
        assert await sent_on() == ("x@example.com", ("bob@far.example",))

    async def own(house: House, sent_on: Sent) -> None:
        await sent(house, "x@example.com", "fwd@posthouse.test")
        sender, _ = await sent_on()
        assert sender.endswith("=example.com=x@fwd.posthouse.test")
        assert (await sent(house, "", sender))[-1].startswith("250 ")
        assert await sent_on() == ("", ("x@example.com",))

    run(tmp_path / "off", off, relay={"capture": True, "srs": False})
    run(tmp_path / "own", own, relay={"capture": True, "srs_domain": "fwd.posthouse.test"})


def test_who_is_relayed_keeps_the_sender_beside_who_is_forwarded(tmp_path: Path) -> None:
    async def test(house: House, sent_on: Sent) -> None:
        replies = await sent(house, "x@example.com", "fwd@posthouse.test", "direct@other.example")
        trace = replies[-1].split()[-1]
        both = {to[0]: sender for sender, to in (await sent_on(), await sent_on())}
        assert both["direct@other.example"] == "x@example.com"
        assert both["bob@far.example"].endswith("=example.com=x@mail.posthouse.test")
        rows = await house.database.read(lambda tx: tx.all("SELECT DISTINCT trace FROM event"))
        found = [e for (t,) in rows for e in await house.database.read(events.of_trace, t) if e.kind == "accepted"]
        assert [e.data["forwarded_from"] for e in found if "forwarded_from" in e.data] == [trace]

    run(tmp_path, test, relay={"capture": True, "networks": ["127.0.0.0/8"]})


def test_our_own_bounce_of_forwarded_mail_goes_to_its_origin() -> None:
    async def main() -> None:
        from posthouse.base.ids import IdSource
        from posthouse.base.settings import Settings
        from posthouse.delivery.directory import Directory
        from posthouse.delivery.forwarding import Forwarding
        from posthouse.store.feed import ChangeFeed
        from tests.support.clock import FakeClock

        async with store_opened() as database:
            clock = FakeClock()
            forwarding = Forwarding(database, clock, Settings(hostname="mail.here.test"))
            directory = Directory(database, ChangeFeed(), "mail.here.test")
            injector = Injector(database, directory, clock, IdSource(), "mail.here.test", 5.0, forwarding)
            sender = str(await forwarding.sender(Address("ann", "origin.example")))
            found, nobody, _ = await injector.prepare("", [sender], b"Subject: x\r\n\r\n", {})
            assert not nobody
            assert found is not None
            assert [r.address for r in found.remote] == ["ann@origin.example"]
            forged = sender.replace("=ann", "=eve")
            lost: tuple[Any, ...] = (None, frozenset({forged}), frozenset())
            assert await injector.prepare("", [forged], b"Subject: x\r\n\r\n", {}) == lost
            assert await injector.prepare("x@example.com", [sender], b"Subject: x\r\n\r\n", {}) == (
                None,
                frozenset({sender}),
                frozenset(),
            )

            # Held mail that an alias leads elsewhere is forwarded when its time has come.
            def alias(tx: Any) -> None:
                accounts.add_domain(tx, "here.test", 1)
                accounts.add_address(tx, "fwd@here.test", "bob@far.example")

            await database.write(alias)
            directory.forget()
            found, nobody, _ = await injector.prepare(
                "ann@origin.example", ["fwd@here.test"], b"Subject: x\r\n\r\n", {}
            )
            assert found is not None
            assert not nobody
            assert found.remote == ()
            assert found.forwarded is not None
            assert found.forwarded.sender.startswith("SRS0=")
            assert found.forwarded.id == found.trace

    asyncio.run(main())
