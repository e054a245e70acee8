"""LIST and LSUB: which mailboxes match, and what is said of each (RFC 9051 section 6.3.9, RFC 5258).

Names are held against patterns in slices, so that many patterns over many names keep nobody else waiting.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from posthouse.imap import replies
from posthouse.imap.commands.list import ListMailboxes, Lsub
from posthouse.imap.names import SEPARATOR
from posthouse.imap.patterns import full, matcher
from posthouse.servers.imap import access, acl, metadata
from posthouse.servers.imap.mailboxes import Counted, counted, status_line
from posthouse.servers.imap.watches import Watches
from posthouse.store import acl as shared
from posthouse.store import annotations
from posthouse.store import mailboxes as stored
from posthouse.store.acl import ALL
from posthouse.store.database import Tx
from posthouse.store.model import Mailbox

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

AT_ONCE = 50  # mailboxes whose responses are made in one go: each may have some MiB of annotations, most have none
SLICE = 20_000  # letters held against patterns in one go: some ms


class _Tree(NamedTuple):
    """All that LIST needs to know of an account."""

    mailboxes: dict[str, Mailbox]
    rights: dict[int, frozenset[str]]  # in mailboxes of others, by id
    subscribed: frozenset[str]
    counted: dict[int, Counted]  # by mailbox id: what STATUS tells that stands in no row


def _tree(tx: Tx, account_id: int, items: Sequence[bytes], watches: Watches) -> _Tree:
    mailboxes = {mailbox.name: mailbox for mailbox in stored.list_all(tx, account_id)}
    rights = {}
    for one in shared.shared_with(tx, account_id):
        if "l" in one.rights:
            name = access.shown(one.owner, one.mailbox.name)
            mailboxes[name] = one.mailbox._replace(name=name, special_use="")
            rights[one.mailbox.id] = one.rights
    subscribed = frozenset(stored.subscriptions(tx, account_id))
    counts: dict[int, Counted] = {}
    if items:
        readable = [m for m in mailboxes.values() if access.NEEDS["STATUS"].is_met(rights.get(m.id, ALL))]
        counts = {mailbox.id: counted(tx, mailbox, items, watches) for mailbox in readable}
    return _Tree(mailboxes, rights, subscribed, counts)


def attributes_of(mailbox: Mailbox) -> list[bytes]:
    """The attributes that a mailbox has by itself."""
    return [use.encode() for use in mailbox.special_use.split()]


def _parents(names: Iterable[str]) -> set[str]:
    """All names above these."""
    found: set[str] = set()
    for name in names:
        at = name.rfind(SEPARATOR)
        while at > 0 and name[:at] not in found:
            found.add(name[:at])
            at = name.rfind(SEPARATOR, 0, at)
    return found


async def _matching(patterns: Sequence[str], names: Iterable[str]) -> set[str]:
    """Those of the names that match one of the patterns."""
    matchers = [matcher(pattern) for pattern in dict.fromkeys(patterns)]
    found = set()
    done = 0
    for name in names:
        done += (len(name) + 1) * len(matchers)
        if done > SLICE:
            done = 0
            await asyncio.sleep(0)
        if any(matches(name) for matches in matchers):
            found.add(name)
    # INBOX in any case, so "inb%" finds it too.
    if any(matcher(pattern.upper())("INBOX") for pattern in patterns):
        found.add("INBOX")
    return found


async def list_mailboxes(session: "ImapSession", event: ListMailboxes) -> None:
    engine = session.engine
    if event.patterns == ("",) and not event.extended:
        # RFC 9051 section 6.3.9: an empty pattern asks for the separator and the root.
        engine.untagged(b'LIST (\\Noselect) "/" ""')
        session.done("LIST completed")
        return
    service = session.service
    tree = await service.database.read(_tree, session.account_id, event.status, service.watches)
    patterns = [full(event.reference, pattern) for pattern in event.patterns]
    parents = _parents(tree.mailboxes)
    candidates = tree.mailboxes.keys() | parents
    if b"SUBSCRIBED" in event.select:
        candidates |= tree.subscribed | _parents(tree.subscribed)
    matching = await _matching(patterns, candidates)
    listed = list(_listed(event, tree, parents, matching, event.extended or engine.rev2))
    for at in range(0, len(listed), AT_ONCE):
        await session.send(b"".join(await _lines(session, event, tree, listed[at : at + AT_ONCE])))
    session.done("LIST completed")


async def _lines(
    session: "ImapSession", event: ListMailboxes, tree: _Tree, listed: Sequence[tuple[str, list[bytes], bytes]]
) -> list[bytes]:
    """The responses for some mailboxes: LIST, and what else was asked for behind it."""
    utf8 = session.engine.utf8
    mailboxes = [tree.mailboxes.get(name) for name, _, _ in listed]
    values: dict[int, dict[str, bytes]] = {}
    if event.metadata:
        need = access.NEEDS["GETMETADATA"]
        ids = [m.id for m in mailboxes if m is not None and need.is_met(tree.rights.get(m.id, ALL))]
        values = await session.service.database.read(_annotated, session.account_id, ids, event.metadata)
    out = []
    for (name, attributes, extended), mailbox in zip(listed, mailboxes, strict=True):
        out.append(b"* %b\r\n" % replies.list_item(b"LIST", attributes, name, utf8, extended))
        if mailbox is None:
            continue
        if b"MYRIGHTS" in event.give:
            rights = tree.rights.get(mailbox.id, ALL)
            out.append(b"* %b\r\n" % acl.response(replies.mailbox(name, utf8), rights))
        if mailbox.id in tree.counted:
            out.append(b"* %b\r\n" % status_line(session, mailbox, event.status, tree.counted[mailbox.id]))
        if mailbox.id in values:
            pairs = [(entry, values[mailbox.id].get(entry.lower())) for entry in event.metadata]
            out.append(b"* %b\r\n" % metadata.response(replies.mailbox(name, utf8), pairs))
    return out


def _annotated(tx: Tx, account_id: int, ids: list[int], entries: Sequence[str]) -> dict[int, dict[str, bytes]]:
    names = [entry.lower() for entry in entries]
    return {mailbox_id: annotations.values(tx, mailbox_id, account_id, names) for mailbox_id in ids}


def _listed(
    event: ListMailboxes, tree: _Tree, parents: set[str], matching: set[str], extended: bool
) -> Iterable[tuple[str, list[bytes], bytes]]:
    """Name, attributes and extended data of each mailbox to be listed."""
    by_subscription = b"SUBSCRIBED" in event.select
    recursive = b"RECURSIVEMATCH" in event.select
    names = set(tree.mailboxes) | parents
    # Names with a subscribed one below them that is not listed by itself (RFC 5258 section 3.5, CHILDINFO).
    hidden: set[str] = set()
    if by_subscription:
        names |= tree.subscribed
        if recursive:
            hidden = _parents(tree.subscribed - matching)
            names |= hidden
    for name in sorted(names & matching, key=lambda name: (name != "INBOX", name)):
        mailbox = tree.mailboxes.get(name)
        if b"SPECIAL-USE" in event.select and (mailbox is None or not mailbox.special_use):
            continue
        if by_subscription and name not in tree.subscribed and name not in hidden:
            continue
        attributes = []
        if mailbox is None:
            attributes.append(b"\\NonExistent" if extended else b"\\Noselect")
        if name in parents or mailbox is not None:
            attributes.append(b"\\HasChildren" if name in parents else b"\\HasNoChildren")
        if name in tree.subscribed and (by_subscription or b"SUBSCRIBED" in event.give):
            attributes.append(b"\\Subscribed")
        if mailbox is not None:
            attributes += attributes_of(mailbox)
        yield name, attributes, b'("CHILDINFO" ("SUBSCRIBED"))' if name in hidden else b""


async def lsub(session: "ImapSession", event: Lsub) -> None:
    """RFC 3501 section 6.3.9: subscribed names; with "%" also those that only have subscribed ones below."""
    tree = await session.service.database.read(_tree, session.account_id, (), session.service.watches)
    engine = session.engine
    pattern = full(event.reference, event.pattern)
    names = dict.fromkeys(tree.subscribed, False)
    if pattern.endswith("%"):
        for name in _parents(tree.subscribed):
            names.setdefault(name, True)
    out = []
    for name in sorted(names.keys() & await _matching((pattern,), names)):
        attributes = [b"\\Noselect"] if names[name] else []
        out.append(b"* %b\r\n" % replies.list_item(b"LSUB", attributes, name, engine.utf8))
    engine.raw(b"".join(out))
    session.done("LSUB completed")
