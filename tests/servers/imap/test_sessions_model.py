"""Sessions that work in the same mailboxes at once, each in its own manner, against a model of what is there.

Each keeps a picture by nothing but what it is told (RFC 9051 section 7.5, RFC 7162, RFC 9586). After NOOP the picture
must be the model's: sequence numbers, UIDs, flags, modseqs. So it must be after a session that went away with a picture
comes back with QRESYNC.
"""

import asyncio
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.base.settings import Imap
from posthouse.imap import view
from posthouse.servers.imap import labels, listings, select, store
from tests.support.imap_site import Client, ImapSite
from tests.support.store import opened

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"
BOXES = ("INBOX", "Other")
ENABLE = {"plain": "", "condstore": "ENABLE CONDSTORE", "qresync": "ENABLE QRESYNC", "uidonly": "ENABLE UIDONLY"}
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "$one")
Flagged = frozenset[str]


# STORE most often: what it hides from others, or from the one who said it, is the hardest to see.
WHAT = (
    "append",
    *["store"] * 6,
    "expunge",
    "uid expunge",
    "copy",
    "move",
    "noop",
    "idle",
    "select",
    "resync",
    "fetch",
    *["label"] * 3,
)
LABELS = {"INBOX": "\\Inbox", "Other": "Other", "Trash": "\\Trash"}


class Step(NamedTuple):
    """What one session does; what it does not need of this it ignores."""

    who: int
    what: str
    first: int = 0  # messages, as indexes in the picture
    more: int = 0
    flags: Flagged = frozenset()
    mode: str = "+"
    silent: bool = False
    other: bool = False  # the other mailbox
    unchanged: bool = False


steps = st.builds(
    Step,
    st.integers(0, 3),
    st.sampled_from(WHAT),
    st.integers(0, 2),
    st.integers(0, 1),
    st.frozensets(st.sampled_from(FLAGS), max_size=2),
    st.sampled_from(["+", "-", ""]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


def stored(mode: str, before: Flagged, flags: Flagged) -> Flagged:
    return before | flags if mode == "+" else before - flags if mode == "-" else flags


def numbers(text: str) -> Iterator[int]:
    """The numbers of a set, in its order."""
    for part in text.split(","):
        low, _, high = part.partition(":")
        yield from range(int(low), int(high or low) + 1)


class Picture:
    """What a client believes of its mailbox."""

    def __init__(self, by_uid: bool) -> None:
        self.by_uid = by_uid  # no sequence numbers: those not known yet stand at the end
        self.uids: list[int] = []  # 0: not known yet
        self.flags: dict[int, Flagged] = {}
        self.modseqs: dict[int, int] = {}
        self.state = (0, 0)  # UIDVALIDITY, HIGHESTMODSEQ

    def hear(self, data: bytes) -> None:
        for line in data.decode().split("\r\n"):
            if found := re.fullmatch(r"\* (\d+) EXISTS", line):
                assert int(found[1]) >= len(self.uids), (line, self.uids)
                self.uids += [0] * (int(found[1]) - len(self.uids))
            elif found := re.fullmatch(r"\* (\d+) EXPUNGE", line):
                assert not self.by_uid
                self._forget(self.uids.pop(int(found[1]) - 1))
            elif found := re.fullmatch(r"\* VANISHED ([\d,:]+)", line):
                for uid in numbers(found[1]):
                    self._vanished(uid)
            elif found := re.match(r"\* (\d+) (UID)?FETCH \((.*)\)$", line):
                self._fetched(int(found[1]), found[3])
            if found := re.search(r"\[UIDVALIDITY (\d+)\]", line):
                self.state = (int(found[1]), 0)
            if found := re.search(r"\[HIGHESTMODSEQ (\d+)\]", line):
                self.state = (self.state[0], max(self.state[1], int(found[1])))

    def _forget(self, uid: int) -> None:
        self.flags.pop(uid, None)
        self.modseqs.pop(uid, None)

    def _vanished(self, uid: int) -> None:
        if uid in self.uids:
            self.uids.remove(uid)
            self._forget(uid)
        elif self.by_uid:
            self.uids.remove(0)
        else:  # one that is not known yet: it stands behind the last that is lower
            at = max((n + 1 for n, one in enumerate(self.uids) if 0 < one < uid), default=0)
            assert self.uids[at] == 0, (uid, self.uids)
            del self.uids[at]

    def _fetched(self, number: int, items: str) -> None:
        uid = number
        if self.by_uid:
            if uid not in self.uids:
                self.uids.remove(0)
                known = len(self.uids) - self.uids.count(0)
                self.uids.insert(bisect_left(self.uids, uid, 0, known), uid)
        else:
            found = re.search(r"\bUID (\d+)", items)
            uid = int(found[1]) if found else self.uids[number - 1]
            assert self.uids[number - 1] in (0, uid), (number, items, self.uids)
            self.uids[number - 1] = uid
        if not uid:
            return  # a number alone, and no name for it yet
        if found := re.search(r"FLAGS \(([^)]*)\)", items):
            self.flags[uid] = frozenset(found[1].split()) - {"\\Recent"}
        if found := re.search(r"MODSEQ \((\d+)\)", items):
            self.modseqs[uid] = int(found[1])
            self.state = (self.state[0], max(self.state[1], int(found[1])))


class Saved(NamedTuple):
    """What a client keeps of a mailbox for when it comes back."""

    state: tuple[int, int]
    flags: dict[int, Flagged]
    modseqs: dict[int, int]


class Session:
    """One client."""

    def __init__(self, site: ImapSite, client: Client, manner: str) -> None:
        self.site = site
        self.client = client
        self.manner = manner
        self.box = BOXES[0]
        self.picture = Picture(manner == "uidonly")
        self.idling = False
        self.saved: dict[str, list[Saved]] = {box: [] for box in BOXES}
        # Of all that a client said and heard, for the report of a failure.
        self.said: list[bytes] = []

    @property
    def condstore(self) -> bool:
        return self.manner in ("condstore", "qresync")

    async def begin(self) -> None:
        if ENABLE[self.manner]:
            await self.client.command(ENABLE[self.manner])
        await self.select(self.box)
        await self.check()

    async def say(self, line: str | bytes, hear: bool = True) -> bytes:
        answer = await self.client.try_command(line)
        self.said += [line.encode() if isinstance(line, str) else line, answer]
        assert b"SERVERBUG" not in answer
        assert b"T BAD" not in answer, self.said
        if hear:
            self.picture.hear(answer)
        return answer

    async def done(self) -> None:
        """Whatever came while it was in IDLE, and the end of that."""
        self.picture.hear(await self.client.send(b"DONE\r\n" if self.idling else b""))
        self.idling = False

    async def select(self, box: str) -> None:
        self.box, self.picture = box, Picture(self.manner == "uidonly")
        await self.say(f"SELECT {box}")

    async def resync(self, box: str, at: int, alone: bool = True) -> None:
        """Come back with what was known once. If it is not `alone`, something may go while it is being told: that
        counts until a VANISHED says so, and nothing is said of it before."""
        if not self.saved[box]:
            await self.select(box)
            return
        saved = self.saved[box][at % len(self.saved[box])]
        old = Picture(False)
        old.flags, old.modseqs = dict(saved.flags), dict(saved.modseqs)
        answer = await self.say(f"SELECT {box} (QRESYNC ({saved.state[0]} {saved.state[1]}))", hear=False)
        text = answer.decode()
        for gone in re.findall(r"\* VANISHED \(EARLIER\) ([\d,:]+)", text):
            for uid in numbers(gone):
                old._forget(uid)
        changed = [int(uid) for uid in re.findall(r"FETCH \(UID (\d+) FLAGS", text)]
        new = Picture(False)
        new.uids = sorted({*old.flags, *changed})
        new.flags, new.modseqs = old.flags, old.modseqs
        exists = re.search(r"\* (\d+) EXISTS", text)
        assert exists is not None
        if not alone and len(new.uids) < int(exists[1]):
            self.box, self.picture = box, Picture(False)
            self.picture.hear(answer)
            await self.say("UID FETCH 1:* (FLAGS MODSEQ)")
            return
        assert len(new.uids) == int(exists[1]), (saved, text)
        self.box, self.picture = box, new
        self.picture.hear(answer)

    async def check(self) -> None:
        """NOOP, then ask for everything: nothing may be different from what was known already."""
        await self.done()
        await self.say("NOOP")
        known = dict(self.picture.flags), dict(self.picture.modseqs)
        await self.say(f"UID FETCH 1:* (FLAGS{' MODSEQ' if self.condstore else ''})")
        picture = self.picture
        assert {uid: picture.flags[uid] for uid in known[0]} == known[0], self.said
        assert {uid: picture.modseqs[uid] for uid in known[1]} == known[1], self.said
        assert 0 not in picture.uids
        if self.manner == "qresync":
            self.saved[self.box].append(Saved(picture.state, dict(picture.flags), dict(picture.modseqs)))

    def targets(self, step: Step) -> tuple[str, list[int]]:
        """The command's set, by number where the client has numbers, and the UIDs that it means."""
        picture = self.picture
        known = [(n + 1, uid) for n, uid in enumerate(picture.uids) if uid][step.first : step.first + step.more + 1]
        by_uid = picture.by_uid or step.other
        return ",".join(str(uid if by_uid else n) for n, uid in known), [uid for _, uid in known]


class Truth:
    """What is in the mailboxes, by what was done."""

    def __init__(self) -> None:
        self.boxes: dict[str, dict[int, Flagged]] = {box: {} for box in BOXES}
        self.modseqs: dict[str, dict[int, int]] = {box: {} for box in BOXES}

    async def look(self, site: ImapSite) -> None:
        """Take what is there for true, after it was compared; a change has a modseq above all before it."""
        for box in BOXES:
            there, modseqs = await observed(site, box)
            assert there == self.boxes[box]
            before = self.modseqs[box]
            highest = max(before.values(), default=0)
            for uid, modseq in modseqs.items():
                assert modseq == before.get(uid) or modseq > highest
            self.modseqs[box] = modseqs


async def observed(site: ImapSite, box: str) -> tuple[dict[int, Flagged], dict[int, int]]:
    """The flags and modseqs that a client sees which was not there before."""
    client = await site.logged_in()
    picture = Picture(False)
    picture.hear(await client.command(f"EXAMINE {box} (CONDSTORE)"))
    picture.hear(await client.command("UID FETCH 1:* (FLAGS)"))
    picture.hear(await client.command("UID FETCH 1:* (MODSEQ)"))
    client.close()
    return picture.flags, picture.modseqs


async def act(session: Session, step: Step, truth: Truth | None) -> None:
    """One step of one session, and of the model."""
    await session.done()
    box, target = session.box, BOXES[step.other]
    there = truth.boxes[box] if truth is not None else {}
    by_uid = "UID " if session.manner == "uidonly" or step.other else ""
    wanted, uids = session.targets(step)
    match step.what:
        case "append":
            line = f"APPEND {target} ({' '.join(sorted(step.flags))}) {{{len(MESSAGE)}+}}\r\n".encode() + MESSAGE
            answer = await session.say(line)
            found = re.search(rb"\[APPENDUID \d+ (\d+)\]", answer)
            assert found is not None
            if truth is not None:
                truth.boxes[target][int(found[1])] = step.flags
        case "store" if uids:
            await store_flags(session, step, f"{by_uid}STORE {wanted}", uids, truth)
        case "label" if uids:
            await label(session, step, uids, truth)
        case "expunge":
            await session.say("EXPUNGE")
            for uid in [uid for uid, flags in there.items() if "\\Deleted" in flags]:
                del there[uid]
        case "uid expunge" if uids:
            await session.say(f"UID EXPUNGE {','.join(map(str, uids))}")
            for uid in uids:
                if "\\Deleted" in there.get(uid, ()):
                    del there[uid]
        case "copy" | "move" if uids:
            by_uid = by_uid or ("" if session.manner != "uidonly" else "UID ")
            answer = await session.say(f"{by_uid}{step.what.upper()} {wanted} {BOXES[step.more % 2]}")
            found = re.search(rb"\[COPYUID \d+ ([\d,:]+) ([\d,:]+)\]", answer)
            pairs = list(zip(numbers(found[1].decode()), numbers(found[2].decode()), strict=True)) if found else []
            if truth is not None:
                assert [old for old, _ in pairs] == [uid for uid in uids if uid in there]
                for old, new in pairs:
                    truth.boxes[BOXES[step.more % 2]][new] = there[old]
                    if step.what == "move":
                        del there[old]
        case "idle":
            session.picture.hear(await session.client.send(b"i IDLE\r\n"))
            session.idling = True
        case "select":
            await session.select(target)
        case "resync":
            if session.manner == "qresync":
                await session.resync(target, step.first, truth is not None)
        case "fetch":
            await session.say(f"{'UID ' if session.manner == 'uidonly' else ''}FETCH 1:* (FLAGS)") if uids else None
        case "noop" if truth is not None:
            await session.check()
        case "noop":
            await session.say("NOOP")


async def store_flags(session: Session, step: Step, command: str, uids: list[int], truth: Truth | None) -> None:
    """STORE; a silent one the client enters into its picture by itself."""
    unchanged = ""
    picture = session.picture
    since = 0
    if step.unchanged and session.condstore:
        since = max((picture.modseqs.get(uid, 0) for uid in uids), default=0)
        unchanged = f" (UNCHANGEDSINCE {since})"
    silent = ".SILENT" if step.silent else ""
    numbered = dict(enumerate(picture.uids, 1))
    answer = await session.say(
        f"{command}{unchanged} {step.mode}FLAGS{silent} ({' '.join(sorted(step.flags))})", hear=False
    )
    found = re.search(rb"\[MODIFIED ([\d,:]+)\]", answer)
    modified = list(numbers(found[1].decode())) if found else []
    if not command.startswith("UID"):
        modified = [numbered[n] for n in modified]
    if step.silent:
        for uid in set(uids) - set(modified):
            if uid in picture.flags:
                picture.flags[uid] = stored(step.mode, picture.flags[uid], step.flags)
    picture.hear(answer)
    if truth is None:
        return
    there = truth.boxes[session.box]
    if unchanged:
        left = [uid for uid in uids if uid in there and truth.modseqs[session.box][uid] > since]
        assert set(left) <= set(modified) <= {*left, *(set(uids) - set(there))}
    for uid in uids:
        if uid in there and uid not in modified:
            there[uid] = stored(step.mode, there[uid], step.flags)


async def label(session: Session, step: Step, uids: list[int], truth: Truth | None) -> None:
    """STORE X-GM-LABELS of one label. What becomes of which email is held against what was where before."""
    sign = "-" if step.mode == "-" else "+"
    box = "Trash" if step.unchanged and sign == "+" else BOXES[step.silent]
    before = {one: await emails(session.site, one) for one in (*BOXES, "Trash", "Archive")}
    await session.say(f"UID STORE {','.join(map(str, uids))} {sign}X-GM-LABELS ({LABELS[box]})")
    if truth is None:
        return
    named = {before[session.box][uid] for uid in uids if uid in before[session.box]}
    after = {one: await emails(session.site, one) for one in before}
    left = {one: set(held.values()) for one, held in before.items()}
    if sign == "+":
        left[box] |= named
        if box == "Trash":
            left = {one: held if one == "Trash" else held - named for one, held in left.items()}
    else:
        # A message that is twice in the selected mailbox stays there if only one of the two is named.
        stays = {email for uid, email in before[box].items() if box == session.box and uid not in uids}
        left[box] -= named - stays
        nowhere = named - set().union(*left.values())
        left["Archive"] |= nowhere
    assert {one: set(held.values()) for one, held in after.items()} == left, session.said
    if sign == "+":  # one copy of each
        assert len(after[box]) - len(before[box]) == len(left[box]) - len(set(before[box].values())), session.said
    for one in BOXES:
        there, _ = await observed(session.site, one)
        kept = {uid: flags for uid, flags in truth.boxes[one].items() if uid in there}
        assert {uid: there[uid] for uid in kept} == kept  # what stays is what it was
        assert all(uid > max(truth.boxes[one], default=0) for uid in there.keys() - kept.keys())
        truth.boxes[one] = there


async def emails(site: ImapSite, box: str) -> dict[int, int]:
    """The number of the email that each UID shows."""
    client = await site.logged_in(box)
    answer = await client.command("UID FETCH 1:* (UID X-GM-MSGID)")
    client.close()
    return {int(uid): int(email) for uid, email in re.findall(rb"UID (\d+) X-GM-MSGID (\d+)", answer)}


async def opened_by(site: ImapSite) -> list[Session]:
    other = await site.logged_in()
    await other.command("CREATE Other")
    sessions = []
    for _ in range(2):
        await site.deliver(MESSAGE)
    for manner in ENABLE:
        session = Session(site, await site.logged_in(), manner)
        await session.begin()
        sessions.append(session)
    return sessions


def agree(session: Session, flags: dict[int, Flagged], modseqs: dict[int, int]) -> None:
    assert session.picture.uids == list(flags), session.said
    assert session.picture.flags == flags, session.said
    if session.condstore:
        assert session.picture.modseqs == modseqs, session.said


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=40), st.booleans())
def test_each_session_sees_what_is_there(script: list[Step], small: bool) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, imap=Imap(gmail=True))
            sessions, truth = await opened_by(site), Truth()
            truth.boxes[BOXES[0]], truth.modseqs[BOXES[0]] = await observed(site, BOXES[0])
            for step in script:
                await act(sessions[step.who], step, truth)
                await truth.look(site)
            for session in sessions:
                await session.check()
                agree(session, truth.boxes[session.box], truth.modseqs[session.box])
            returning = sessions[list(ENABLE).index("qresync")]
            for box in BOXES:
                for at in range(len(returning.saved[box])):
                    await returning.resync(box, at)
                    agree(returning, truth.boxes[box], truth.modseqs[box])

    with (
        patch.object(view, "MAX_CHANGED", 2 if small else 2000),
        patch.object(select, "VANISHED_SLICE", 2 if small else 2000),
        patch.object(store, "SLICE", 2 if small else 500),
        patch.object(labels, "SLICE", 2 if small else 100),
        patch.object(listings, "LEAST", 1 if small else 50),
    ):
        asyncio.run(main())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=4, unique_by=lambda step: step.who), max_size=15))
def test_each_session_sees_what_is_there_when_all_work_at_once(script: list[list[Step]]) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database, imap=Imap(gmail=True))
            sessions = await opened_by(site)
            for batch in script:
                await asyncio.gather(*(act(sessions[step.who], step, None) for step in batch))
                for step in batch:
                    if step.what == "noop":
                        await sessions[step.who].check()
            for session in sessions:
                await session.check()
                agree(session, *await observed(site, session.box))
            returning = sessions[list(ENABLE).index("qresync")]
            for box in BOXES:
                for at in range(len(returning.saved[box])):
                    await returning.resync(box, at)
                    agree(returning, *await observed(site, box))

    with patch.object(store, "SLICE", 1), patch.object(listings, "LEAST", 1):
        asyncio.run(main())
