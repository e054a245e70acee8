"""Each command: what it looks like and what it means; and what is no command, without a traceback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imap import keys
from posthouse.imap.commands import any as common
from posthouse.imap.commands import (
    append,
    auth,
    copy,
    fetch,
    mailboxes,
    metadata,
    multisearch,
    quota,
    search,
    sort,
    store,
)
from posthouse.imap.commands import list as listing
from posthouse.imap.commands.fetch import FetchRequest, Section
from posthouse.imap.commands.table import VERBS
from posthouse.imap.flags import Flags
from posthouse.imap.numbers import LAST, SAVED, SequenceSet
from posthouse.imap.tokens import BadSyntax, Cursor


def parse(text: bytes, *literals: bytes, utf8: bool = False) -> object:
    """The event of a command without its tag."""
    for length in (2, 1):
        words = text.split(b" ", length)
        name = b" ".join(words[:length]).upper()
        if name in VERBS and (length == 2) == (words[0].upper() == b"UID"):
            cursor = Cursor(text, list(literals), utf8)
            cursor.at = len(name)
            return VERBS[name].parse(cursor)
    raise AssertionError(f"no such command: {text!r}")


def numbers(*ranges: tuple[int, int]) -> SequenceSet:
    return SequenceSet(ranges)


def all_of(*found: keys.Key) -> keys.And:
    return keys.And(found)


def section(label: bytes, **rest: object) -> FetchRequest:
    return FetchRequest((), (Section(label, **rest),))  # type: ignore[arg-type]


def wanted(event: object) -> FetchRequest:
    assert isinstance(event, fetch.Fetch)
    return event.request


GOOD: list[tuple[bytes, object]] = [
    (b"NOOP", common.Noop("NOOP")),
    (b"CHECK", common.Noop("CHECK")),
    (b"ID NIL", common.Id(())),
    (b'ID ("name" "x" "version" NIL)', common.Id((("name", "x"), ("version", "")))),
    (b"ENABLE imap4rev2 CONDSTORE", common.Enable((b"IMAP4REV2", b"CONDSTORE"))),
    (b'LOGIN bob "pass \\"word\\\\"', auth.Login("bob", 'pass "word\\')),
    (b"AUTHENTICATE plain", auth.Authenticate("PLAIN", None)),
    (b"AUTHENTICATE PLAIN =", auth.Authenticate("PLAIN", b"")),
    (b"AUTHENTICATE PLAIN AGFiYw==", auth.Authenticate("PLAIN", b"\0abc")),
    (b"SELECT inbox", mailboxes.Select("INBOX", False)),
    (b"EXAMINE Inbox/x", mailboxes.Select("INBOX/x", True)),
    (b'SELECT "a b"', mailboxes.Select("a b", False)),
    (b"SELECT &BD8EQA-", mailboxes.Select("пр", False)),
    (b"CREATE x/", mailboxes.Create("x/")),
    (b"CREATE x (USE (\\sent))", mailboxes.Create("x", ("\\Sent",))),
    (b"RENAME a b", mailboxes.Rename("a", "b")),
    (b"STATUS a (messages UIDNEXT)", mailboxes.Status("a", (b"MESSAGES", b"UIDNEXT"))),
    (b"CLOSE", mailboxes.Close(True)),
    (b"UNSELECT", mailboxes.Close(False)),
    (b"EXPUNGE", mailboxes.Expunge()),
    (b"UID EXPUNGE 1:3,*", mailboxes.Expunge(numbers((1, 3), (LAST, LAST)))),
    (b"STORE 1 +FLAGS (\\Seen $junk)", store.Store(numbers((1, 1)), False, "add", False, Flags(1, ("$Junk",)))),
    (b"UID STORE 1:* FLAGS.SILENT ()", store.Store(numbers((1, LAST)), True, "set", True, Flags())),
    (b"STORE 2 -FLAGS \\Deleted x X", store.Store(numbers((2, 2)), False, "remove", False, Flags(8, ("x",)))),
    (b"COPY $ x", copy.Copy(SAVED, False, "x", False)),
    (b"UID MOVE 5:2 x", copy.Copy(numbers((5, 2)), True, "x", True)),
    (b'LIST "" *', listing.ListMailboxes("", ("*",))),
    (
        b'LIST (SUBSCRIBED RECURSIVEMATCH) "" (a "b%") RETURN (CHILDREN STATUS (MESSAGES))',
        listing.ListMailboxes(
            "",
            ("a", "b%"),
            frozenset((b"SUBSCRIBED", b"RECURSIVEMATCH")),
            frozenset((b"CHILDREN", b"STATUS")),
            (b"MESSAGES",),
            True,
        ),
    ),
    (b'LSUB "" %', listing.Lsub("", "%")),
    (b"SEARCH ALL", search.Search(keys.All(), False)),
    (b"SEARCH CHARSET X ALL", search.BadCharset()),
    (
        b"UID SEARCH RETURN () 1:2 UNSEEN",
        search.Search(all_of(keys.Numbers(numbers((1, 2)), False), keys.Flag(1, False)), True, frozenset()),
    ),
    (
        b"SEARCH OR NOT FROM x (TO y CC z)",
        search.Search(
            keys.Or(keys.Not(keys.Header("from", "x")), all_of(keys.Header("to", "y"), keys.Header("cc", "z"))), False
        ),
    ),
    (
        b"SEARCH SINCE 1-Feb-1970 SENTON 2-jan-1970",
        search.Search(all_of(keys.Day(keys.Field.RECEIVED, 31, None), keys.Day(keys.Field.SENT, 1, 2)), False),
    ),
    (
        b"SEARCH UID 3 NEW",
        search.Search(all_of(keys.Numbers(numbers((3, 3)), True), all_of(keys.Recent(), keys.Flag(1, False))), False),
    ),
    (b"GETQUOTA {0}\r\n", quota.GetQuota(b"")),
    (b"GETMETADATA INBOX /private/X", metadata.GetMetadata("INBOX", ("/private/X",))),
    (
        b'getmetadata (depth infinity maxsize 9) "" (/shared /shared)',
        metadata.GetMetadata("", ("/shared",), metadata.ALL_BELOW, 9),
    ),
    (b"SETMETADATA a (/shared/x NIL)", metadata.SetMetadata("a", (("/shared/x", None),))),
    (b'SEARCH HEADER Subject ""', search.Search(keys.Header("subject", ""), False)),
    (
        b"SEARCH RETURN (UPDATE CONTEXT) FUZZY SUBJECT x",
        search.Search(keys.Fuzzy(keys.Header("subject", "x")), False, frozenset((b"UPDATE", b"CONTEXT"))),
    ),
    (b"SEARCH UIDAFTER 7", search.Search(keys.Uids(((8, 0x100000000),)), False)),
    (b"SEARCH UIDBEFORE 7", search.Search(keys.Uids(((1, 7),)), False)),
    (
        b"SORT (SUBJECT reverse date) UTF-8 UNSEEN",
        sort.Sort((("SUBJECT", False), ("DATE", True)), keys.Flag(1, False), False),
    ),
    (
        b'UID SORT RETURN (PARTIAL -1:-9) (DISPLAYTO) "US-ASCII" ALL',
        sort.Sort((("DISPLAYTO", False),), keys.All(), True, frozenset((b"PARTIAL",)), (-1, -9)),
    ),
    (b"SORT (SIZE) X-KLINGON ALL", search.BadCharset()),
    (b"UID THREAD refs UTF-8 ALL", sort.Thread("REFS", keys.All(), True)),
    (b"ESEARCH ALL", multisearch.Esearch((("SELECTED", ()),), keys.All(), frozenset((b"ALL",)))),
    (
        b"ESEARCH IN (inboxes subtree (a b) mailboxes c) RETURN (COUNT) ALL",
        multisearch.Esearch(
            (("INBOXES", ()), ("SUBTREE", ("a", "b")), ("MAILBOXES", ("c",))), keys.All(), frozenset((b"COUNT",))
        ),
    ),
    (b'CANCELUPDATE "a" "b"', multisearch.CancelUpdate((b"a", b"b"))),
]


@pytest.mark.parametrize(("text", "event"), GOOD)
def test_good_commands(text: bytes, event: object) -> None:
    assert parse(text, b"") == event


def test_literals_and_charsets() -> None:
    assert parse(b"LOGIN {3}\r\n {4+}\r\n", b"bob", b'a"\r\n') == auth.Login("bob", 'a"\r\n')
    assert parse(b"SEARCH CHARSET UTF-8 SUBJECT {5}\r\n", "Ärä".encode()) == search.Search(
        keys.Header("subject", "Ärä"), False
    )
    assert parse('SELECT "Größe"'.encode(), utf8=True) == mailboxes.Select("Größe", False)


FETCHES: list[tuple[bytes, FetchRequest]] = [
    (b"1 FAST", FetchRequest((b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"))),
    (b"1 (uid flags)", FetchRequest((b"UID", b"FLAGS"))),
    (b"1 BODY", FetchRequest((b"BODY",))),
    (b"1 BODY[]", section(b"BODY[]")),
    (b"1 body.peek[1.2.mime]", section(b"BODY[1.2.MIME]", path=(1, 2), part=b"MIME", peek=True)),
    (b"1 BODY[TEXT]<0.10>", section(b"BODY[TEXT]<0>", part=b"TEXT", partial=(0, 10))),
    (
        b'1 BODY.PEEK[HEADER.FIELDS (From "X y")]',
        section(b'BODY[HEADER.FIELDS (From "X y")]', part=b"HEADER.FIELDS", fields=(b"from", b"x y"), peek=True),
    ),
    (
        b"1 BODY[3.HEADER.FIELDS.NOT (To)]",
        section(b"BODY[3.HEADER.FIELDS.NOT (To)]", path=(3,), part=b"HEADER.FIELDS.NOT", fields=(b"to",)),
    ),
    (b"1 RFC822.HEADER", section(b"RFC822.HEADER", part=b"HEADER", peek=True)),
    (b"1 RFC822", section(b"RFC822")),
    (b"1 BINARY[2]<5.6>", section(b"BINARY[2]<5>", path=(2,), partial=(5, 6), binary=True)),
    (b"1 BINARY.SIZE[2]", section(b"BINARY.SIZE[2]", path=(2,), binary=True, size_only=True, peek=True)),
]


@pytest.mark.parametrize(("text", "request_"), FETCHES)
def test_fetch(text: bytes, request_: FetchRequest) -> None:
    assert wanted(parse(b"FETCH " + text)) == request_


def test_uid_fetch_always_tells_the_uid() -> None:
    assert wanted(parse(b"UID FETCH 1 FLAGS")).items == (b"UID", b"FLAGS")
    assert wanted(parse(b"UID FETCH 1 (FLAGS UID)")).items == (b"UID", b"FLAGS")


BAD = [
    b"NOOP x",
    b"ID",
    b"ID (a b)",
    b"LOGIN",
    b"LOGIN bob",
    b"LOGIN bob x y",
    b'LOGIN "bob x',
    b"LOGIN bob pass\xff",
    b"AUTHENTICATE PLAIN !!!",
    b"SELECT",
    b"SELECT a b",
    b"CREATE x (FOO)",
    b"STATUS a",
    b"STATUS a ()",
    b"STATUS a (FOO)",
    b"UID EXPUNGE",
    b"UID EXPUNGE 0",
    b"UID EXPUNGE 4294967296",
    b"STORE 1 FLAGS (\\Nonsense)",
    b"STORE 1 FOO (\\Seen)",
    b"STORE 1, FLAGS x",
    b"STORE 1:2:3 FLAGS x",
    b"COPY 1",
    b"LIST",
    b'LIST ""',
    b'LIST (FOO) "" ""',
    b'LIST (RECURSIVEMATCH) "" ""',
    b'LIST (RECURSIVEMATCH REMOTE) "" ""',
    b'LIST "" "" RETURN (FOO)',
    b"SEARCH",
    b"SEARCH FOO",
    b"SEARCH OR ALL",
    b"SEARCH NOT",
    b"SEARCH (",
    b"SEARCH ()",
    b"SEARCH ON 31-Feb-2020",
    b"SEARCH ON 1-Foo-2020",
    b"SEARCH LARGER x",
    b"SEARCH RETURN (FOO) ALL",
    b"SEARCH SUBJECT \xff",
    b"SEARCH " + b"(" * 60 + b"ALL" + b")" * 60,
    b"SEARCH " + b"NOT " * 60 + b"ALL",
    b"SEARCH " + b" ".join([b"ALL"] * 1001),
    b"FETCH 1",
    b"FETCH 1 ()",
    b"FETCH 1 FOO",
    b"FETCH 1 BODY[",
    b"FETCH 1 BODY[FOO]",
    b"FETCH 1 BODY[1.]",
    b"FETCH 1 BODY[.TEXT]",
    b"FETCH 1 BODY[1TEXT]",
    b"FETCH 1 BODY[MIME]",
    b"FETCH 1 BODY[0]",
    b"FETCH 1 BODY[HEADER.FIELDS]",
    b"FETCH 1 BODY[HEADER.FIELDS ()]",
    b"FETCH 1 BODY[]<1>",
    b"FETCH 1 BODY[]<1.0>",
    b"FETCH 1 BINARY[TEXT]",
    b"FETCH 1 (FLAGS",
    b"FETCH 1 (FLAGS)x",
    b"FETCH 1 (" + b"FLAGS " * 200 + b")",
    b"FETCH 1 BODY[" + b"1." * 200 + b"1]",
    b"GETQUOTAROOT",
    b"GETMETADATA INBOX /private/" + b"x" * 250,
    b"GETMETADATA INBOX (" + b"/private/x " * 101 + b")",
    b"GETMETADATA (MAXSIZE) INBOX /private/x",
    b"GETMETADATA INBOX (MAXSIZE 1) (DEPTH 1) /private/x",
    b"SETMETADATA INBOX /private/x y",
    b"SETMETADATA INBOX (/private/x ())",
]


@pytest.mark.parametrize("text", BAD)
def test_bad_commands(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse(text)


def test_append_is_read_up_to_its_literal() -> None:
    def head(text: bytes, *literals: bytes) -> tuple[append.Target, tuple[append.Step, ...]] | None:
        upload = append.Upload(6)
        steps = upload.advance(b"APPEND " + text, list(literals), False)
        return None if steps is None else (upload.target, steps)

    plain = (append.Start(),)
    assert head(b"INBOX {310}\r\n") == (append.Target("INBOX"), plain)
    assert head(b'x (\\Seen) " 1-Jan-1970 01:00:00 +0100" ~{310+}\r\n') == (
        append.Target("x"),
        (append.Start(Flags(1), 0),),
    )
    assert head(b"{310}\r\n") is None
    assert head(b"{1}\r\n {310}\r\n", b"x") == (append.Target("x"), plain)
    for wrong in (
        b"x FOO {310}\r\n",
        b"x (\\Foo) {310}\r\n",
        b'x "1-Jan-1970" {310}\r\n',
        b'x "1-Foo-1970 00:00:00 +0000" {1}\r\n',
    ):
        with pytest.raises(BadSyntax):
            head(wrong)


TOKENS = st.sampled_from(
    [
        b"(",
        b")",
        b" ",
        b"1",
        b"*",
        b":",
        b",",
        b"$",
        b'"',
        b"\\",
        b"{3}\r\n",
        b"~{3+}\r\n",
        b"[",
        b"]",
        b"<",
        b">",
        b".",
        b"%",
        b"BODY",
        b"BINARY",
        b"HEADER.FIELDS",
        b"FLAGS",
        b"NOT",
        b"OR",
        b"UID",
        b"RETURN",
        b"UPDATE",
        b"PARTIAL 1:2",
        b"IN",
        b"subtree",
        b"personal",
        b"UTF-8 ",
        b"(REVERSE DATE) ",
        b"REFS ",
        b"FUZZY",
        b"ALL",
        b"USE",
        b"NIL",
        b"\\Seen",
        b"x",
        b"&",
        b"-",
        b"1-Jan-2020",
        b"\xff",
        b"\0",
        b"+",
        b"INBOX",
    ]
)


@given(st.sampled_from(sorted(VERBS)), st.lists(TOKENS, max_size=12), st.booleans())
def test_nothing_but_bad_syntax_is_raised(name: bytes, tokens: list[bytes], utf8: bool) -> None:
    text = name + b" " + b"".join(tokens)
    cursor = Cursor(text, [b"abc"] * text.count(b"}\r\n"), utf8)
    cursor.at = len(name)
    try:
        VERBS[name].parse(cursor)
    except BadSyntax:
        pass
