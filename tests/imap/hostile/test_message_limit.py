"""MESSAGELIMIT (RFC 9738) on a real socket, with the smallest limit that the settings take: whatever form a command
has, it works on 1,000 messages, and one that goes on where it stopped gets to the end."""

import asyncio
import re
from pathlib import Path

import pytest

from posthouse.imap.commands.append import MAX_MESSAGES
from tests.support import house
from tests.support.imap_wire import Wire, literals, wire

LIMIT, COUNT = 1000, 1005
SMALL = b"Subject: s\r\n\r\nx\r\n"
_stopped = re.compile(rb"T OK \[MESSAGELIMIT 1000 (\d+)\] ").match


async def fill(client: Wire) -> None:
    for count in (LIMIT, COUNT - LIMIT):
        assert (await client.last(b"APPEND INBOX" + literals([SMALL] * count))).startswith(b"T OK [APPENDUID ")
    assert b"READ-WRITE" in await client.last("SELECT INBOX")


def stopped(answer: bytes) -> int:
    found = _stopped(answer)
    return int(found[1]) if found else 0


def test_reading_stops_at_the_limit_in_every_form(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path, limits={"imap_messages": LIMIT}) as site, wire(site) as client:
            assert b" MESSAGELIMIT=1000" in (await client.ask("CAPABILITY"))[0]
            await fill(client)
            everything = list(range(COUNT, 0, -1))
            odd = ",".join(str(number) for number in range(1, COUNT + 1))
            sets = ("1:*", "*:1", f"{COUNT}:1", "1:600,400:*", "5:5,1:4,6:*,1:*", odd)
            commands = [f"{verb} {one} (UID)" for one in sets for verb in ("FETCH", "UID FETCH")]
            for command in [*commands, "UID FETCH 1:4294967295 UID", "UID FETCH 4294967295:1,9999:* UID"]:
                lines = await client.ask(command)
                assert [int(line.split()[1]) for line in lines[:-1]] == everything[:LIMIT], command
                assert stopped(lines[-1]) == COUNT - LIMIT + 1, command
            for command in ("FETCH 1:* (UID FLAGS MODSEQ) (CHANGEDSINCE 1)", "UID FETCH 1:* BODY.PEEK[HEADER]"):
                assert stopped(await client.last(command)) == 6, command
            for command in ("FETCH 6:* UID", "FETCH 1:5,11:* UID", "UID FETCH 1:* UID (PARTIAL -1:-1000)"):
                assert (await client.last(command)) == b"T OK FETCH completed", command
            # A PARTIAL that is too much is refused, not cut (section 3.1).
            for partial in ("1:1001", "-1:-1001", "5:4294967295"):
                lines = await client.ask(f"UID FETCH 1:* UID (PARTIAL {partial})")
                assert [line[:23] for line in lines] == [b"T NO [MESSAGELIMIT 1000"], partial
            for command in ("SORT (SUBJECT) UTF-8 ALL", "UID SORT RETURN (COUNT) (SUBJECT) UTF-8 SUBJECT s"):
                assert (await client.ask(command))[0].startswith(b"T NO [MESSAGELIMIT 1000] "), command
            for algorithm in ("ORDEREDSUBJECT", "REFERENCES", "REFS"):
                assert (await client.ask(f"THREAD {algorithm} UTF-8 ALL"))[0].startswith(b"T NO [MESSAGELIMIT 1000] ")
            for key, count in (
                ("ALL", LIMIT),
                ("1:*", LIMIT),
                ("UID 1:*", LIMIT),
                ("NOT UID 1", LIMIT),
                ("OR UID 1:3 SEEN", 0),  # what lies below is not looked at
                ("(UID 1:*) (1:*)", LIMIT),
                ("UIDAFTER 1", LIMIT),
                ("UIDBEFORE 4294967295", LIMIT),
                ("BODY x", LIMIT),
                ("SEEN", 0),
            ):
                lines = await client.ask(f"UID SEARCH RETURN (COUNT SAVE) {key}")
                assert lines[0].endswith(b" COUNT %d" % count), key
                assert stopped(lines[-1]) == 6, key
                assert (await client.ask("UID SEARCH RETURN (COUNT) $"))[0].endswith(b" COUNT %d" % count), key
            for key, count in (("UIDAFTER 5", LIMIT), ("UIDBEFORE 6", 5), ("UID 1:1000", LIMIT), ("UIDBEFORE 1", 0)):
                lines = await client.ask(f"SEARCH RETURN (COUNT) {key}")
                assert (lines[0].split()[-1], lines[1]) == (b"%d" % count, b"T OK SEARCH completed"), key
            unseen = await client.ask("STATUS INBOX (UNSEEN MESSAGES)")
            assert unseen[0] == b"* STATUS INBOX (UNSEEN 1005 MESSAGES 1005)"

    asyncio.run(main())


def test_changing_stops_at_the_limit_and_goes_on_from_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with house.opened(tmp_path, limits={"imap_messages": LIMIT}) as site, wire(site) as client:
            await fill(client)
            for copy in ("COPY 1:*", "UID COPY 1:*", "COPY 1:1001", "UID COPY 1:600,400:*"):
                assert (await client.last(f"{copy} Sent")).startswith(b"T NO [MESSAGELIMIT 1000 "), copy
            assert await client.ask("STATUS Sent (MESSAGES)") == [
                b"* STATUS Sent (MESSAGES 0)",
                b"T OK STATUS completed",
            ]
            assert b"[COPYUID " in await client.last("COPY 6:* Sent")
            # STORE: the client leaves out what is done.
            changed: list[int] = []
            high = "*"
            for _ in range(3):
                lines = await client.ask(f"UID STORE 1:{high} +FLAGS (\\Flagged)")
                changed += [int(line.split()[1]) for line in lines[:-1]]
                if not (lowest := stopped(lines[-1])):
                    break
                high = str(lowest - 1)
            assert changed == [*range(COUNT, 5, -1), *range(1, 6)]
            for command, lowest in (
                ("STORE 1:* +FLAGS.SILENT (\\Seen)", 6),
                ("UID STORE 1:* (UNCHANGEDSINCE 4294967295) -FLAGS.SILENT (\\Seen)", 6),
                ("STORE 1:1004 FLAGS.SILENT (\\Deleted)", 5),
            ):
                assert stopped(await client.last(command)) == lowest, command
            await client.ask("STORE 1:1000 FLAGS.SILENT (\\Deleted)")
            await client.ask("UID SEARCH RETURN (SAVE) UID 1:5")
            assert (await client.last("UID STORE $ +FLAGS.SILENT (\\Seen)")) == b"T OK STORE completed"
            # MOVE and UID EXPUNGE: the same command until there is no code.
            lines = await client.ask("UID MOVE 1:* Archive")
            assert sum(line.endswith(b" EXPUNGE") for line in lines) == LIMIT
            assert (re.match(rb"\* OK \[COPYUID \d+ 6:1005 1:1000\]", lines[0]), stopped(lines[-1])) != (None, 0)
            lines = await client.ask("UID MOVE 1:* Archive")
            assert sum(line.endswith(b" EXPUNGE") for line in lines) == 5
            assert lines[-1] == b"T OK MOVE completed"
            await client.ask("SELECT Archive")
            await client.ask("STORE 1:1000 +FLAGS.SILENT (\\Deleted)")
            await client.ask("STORE 1001:* +FLAGS.SILENT (\\Deleted)")
            lines = await client.ask("UID EXPUNGE 1:*")
            assert sum(line.endswith(b" EXPUNGE") for line in lines) == LIMIT
            assert lines[-2].startswith(b"* NO [MESSAGELIMIT 1000 6] ")  # the tagged OK has HIGHESTMODSEQ
            assert len(await client.ask("UID EXPUNGE 1:*")) == 6
            # EXPUNGE knows no limit.
            await client.ask(b"APPEND Archive" + literals([SMALL] * LIMIT, b"(\\Deleted) "))
            await client.ask(b"APPEND Archive" + literals([SMALL] * 5, b"(\\Deleted) "))
            lines = await client.ask("EXPUNGE")
            assert sum(line.endswith(b" EXPUNGE") for line in lines) == COUNT
            assert stopped(lines[-1]) == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limit", "code"), [(LIMIT, b"MESSAGELIMIT 1000"), (0, b"LIMIT"), (5000, b"MESSAGELIMIT 1000")]
)
def test_one_append_brings_so_many_and_all_or_none(tmp_path: Path, limit: int, code: bytes) -> None:
    async def main() -> None:
        async with house.opened(tmp_path, limits={"imap_messages": limit}) as site, wire(site) as client:
            many = literals([SMALL] * MAX_MESSAGES)
            # It asks before the one too many, or sends it all the same; it may also be made of others.
            assert (await client.last(b"APPEND INBOX" + many + literals([SMALL]))).startswith(b"T NO [%b] " % code)
            assert await client.works()
            assert (await client.last(b"APPEND INBOX" + many + b" {%d}" % len(SMALL))).startswith(b"T NO [%b] " % code)
            assert await client.works()
            answer = await client.last(b"APPEND INBOX" + many + b' CATENATE (URL "/INBOX/;UID=1")')
            assert answer.startswith(b"T NO [%b] " % code)
            assert (await client.last(b"APPEND INBOX" + many + b" nonsense")).startswith(b"T NO ")
            assert (await client.ask("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 0)"

    asyncio.run(main())
