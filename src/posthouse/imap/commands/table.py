"""All commands: the states they are allowed in, and their parsers."""

from collections.abc import Callable
from enum import Flag
from typing import Any, NamedTuple

from posthouse.imap import replies
from posthouse.imap.commands import (
    acl,
    append,
    auth,
    copy,
    fetch,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    sort,
    store,
    urlauth,
)
from posthouse.imap.commands import any as common
from posthouse.imap.commands import list as listing
from posthouse.imap.replies import Status
from posthouse.imap.tokens import Cursor


class State(Flag):
    """RFC 9051 section 3."""

    NOT_AUTHENTICATED = 1
    AUTHENTICATED = 2
    SELECTED = 4
    LOGOUT = 8


ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED
BEFORE = State.NOT_AUTHENTICATED
INSIDE = State.AUTHENTICATED | State.SELECTED
SELECTED = State.SELECTED


# Commands that name messages by sequence numbers, which UIDONLY does without (RFC 9586 section 3.3).
BY_NUMBER = frozenset((b"FETCH", b"STORE", b"SEARCH", b"COPY", b"MOVE", b"SORT", b"THREAD", b"REPLACE"))


def misplaced(state: State, allowed: State) -> Status:
    """What a command is answered that is not allowed in this state."""
    if State.SELECTED in allowed and State.AUTHENTICATED not in allowed and state is State.AUTHENTICATED:
        return replies.NOT_SELECTED
    if state is State.NOT_AUTHENTICATED:
        return replies.bad("Log in first")
    return replies.bad("You are logged in already")


def not_yet(name: bytes, event: Any, state: State, uid_only: bool, qresync: bool) -> Status | None:
    """Why a command cannot be asked as long as something else is, or is not, enabled; None: it can."""
    if uid_only and (name in BY_NUMBER or getattr(event, "by_number", False)):
        return replies.UID_REQUIRED
    if getattr(event, "needs_selected", False) and state is not State.SELECTED:
        return replies.NOT_SELECTED
    if getattr(event, "qresync", False) and not qresync:
        return replies.bad("ENABLE QRESYNC comes first")
    return None


class Verb(NamedTuple):
    """One command. The parser stands behind its name."""

    allowed: State
    parse: Callable[[Cursor], Any]


VERBS: dict[bytes, Verb] = {
    b"CAPABILITY": Verb(ANY, common.capability),
    b"NOOP": Verb(ANY, common.noop),
    b"LOGOUT": Verb(ANY, common.logout),
    b"ID": Verb(ANY, common.identify),
    b"STARTTLS": Verb(BEFORE, auth.starttls),
    b"LOGIN": Verb(BEFORE, auth.login),
    b"AUTHENTICATE": Verb(BEFORE, auth.authenticate),
    b"ENABLE": Verb(INSIDE, common.enable),
    b"COMPRESS": Verb(INSIDE, common.compress),
    b"UNAUTHENTICATE": Verb(INSIDE, common.unauthenticate),
    b"SELECT": Verb(INSIDE, mailboxes.select),
    b"EXAMINE": Verb(INSIDE, mailboxes.examine),
    b"CREATE": Verb(INSIDE, mailboxes.create),
    b"DELETE": Verb(INSIDE, mailboxes.delete),
    b"RENAME": Verb(INSIDE, mailboxes.rename),
    b"SUBSCRIBE": Verb(INSIDE, mailboxes.subscribe),
    b"UNSUBSCRIBE": Verb(INSIDE, mailboxes.unsubscribe),
    b"LIST": Verb(INSIDE, listing.list_mailboxes),
    b"LSUB": Verb(INSIDE, listing.lsub),
    b"NAMESPACE": Verb(INSIDE, mailboxes.namespace),
    b"STATUS": Verb(INSIDE, mailboxes.status),
    b"APPEND": Verb(INSIDE, append.append),
    b"REPLACE": Verb(SELECTED, append.replace),
    b"UID REPLACE": Verb(SELECTED, append.uid_replace),
    b"ESEARCH": Verb(INSIDE, multisearch.esearch),
    b"NOTIFY": Verb(INSIDE, notify.notify),
    b"GETQUOTA": Verb(INSIDE, quota.get_quota),
    b"GETQUOTAROOT": Verb(INSIDE, quota.get_quota_root),
    b"GETMETADATA": Verb(INSIDE, metadata.get_metadata),
    b"SETMETADATA": Verb(INSIDE, metadata.set_metadata),
    b"SETACL": Verb(INSIDE, acl.set_acl),
    b"DELETEACL": Verb(INSIDE, acl.delete_acl),
    b"GETACL": Verb(INSIDE, acl.get_acl),
    b"LISTRIGHTS": Verb(INSIDE, acl.list_rights),
    b"MYRIGHTS": Verb(INSIDE, acl.my_rights),
    b"IDLE": Verb(INSIDE, mailboxes.idle),
    b"GENURLAUTH": Verb(INSIDE, urlauth.gen_url_auth),
    b"URLFETCH": Verb(INSIDE, urlauth.url_fetch),
    b"RESETKEY": Verb(INSIDE, urlauth.reset_key),
    b"CHECK": Verb(SELECTED, common.check),
    b"CLOSE": Verb(SELECTED, mailboxes.close),
    b"UNSELECT": Verb(SELECTED, mailboxes.unselect),
    b"EXPUNGE": Verb(SELECTED, mailboxes.expunge),
    b"UID EXPUNGE": Verb(SELECTED, mailboxes.uid_expunge),
    b"SEARCH": Verb(SELECTED, search.search),
    b"UID SEARCH": Verb(SELECTED, search.uid_search),
    b"SORT": Verb(SELECTED, sort.sort),
    b"UID SORT": Verb(SELECTED, sort.uid_sort),
    b"THREAD": Verb(SELECTED, sort.thread),
    b"UID THREAD": Verb(SELECTED, sort.uid_thread),
    b"CANCELUPDATE": Verb(SELECTED, multisearch.cancel_update),
    b"FETCH": Verb(SELECTED, fetch.fetch),
    b"UID FETCH": Verb(SELECTED, fetch.uid_fetch),
    b"STORE": Verb(SELECTED, store.store),
    b"UID STORE": Verb(SELECTED, store.uid_store),
    b"COPY": Verb(SELECTED, copy.copy),
    b"UID COPY": Verb(SELECTED, copy.uid_copy),
    b"MOVE": Verb(SELECTED, copy.move),
    b"UID MOVE": Verb(SELECTED, copy.uid_move),
}
