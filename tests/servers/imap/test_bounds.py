"""Costly commands: what they hold of memory, and that others get their turn."""

import asyncio
import base64
import re
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from posthouse.imap import view
from posthouse.imap.commands.fetch import FetchRequest, Section
from posthouse.imap.commands.search import MAX_KEYS
from posthouse.imap.fetch import SMALL, compile_fetch
from posthouse.imap.view import USUAL
from posthouse.net import connection as runtime
from posthouse.servers.imap import fetch
from posthouse.servers.imap import list as listing
from posthouse.servers.imap import select as selecting
from posthouse.store import select as stored
from posthouse.store.index import texts
from tests.support.imap_site import ImapSite
from tests.support.store import opened

LINES = b"0123456789 abcdefghijklmnopqrstuvwxyz\r\n"
MESSAGE = b"Subject: large\r\n\r\n" + LINES * (250 * 1024 // len(LINES))


def test_many_partials_are_made_in_bounded_pieces_and_all_arrive() -> None:
    wanted = [(at, 200_000) for at in range(0, 99 * 500, 500)]
    items = " ".join(f"BODY.PEEK[]<{at}.{count}>" for at, count in wanted)

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            for _ in range(2):
                await site.deliver(MESSAGE)
            await client.command("SELECT INBOX")
            answer = await client.command(f"FETCH 1:2 ({items})")
            found = re.search(rb"BODY\[\]<0> \{200000\}\r\n", answer)
            assert found is not None
            assert answer.count(b" FETCH (") == 2
            for at, count in wanted:
                literal = b"BODY[]<%d> {%d}\r\n" % (at, count) + MESSAGE[at : at + count]
                assert answer.count(literal) == 2, at
            assert answer.endswith(b")\r\nT OK FETCH completed\r\n")

            sections = tuple(Section(b"BODY[]", partial=partial, peek=True) for partial in wanted)
            plan = compile_fetch(FetchRequest((), sections), USUAL)
            mailbox = await database.read(lambda tx: tx.one("SELECT mailbox_id FROM entry"))
            assert mailbox is not None
            part = await database.read(fetch.render, mailbox[0], plan, array("I", [1, 2]), 1, [], frozenset())
            assert part.section
            assert sum(len(piece) for piece in part.pieces if isinstance(piece, bytes)) <= fetch.BUDGET + SMALL

    asyncio.run(main())


def test_a_message_that_goes_in_the_middle_of_its_response_leaves_it_whole() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await site.deliver(MESSAGE)
            plan = compile_fetch(FetchRequest((b"UID",)), USUAL)
            sections = (Section(b"BODY[]", peek=True),) * 2
            plan = plan._replace(sections=sections, columns=("uid", "flags", "keywords", "size"))
            mailbox = await database.read(lambda tx: tx.one("SELECT mailbox_id FROM entry"))
            assert mailbox is not None
            await database.write(lambda tx: tx.run("UPDATE entry SET expunged = 1"))
            part = await database.read(fetch.render, mailbox[0], plan, array("I", [1]), 1, [], frozenset(), 1)
            assert part.pieces == [b")\r\n"]
            assert (part.done, part.missing, part.section) == (1, 1, 0)
            await database.write(lambda tx: tx.run("UPDATE entry SET expunged = 0"))

    asyncio.run(main())


def test_seen_is_told_for_every_message_that_fetch_marks() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            for _ in range(9):  # more than one go
                await site.deliver(MESSAGE)
            await client.command("SELECT INBOX")
            answer = await client.command("FETCH 1:* BODY[]")
            assert len(re.findall(rb"FLAGS \(\\Seen(?: \\Recent)?\)\)\r\n", answer)) == 9

    asyncio.run(main())


def test_seen_is_told_even_of_a_message_whose_encoding_cannot_be_undone() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            await site.deliver(b"Content-Transfer-Encoding: x-unknown\r\n\r\ndata\r\n")
            await site.deliver(b"Subject: plain\r\n\r\ndata\r\n")
            await client.command("SELECT INBOX")
            answer = await client.try_command("FETCH 1:2 BINARY[1]")
            assert (
                b"* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent))\r\n* 2 FETCH (BINARY[1] {6}\r\ndata\r\n FLAGS (" in answer
            )
            assert b"\r\nT NO [UNKNOWN-CTE] " in answer

    asyncio.run(main())


def test_only_usual_requests_are_remembered() -> None:
    names = tuple(b"x-field-%d" % n for n in range(100))
    for request in (
        FetchRequest((b"UID",), (Section(b"BODY[HEADER.FIELDS (...)]", part=b"HEADER.FIELDS", fields=names),)),
        FetchRequest((), (Section(b"BODY[]", peek=True),) * 99),
    ):
        assert compile_fetch(request, USUAL) is not compile_fetch(request, USUAL)
    usual = FetchRequest((b"UID", b"FLAGS"), (Section(b"BODY[HEADER]", part=b"HEADER", peek=True),))
    assert compile_fetch(usual, USUAL) is compile_fetch(usual, USUAL)


def test_many_texts_cost_one_look_at_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counting(*args: Any) -> Iterator[str]:
        nonlocal looks
        looks += 1
        return real(*args)

    real = texts.body_texts
    monkeypatch.setattr(texts, "body_texts", counting)
    body = b"Content-Transfer-Encoding: base64\r\n\r\nZ3LDvG4gYW5kIHJvdA==\r\n"  # grün and rot

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in()
            await site.deliver(b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n" + body)
            await client.command("SELECT INBOX")
            absent = " ".join(f"NOT BODY absent{n}" for n in range(90))
            assert b"SEARCH 1\r\n" in await client.command(f"SEARCH {absent} BODY rot TEXT AND")
            assert looks == 1
            assert b"SEARCH\r\n" in await client.command(f"SEARCH {absent} OR BODY blau BODY gelb")
            assert looks == 2
            answer = await client.try_command("SEARCH " + "TEXT x " * 100 + "TEXT x")
            assert answer.startswith(b"T BAD "), answer

    asyncio.run(main())


def _many_parts(count: int) -> bytes:
    return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * count + b"--b--\r\n"


@pytest.mark.parametrize(
    ("mail", "items", "at_once"),
    [
        (b"Subject: x\r\n\r\nx\r\n", "BODY.PEEK[]", True),
        (MESSAGE, "FLAGS BODY.PEEK[] BODY.PEEK[TEXT]<0.9>", True),
        (MESSAGE, " ".join(f"BODY.PEEK[]<{at}.9>" for at in range(9)), False),
        (MESSAGE, "BINARY.SIZE[1]", False),
        (_many_parts(3000), "BODY.PEEK[7]", False),
        (b"Subject: in a file\r\n\r\n" + LINES * 9000, "BODY.PEEK[TEXT]<0.9>", False),
        (b"Subject: x\r\n\r\nx\r\n", "ENVELOPE FLAGS", True),
    ],
)
def test_the_event_loop_reads_small_things_only(
    mail: bytes, items: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await site.deliver(mail)
            client = await site.logged_in("INBOX")
            done = []
            render = fetch.render

            def noted(tx: Any, *args: Any) -> fetch.Rendered:
                rendered = render(tx, *args)
                done.append(tx.brief)
                return rendered

            monkeypatch.setattr(fetch, "render", noted)
            answer = await client.command(f"FETCH 1 ({items})")
            assert answer.startswith(b"* 1 FETCH (")
            assert set(done) == {at_once}

    asyncio.run(main())


def test_many_single_messages_let_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "TURN", -1.0)  # each turn is over at once

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(40):
                await site.deliver(b"Subject: x\r\n\r\nx\r\n")
            client = await site.logged_in("INBOX")
            turns: list[int] = []
            render = fetch.render

            def noted(*args: Any) -> fetch.Rendered:
                asyncio.get_running_loop().call_soon(turns.append, 1)
                seen.append(len(turns))
                return render(*args)

            seen: list[int] = []
            monkeypatch.setattr(fetch, "render", noted)
            await client.command(f"FETCH {','.join(str(n) for n in range(1, 40, 2))} (FLAGS)")
            assert seen == list(range(20))

    asyncio.run(main())


def test_list_lets_others_have_their_turn() -> None:
    async def main() -> None:
        names = [f"folder/{n}/" + "a" * 100 for n in range(1000)]
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.get_running_loop().create_task(other())
        found = await listing._matching([f"%/{n}*a%a*" for n in range(100)], names)
        task.cancel()
        assert found == set(names)
        assert turns > 400  # 11 million letters

    asyncio.run(main())


def test_as_many_search_keys_as_are_taken_can_be_answered() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            await site.deliver(MESSAGE)
            client = await site.logged_in("INBOX")
            for key in ("UNSEEN", "NOT SEEN", "OR SEEN UNSEEN", "UID 1:5,7,9:*"):
                count = MAX_KEYS // (1 + key.count("NOT") + 2 * key.count("OR"))
                answer = await client.try_command("SEARCH " + " ".join([key] * count))
                assert answer.startswith(b"* SEARCH 1\r\n"), (key, answer)
            assert b"T BAD" in await client.try_command("SEARCH " + " ".join(["UNSEEN"] * (MAX_KEYS + 1)))
            await client.command("SEARCH 1")

    asyncio.run(main())


def test_a_client_that_reads_again_in_idle_hears_what_came_meanwhile() -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            client = await site.logged_in("INBOX")
            await client.send(b"a IDLE\r\n")
            client.connection.pause_writing()
            await site.deliver(MESSAGE)
            await client.settle()
            assert client.transport.take() == b""
            client.connection.resume_writing()
            await client.settle()
            assert b"* 1 EXISTS\r\n" in client.transport.take()

    asyncio.run(main())


@pytest.mark.parametrize("items", [(b"ENVELOPE",), (b"BODYSTRUCTURE", b"FLAGS"), (b"X-GM-LABELS", b"BODYSTRUCTURE")])
@pytest.mark.parametrize("backwards", [False, True])
def test_structures_are_cut_by_their_lengths(items: tuple[bytes, ...], backwards: bool) -> None:
    """A thousand messages may have a MiB of BODYSTRUCTURE each: they are never loaded together."""
    each, count = 300 * 1024, 10

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(count):
                await site.deliver(b"Subject: x\r\n\r\nx\r\n")
            rows = await database.read(lambda tx: tx.all("SELECT id, envelope, bodystructure FROM email"))
            value = b"(" + b"x" * each + b")"
            await database.write(lambda tx: tx.run("UPDATE email SET envelope = ?, bodystructure = ?", value, value))
            found = await database.read(lambda tx: tx.one("SELECT mailbox_id FROM entry"))
            assert found is not None
            plan = compile_fetch(FetchRequest(items), USUAL)
            low, high, numbers = 0, count, []
            while low < high:
                uids = array("I", range(low + 1, high + 1))
                part = await database.read(
                    fetch.render, found[0], plan, uids, low + 1, [], frozenset(), 0, 0, backwards
                )
                (data,) = part.pieces
                assert isinstance(data, bytes)
                assert len(data) <= max(fetch.BUDGET, each) + 1000
                numbers += [int(number) for number in re.findall(rb"\* (\d+) FETCH", data)]
                low, high = (low, high - part.done) if backwards else (low + part.done, high)
            assert numbers == (list(range(count, 0, -1)) if backwards else list(range(1, count + 1)))
            one = FetchRequest((b"BODYSTRUCTURE",), (Section(b"BODY[]", peek=True),))
            part = await database.read(
                fetch.render, found[0], compile_fetch(one, USUAL), array("I", range(1, count + 1)), 1, [], frozenset()
            )
            assert 0 < part.done < 5  # contents that come with them are few too
            await database.write(
                lambda tx: tx.many(
                    "UPDATE email SET envelope = ?, bodystructure = ? WHERE id = ?",
                    [(envelope, structure, number) for number, envelope, structure in rows],
                )
            )

    asyncio.run(main())


def test_flags_that_changed_while_nobody_listened_are_read_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            for _ in range(20):
                await site.deliver(b"Subject: x\r\n\r\nx\r\n")
            monkeypatch.setattr(view, "MAX_CHANGED", 5)
            monkeypatch.setattr(selecting, "FLAGS_SLICE", 3)
            slices = []
            read = stored.flags_since

            def seen(*args: Any) -> Any:
                slices.append(read(*args))
                return slices[-1]

            monkeypatch.setattr(stored, "flags_since", seen)
            quiet = await site.logged_in("INBOX")
            changer = await site.logged_in("INBOX")
            opening = await quiet.command("SELECT INBOX")
            validity, modseq = (
                re.search(name + rb" (\d+)", opening)[1].decode()  # type: ignore[index]
                for name in (b"UIDVALIDITY", b"HIGHESTMODSEQ")
            )
            await changer.command("STORE 1:17 +FLAGS.SILENT (\\Flagged)")
            answer = await quiet.command("NOOP")
            assert {int(one) for one in re.findall(rb"FETCH \(UID (\d+) FLAGS", answer)} == set(range(1, 18))
            assert len(slices) > 5
            assert max(map(len, slices)) == 3
            slices.clear()
            late = await site.logged_in()
            await late.command("ENABLE QRESYNC")
            answer = await late.command(f"SELECT INBOX (QRESYNC ({validity} {modseq} 2:5,16:18))")
            told = [int(one) for one in re.findall(rb"FETCH \(UID (\d+) FLAGS", answer)]
            assert told == [2, 3, 4, 5, 16, 17]
            assert max(map(len, slices)) == 3

    asyncio.run(main())


@pytest.mark.parametrize("partial", ["", "/;PARTIAL=100000.500000"])
def test_a_large_part_is_decoded_piece_by_piece_for_urlfetch(partial: str) -> None:
    content = bytes(range(256)) * 4000
    coded = b"".join(base64.b64encode(content[at : at + 57]) + b"\r\n" for at in range(0, len(content), 57))

    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            head = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            await site.deliver(head + coded)
            client = await site.logged_in()
            url = f"imap://alice%40example.org@mail.example.org/INBOX/;UID=1/;SECTION=1{partial};URLAUTH=anonymous"
            answer = await client.command(f'GENURLAUTH "{url}" INTERNAL')
            authorized = answer.split(b"\r\n")[0].removeprefix(b"* GENURLAUTH ")
            answer = await client.command(b"URLFETCH (%b BINARY)" % authorized)
            wanted = content[100_000:600_000] if partial else content
            assert answer == b"* URLFETCH %b (BINARY ~{%d}\r\n%b)\r\nT OK URLFETCH completed\r\n" % (
                authorized,
                len(wanted),
                wanted,
            )

    asyncio.run(main())
