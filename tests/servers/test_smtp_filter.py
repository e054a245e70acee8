"""Filters as clients meet them: rules, names, lists, limits, greylisting and hooks over real connections."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.servers.test_smtp_more import CLEAR, LOGIN, MESSAGE, submitted
from tests.support.house import House, opened


def run(
    folder: Path, test: Callable[[House], Awaitable[None]], policy: str = "", name: str = "client.test", **chosen: Any
) -> None:
    if policy:
        (folder / "policy.py").write_text("from posthouse.filter.hooks import *\n" + policy)
        chosen["policy"] = str(folder / "policy.py")
    zone = {"1.0.0.127.bad.test": {"A": ["127.0.0.2"]}, "1.0.0.127.in-addr.arpa": {"PTR": [name]}}
    changes: dict[str, Any] = CLEAR | {
        "limits": {"trusted": []},
        "filter": chosen,
        "dns": {"only_zone": True, "zone": zone | {"client.test": {"A": ["127.0.0.1"]}}},
        "postmaster": "alice@posthouse.test",
    }

    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, **changes) as house:
            await test(house)

    asyncio.run(main())


async def send(
    house: House, sender: str = "x@example.com", to: str = "bob@posthouse.test", text: str = "x"
) -> list[str]:
    lines = ["EHLO c.example", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA", f"Subject: t\r\n\r\n{text}\r\n."]
    return await house.said("smtp", *lines)


def test_rules(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house, "x@spam.example"))[2] == "550 5.7.1 No thanks\r\n"
        assert (await send(house, "x@friend.spam.example"))[-1].startswith("250 ")
        (message,) = await house.inbox("bob")
        assert b"\r\nX-Posthouse-Tag: night\r\n" in message
        assert (await send(house, text="y" * 2000))[-1].startswith("552 5.7.1 Too long")

    rules = [
        {"sender": ["@friend.spam.example"], "action": "tag", "tag": "night"},
        {"sender": ["@friend.spam.example"], "action": "accept"},
        {"sender": ["@spam.example"], "action": "reject", "text": "No thanks"},
        {"larger": 1000, "action": "reject", "code": 552, "text": "Too long"},
    ]
    run(tmp_path, test, rule=rules)


def test_a_client_may_be_refused_before_it_says_anything(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        replies = await house.said("smtp", "EHLO c.example", "QUIT")
        assert replies[0].startswith("554 Not from there")
        assert [reply[:3] for reply in replies[1:]] == ["503", "221"]

    rule = {"network": ["127.0.0.0/8"], "reverse_dns": ["*.test"], "action": "reject", "text": "Not from there"}
    run(tmp_path, test, rule=[rule])


def test_names_and_greetings(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await house.said("smtp", "EHLO localhost"))[-1].startswith("550 5.7.1 Your greeting localhost")
        assert (await house.said("smtp", "EHLO mail.posthouse.test"))[-1].startswith("550 ")
        assert (await house.said("smtp", "EHLO c.example"))[-1].startswith("250")

    run(tmp_path, test, hello="reject", reverse_dns="require")


def test_a_client_without_a_name_reaches_postmaster_alone(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house))[3].startswith("450 4.7.25 ")
        assert (await send(house, to="postmaster@posthouse.test"))[-1].startswith("250 ")

    run(tmp_path, test, name="other.test", reverse_dns="defer")


def test_who_speaks_first_is_no_mail_server(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["smtp"])
        writer.write(b"EHLO early.example\r\n")
        assert (await reader.readline()).startswith(b"554 5.5.0 You spoke before the greeting")
        writer.close()
        assert (await house.said("smtp", "EHLO c.example"))[-1].startswith("250")

    run(tmp_path, test, banner_delay=0.2)


def test_a_listed_client_reaches_postmaster_alone(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        reply = (await send(house))[3]
        assert reply.startswith("550 5.7.1 Your address 127.0.0.1 or name is listed: bad.test (127.0.0.2)")
        assert (await send(house, to="postmaster@posthouse.test"))[-1].startswith("250 ")
        replies = await submitted(house, "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<bob@posthouse.test>")
        assert replies[-1].startswith("250 "), "our own people are not asked"

    run(tmp_path, test, list=[{"zone": "bad.test"}])


def test_limits_and_their_notice(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        mail = "MAIL FROM:<alice@posthouse.test>"
        for _ in range(2):
            assert (await submitted(house, mail, "RCPT TO:<bob@posthouse.test>", "DATA", MESSAGE))[-1].startswith(
                "250 "
            )
        for _ in range(2):
            reply = (await submitted(house, mail))[-1]
            assert reply.startswith("450 4.7.28 At most 2 messages an hour")
        while not await house.inbox("alice"):
            pass  # nobody waits for the notice
        (notice,) = await house.inbox("alice")
        assert b"Subject: A limit of sending is over\r\n" in notice
        assert b"account alice@posthouse.test: more than 2 messages an hour" in notice
        assert (await send(house))[-1].startswith("250 ")
        assert (await send(house))[3].startswith("450 4.7.28 At most 1 recipients an hour")

    run(tmp_path, test, account_limit={"messages_per_hour": 2}, network_limit={"recipients_per_hour": 1})


def test_greylisting(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house))[3].startswith("451 4.7.1 We do not know you yet")
        replies = await submitted(house, "MAIL FROM:<alice@posthouse.test>", "RCPT TO:<bob@posthouse.test>")
        assert replies[-1].startswith("250 ")

    run(tmp_path, test, greylist=True)


POLICY = """
async def on_mail(mail):
    if mail.sender == "late@example.com":
        return defer("Come back tomorrow", 450)

def on_rcpt(rcpt):
    if rcpt.recipient == "nobody@posthouse.test":
        return accept()
    if len(rcpt.recipients) > 1:
        return reject("Two are enough", 552)

def on_headers(headers):
    return tag("hello-" + headers.get("subject"))

def on_message(message):
    if b"virus" in message.content:
        return reject("There is a virus in it")
    if b"bug" in message.content:
        return message.no_such_field

def on_deliver(copy):
    if copy.account.startswith("bob@"):
        return into("Archive") if copy.get("Subject") == "t" else None
    return discard()
"""


def test_hooks(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert (await send(house, "late@example.com"))[2] == "450 4.7.1 Come back tomorrow\r\n"
        assert (await send(house, to="nobody@posthouse.test"))[3].startswith("550 5.1.1 "), "a hook opens no door"
        assert (await send(house, text="a virus"))[-1].startswith("550 5.7.1 There is a virus in it (id ")
        assert (await send(house, text="a bug"))[-1].startswith("451 4.3.0 ")
        (notice,) = await house.inbox("alice")
        assert b"Subject: The policy hook on_message fails\r\n" in notice
        assert b"AttributeError" in notice
        assert (await send(house))[-1].startswith("250 ")
        assert await house.inbox("bob") == []
        assert (await send(house, to="alice@posthouse.test"))[-1].startswith("250 ")
        assert len(await house.inbox("alice")) == 1, "the copy was discarded"
        three = [f"RCPT TO:<bob+{n}@posthouse.test>" for n in range(3)]
        replies = await house.said("smtp", "EHLO c", "MAIL FROM:<x@example.com>", *three)
        assert [reply[:3] for reply in replies[-3:]] == ["250", "250", "552"]

    run(tmp_path, test, POLICY)


def test_tags_are_of_one_message(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        first = ("MAIL FROM:<a@spam.example>", "RCPT TO:<bob@posthouse.test>", "DATA", "Subject: 1\r\n\r\nx\r\n.")
        second = ("MAIL FROM:<a@good.example>", *first[1:])
        await house.said("smtp", "EHLO c.example", *first, *second)
        one, two = await house.inbox("bob")
        assert one.count(b"X-Posthouse-Tag: spam") == 1
        assert one.count(b"X-Posthouse-Tag: all") == 1
        assert b"X-Posthouse-Tag: spam" not in two
        assert two.count(b"X-Posthouse-Tag: all") == 1

    rules = [
        {"network": ["127.0.0.1"], "action": "tag", "tag": "all"},
        {"sender": ["@spam.example"], "action": "tag", "tag": "spam"},
    ]
    run(tmp_path, test, rule=rules)


def test_a_hook_may_refuse_a_login(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        replies = await house.said("submission", "EHLO c.example", LOGIN, "MAIL FROM:<alice@posthouse.test>")
        assert replies[2].startswith("535 5.7.1 Not on a Sunday")
        assert replies[3].startswith("530 ")

    run(tmp_path, test, "def on_auth(auth): return reject('Not on a Sunday') if auth.login else None")
