"""Gmail's search language as keys: what it means, what is refused, and that hostile queries end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imap import gmail_query, keys
from posthouse.imap.dates import day_number
from posthouse.imap.flags import FLAGGED, SEEN
from posthouse.imap.keys import And, Day, Field, Flag, Header, Key, Label, Not, Or, Scope, Size, Text
from posthouse.imap.tokens import BadSyntax


def text(word: str) -> Text:
    return Text(Scope.TEXT, word)


DAY = day_number(2026, b"Nov", 28)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", keys.All()),
        ("one", text("one")),
        ('one "two three"', And((text("one"), text("two three")))),
        ("a OR b c", And((Or(text("a"), text("b")), text("c")))),
        ("a | b AND c", And((Or(text("a"), text("b")), text("c")))),
        ("{a b c}", Or(Or(text("a"), text("b")), text("c"))),
        ("(a b", And((text("a"), text("b")))),
        ("-a -(b c)", And((Not(text("a")), Not(And((text("b"), text("c"))))))),
        ("e-mail +exact", And((text("e-mail"), text("exact")))),
        ("from:bob@example.org", Header("from", "bob@example.org")),
        ("FROM:bob", Header("from", "bob")),
        ("to:bob", Or(Or(Header("to", "bob"), Header("cc", "bob")), Header("bcc", "bob"))),
        ('subject:"the plan"', Header("subject", "the plan")),
        ("subject:(a b)", And((Header("subject", "a"), Header("subject", "b")))),
        ("from:{a b}", Or(Header("from", "a"), Header("from", "b"))),
        ("from:(a OR b)", Or(Header("from", "a"), Header("from", "b"))),
        ("subject:re:x", Header("subject", "re:x")),
        ("list:dev@example.org", Header("list-id", "dev@example.org")),
        ("rfc822msgid:<1@example.org>", Header("message-id", "<1@example.org>")),
        ("has:attachment", keys.Attachment()),
        ("in:inbox", Label("INBOX")),
        ("in:sent", Label("Sent", "\\Sent")),
        ("in:anywhere", keys.All()),
        ("label:Work/Big-Plan", Label("work-big-plan", loose=True)),
        ('label:"Big Plan"', Label("big-plan", loose=True)),
        ("is:unread in:unread", And((Flag(SEEN, False), Flag(SEEN, False)))),
        ("is:starred", Flag(FLAGGED, True)),
        ("label:important", keys.Keyword("$Important", True)),
        ("before:2026/11/28", Day(Field.RECEIVED, None, DAY)),
        ("after:2026-11-28", Day(Field.RECEIVED, DAY, None)),
        ("newer:11/28/2026", Day(Field.RECEIVED, DAY, None)),
        ("after:1388552400", keys.Received(1388552400_000_000, None)),
        ("older_than:2d", keys.Age(True, 172_800)),
        ("newer_than:1y", keys.Age(False, 31_536_000)),
        ("larger:10M", Size(True, 10 * 1024 * 1024)),
        ("size:1000", Size(True, 1000)),
        ("smaller:5k", Size(False, 5120)),
        # no operators of Gmail's: words with a colon in them
        ("Re: plan", And((text("Re:"), text("plan")))),
        ("at 12:30", And((text("at"), text("12:30")))),
        ("https://example.org/x", text("https://example.org/x")),
    ],
)
def test_meaning(query: str, wanted: Key) -> None:
    assert gmail_query.parse(query).key == wanted


@pytest.mark.parametrize(
    "query",
    [
        "filename:pdf",
        "has:drive",
        "is:muted",
        "category:social",
        "from:me",
        "before:tomorrow",
        "before:2026/13/01",
        "older_than:2",
        "larger:big",
        "a)",
        "from:(a -b)",
        "subject:()",
        "(" * 30,
        "-(" * 30 + "x",
        "x " * 101,
        "from:(" + "x " * 101 + ")",
    ],
)
def test_refused(query: str) -> None:
    with pytest.raises(BadSyntax, match="X-GM-RAW"):
        gmail_query.parse(query)


@pytest.mark.parametrize("query", ["older_than:999999y", "newer_than:999999y", "larger:999999999999999g"])
def test_numbers_stay_within_what_the_database_takes(query: str) -> None:
    key = gmail_query.parse(query).key
    assert isinstance(key, keys.Age | keys.Size)
    value = key.seconds * 1_000_000 if isinstance(key, keys.Age) else key.size
    assert value + 2**61 < 2**63


@given(st.text(st.sampled_from('ab:-(){}|"/ \\+0OR')) | st.text())
def test_anything(query: str) -> None:
    try:
        found = gmail_query.parse(query)
    except BadSyntax:
        return
    assert found.terms <= gmail_query.MAX_TERMS
    assert found.texts <= 3 * gmail_query.MAX_TERMS
