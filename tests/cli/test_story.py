"""Stories of stored events: what people read, line by line. Events of every age, of others, and hostile ones."""

import re
from pathlib import Path
from typing import Any

import pytest

from posthouse.base import ids
from posthouse.cli import outcome, story, timeline
from posthouse.store.events import Event
from posthouse.store.traces import Case, Link, Waiting
from tests.support.clock import START

SECOND = 1_000_000
# == NAME [WIDTH] and the lines that are expected
EXPECTED = dict(
    re.findall(
        r"^== (.+)\n((?:(?!== ).*\n)*)", (Path(__file__).parents[1] / "tables/stories.txt").read_text("utf-8"), re.M
    )
)


def number(after: float) -> int:
    """An id of a time after the start."""
    return (START + int(after * SECOND)) // 1000 << 20


def event(after: float, kind: str, **data: Any) -> Event:
    return Event(number(1), number(after), kind, data)


def case(*events: Event, **more: Any) -> Case:
    known: dict[str, Any] = {"left_out": 0, "waiting": (), "accounts": {1: "bob@here.test"}, "links": ()}
    return Case(number(1), events, **(known | more))


def told(what: Case, width: int | None = None, after: float = 100, **options: Any) -> list[str]:
    one = story.tell(what, START + int(after * SECOND), **options)
    rows = [
        *timeline.plain(one.head, width),
        *timeline.rows(one.lines, width),
        *timeline.plain(one.now, width),
    ]
    return ["".join(text for text, _ in row).rstrip() for row in rows]


def result(state: str, code: int, status: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "state": state,
        "code": code,
        "status": status,
        "text": text,
        "host": "mx.there.test",
        "remote": True,
    } | more


CAME: dict[str, Any] = {
    "session": ids.to_text(number(0)), "service": "smtp", "ip": "192.0.2.7", "name": "mx.friend.test",
    "hello": "mx.friend.test", "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "sender": "amy@friend.test", "ms": 250,
}  # fmt: skip
CONTENT = {"size": 1234, "hash": "00ff" * 8, "message_id": "m1@friend.test"}
HERE = CAME | CONTENT | {"recipients": ["bob@here.test"], "became": [{"accounts": [1]}], "local": 1, "remote": 0}
AWAY = CAME | CONTENT | {
    "service": "submission", "login": "bob@here.test", "mechanism": "PLAIN", "peer": 'client "bob" verified',
    "sender": "bob@here.test", "mail": {"size": 1234, "body": "8BITMIME", "ret": "HDRS", "requiretls": True,
    "by": {"seconds": 60, "mode": "N", "trace": True}, "hold": {"seconds": 60, "until": None}, "priority": 3},
    "rcpt": {"amy@there.test": {"notify": ["FAILURE", "DELAY"], "orcpt": "rfc822;a@b.test"}},
    "recipients": ["amy@there.test"], "became": [{"queued": "there.test"}], "local": 0, "remote": 1,
}  # fmt: skip
LATER = {
    "destination": "there.test", "host": "mx.there.test", "address": "[192.0.2.9]:25", "tls": {}, "security": "",
    "results": {"amy@there.test": result("deferred", 451, "4.7.1", "Greylisted, try again")},
    "transcript": ["! no connection to mx0.there.test: refused", "! connected to mx.there.test [192.0.2.9]:25",
    "S: 220 hello", "C: EHLO here.test"],
}  # fmt: skip


FINISHED = {
    "hosts": [
        {"host": "mx0.there.test", "address": "", "tls": {}, "policy": "", "reason": "", "finding": "", "result": "",
         "outcome": "No connection to mx0.there.test: refused", "message": 1, "ms": 30_000},
        {"host": "mx.there.test", "address": "[192.0.2.9]:25", "policy": "verified", "reason": "MTA-STS of there.test",
         "tls": {"version": "TLSv1.3", "cipher": "X", "verified": "pkix", "resumed": True},
         "finding": "the certificate fits", "result": "", "outcome": "answered", "message": 3, "ms": 80},
    ],
    "destination": "there.test", "host": "mx.there.test", "address": "[192.0.2.9]:25", "security": "",
    "tls": {"version": "TLSv1.3", "cipher": "X", "verified": "pkix", "resumed": True},
    "results": {"amy@there.test": result("delivered", 250, "2.0.0", "taken\nwith pleasure")}, "transcript": ["S: 220"],
}  # fmt: skip
BOUNCE = Case(
    number(60),
    (Event(number(60), number(60), "accepted", {
        "bounce_of": ids.to_text(number(1)), "sender": "", "recipients": ["bob@here.test"],
        "became": [{"accounts": [1]}], "local": 1, "remote": 0, "size": 900, "message_id": "r1@here.test"}),),
    0, (), {1: "bob@here.test"}, (),
)  # fmt: skip
UNKNOWN_USER = {"results": {"amy@there.test": result("failed", 550, "5.1.1", "User unknown")}}
LED = {"led_to": [{"id": ids.to_text(number(60)), "why": "failed"}]}
REFUSED = CAME | CONTENT | {
    "recipients": ["bob@here.test"], "recipients_more": 2, "not_kept": {"client": 3, "all": 40},
    "refused": [{"recipient": "x@far.test", "reply": "550 5.7.1 We do not relay for you"},
                {"recipient": "", "reply": "550 5.7.1 There is a virus in it"}],
    "filter": [{"at": "message", "by": "on_message", "did": "550 5.7.1 There is a virus in it"}],
}  # fmt: skip
# Events as they were written before any of this was told.
OLD = {
    "session": ids.to_text(number(0)), "service": "smtp", "ip": "192.0.2.7", "hello": "mx.friend.test",
    "sender": "amy@friend.test", "recipients": ["bob@here.test", "amy@there.test"], "local": 1, "remote": 1,
    "size": 10, "message_id": "m1@friend.test", "discarded": ["eve@here.test"],
}  # fmt: skip
OLD_ATTEMPT = {
    "destination": "there.test", "host": "mx.there.test", "address": "[192.0.2.9]:25", "security": "",
    "tls": {"version": "TLSv1.2", "cipher": "Y", "verified": False},
    "results": {"amy@there.test": result("failed", 554, "", "Go away")}, "transcript": ["S: 220"],
}  # fmt: skip
EVIL = "\x1b]0;owned\x07\u202e\udc80\nx"
NOTES = [
    {"at": "mail", "by": "rule 2", "did": "tag night"},
    {"at": "deliver", "by": "on_deliver", "did": "into Spam", "for": "bob@here.test"},
]
WAITING = Waiting("amy@there.test", "there.test", "due", 1, START + 130 * SECOND, 451, "4.7.1", "Greylisted", "mx")
STORIES = {
    "to one of ours": case(
        event(1, "accepted", **HERE | {
            "filter": NOTES, "tags": ["night"], "into": {"1": "Spam"}, "from": "amy@else.test", "verb": "HELO",
            "refused": [{"recipient": "no@here.test", "reply": "550 5.1.1 No such mailbox here"}],
        })
    ),
    "deferred and waiting": case(
        event(1, "accepted", **AWAY),
        event(30, "attempt", **LATER, next={"amy@there.test": START + 130 * SECOND}),
        waiting=(WAITING,),
    ),
    "deferred, then bounced": case(
        event(1, "accepted", **AWAY | {"rcpt": {}, "mail": {}}),
        event(2, "attempt", **LATER, next={"amy@there.test": START + 60 * SECOND}),
        event(61, "attempt", **LATER | UNKNOWN_USER | LED),
        links=(Link(False, "failed", number(60), BOUNCE),),
    ),
    "given up": case(
        event(1, "accepted", **AWAY | {"rcpt": {}, "mail": {}}),
        event(5 * 86_400, "attempt", **LATER, ended={"amy@there.test": "failed"}),
    ),
    "hosts one by one": case(event(1, "accepted", **AWAY), event(30, "attempt", **FINISHED)),
    "the bounce": BOUNCE._replace(links=(Link(True, "bounce_of", number(1), case(event(1, "accepted", **AWAY))),)),
    "refused": case(event(1, "refused", **REFUSED)),
    "put off": case(
        event(1, "refused", **CAME, recipients=[], refused=[{"recipient": "bob@here.test", "reply": "451 4.7.1 Later"}])
    ),
    "old events": case(event(1, "accepted", **OLD), event(2, "attempt", **OLD_ATTEMPT)),
    "operators, others": case(
        event(1, "accepted", **AWAY),
        event(2, "operator", action="reroute", route="host:relay.test", recipients=["amy@there.test"], count=30),
        event(3, "operator", action="drop", recipients=["amy@there.test"], count=1),
        event(4, "webhook", url="https://x.test/", status=500, nothing=""),
    ),
    "no event at all": case(waiting=(WAITING._replace(state="held"),)),
    "hostile": case(
        event(1, "accepted", **AWAY | {"hello": EVIL}),
        event(2, "attempt", **LATER | {"host": EVIL, "transcript": [f"S: {EVIL}"],
              "results": {"amy@there.test": result("failed", 550, "5.0.0", EVIL)}}),
    ),
    "alike": case(
        event(1, "accepted", **AWAY | {"rcpt": {}, "mail": {}}),
        *[event(10 * n, "attempt", **LATER, next={"amy@there.test": START + 90 * SECOND}) for n in range(1, 9)],
        waiting=(WAITING._replace(state="claimed", attempts=8),),
    ),
    "LMTP, refused for one": case(
        event(1, "accepted", **HERE | {
            "service": "lmtp", "verb": "LHLO", "recipients": ["bob@here.test", "eve@here.test"],
            "became": [{"accounts": [1]}, {"accounts": [2]}], "refused_accounts": {"2": "550 5.7.1 Not for Eve"},
        }),
        accounts={1: "bob@here.test", 2: "eve@here.test"},
    ),
    "an alias and a copy for nobody": case(
        event(1, "accepted", **HERE | {
            "recipients": ["all@here.test", "gone@here.test"], "discarded": ["eve@here.test"],
            "became": [{"accounts": [1, 2, 9], "elsewhere": ["x@far.test"], "more": 4}, {}],
            "led_to": [{"id": ids.to_text(number(7)), "why": "forwarded"}],
        }),
        accounts={1: "bob@here.test", 2: "eve@here.test"}, links=(Link(False, "forwarded", number(7), None),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_stories(name: str) -> None:
    known, _, width = name.partition(" in ")
    lines = told(STORIES[known], int(width) if width else None)
    assert "\n".join(lines) + "\n" == EXPECTED[name]
    if width:
        assert max(map(len, lines)) <= int(width)


def test_every_story_is_expected() -> None:
    assert {name.partition(" in ")[0] for name in EXPECTED} == set(STORIES)


@pytest.mark.parametrize("name", STORIES)
def test_nothing_reaches_a_terminal_that_it_would_act_upon(name: str) -> None:
    for width in (None, 20, 80):
        assert all(line.isprintable() for line in told(STORIES[name], width, transcripts=True))


def test_transcripts_are_folded_but_for_the_last_that_failed() -> None:
    what = STORIES["deferred, then bounced"]
    assert sum("C: EHLO here.test" in line for line in told(what)) == 1
    assert sum("C: EHLO here.test" in line for line in told(what, transcripts=True)) == 2
    long = case(event(1, "attempt", **LATER | {"transcript": ["S: 250-x"] * 500}))
    assert sum("S: 250-x" in line for line in told(long)) == story.MOST_TRANSCRIPT
    assert sum("S: 250-x" in line for line in told(long, transcripts=True)) == 500
    alike = STORIES["alike"]
    assert sum("Attempt " in line for line in told(alike, transcripts=True)) == 8


def test_attempts_are_counted_as_the_queue_does_for_each_destination() -> None:
    other = {"destination": "far.test", "results": {"eve@far.test": result("delivered", 250, "2.0.0", "taken")}}
    events = (event(2, "attempt", **LATER), event(3, "attempt", **LATER | other), event(60, "attempt", **LATER))
    heads = re.findall(r"Attempt \d for \S+", "\n".join(told(case(*events))))
    assert heads == ["Attempt 1 for there.test", "Attempt 1 for far.test", "Attempt 2 for there.test"]
    begun = event(1, "accepted", **AWAY)
    text = "\n".join(told(case(begun, *events, left_out=7)))
    assert text.count("An attempt for") == 3, "nobody knows of whom those were that are left out"
    assert "Attempt 8 for there.test" in "\n".join(told(case(begun, events[0], left_out=7)))


def test_what_the_settings_say_is_told_as_that() -> None:
    verdict = result("failed", 550, "5.7.1", "Not from here", host="", remote=False, rule=True)
    attempt = {"destination": "there.test", "route": "old", "host": "", "address": "", "tls": {}, "security": "",
               "hosts": [], "results": {"amy@there.test": verdict}, "transcript": ["! Not from here"]}  # fmt: skip
    text = "\n".join(told(case(event(1, "accepted", **AWAY), event(2, "attempt", **attempt))))
    assert "Attempt 1 for there.test by route old" in text
    assert "This server is set up so: no other one was asked." in text
    assert "other server" not in text
    assert "dialogue" not in text, "nobody was spoken to"


def test_long_lists_are_cut() -> None:
    many = [f"u{n}@there.test" for n in range(5000)]
    one = case(
        event(1, "accepted", **AWAY | {"recipients": many, "became": [{"queued": "there.test"}] * 5000,
              "filter": [{"at": "mail", "by": f"rule {n}", "did": "tag"} for n in range(100)]}),
        event(2, "attempt", **LATER | {"results": {who: result("failed", 550, "5.1.1", who) for who in many}}),
        event(3, "operator", action="drop", recipients=many, count=9000),
        waiting=tuple(WAITING._replace(address=who) for who in many[:1000]),
    )  # fmt: skip
    lines = told(one)
    assert len(lines) < 250
    assert "  and 980 more" in lines
    assert max(map(len, lines)) < 1000


@pytest.mark.parametrize(
    ("span", "text"),
    [(0, "0 ms"), (999_999, "999 ms"), (1_500_000, "1.5 s"), (60_000_000, "1 min"), (65_000_000, "1 min 5 s"),
     (3_600_000_000, "1 h"), (86_400_000_000 + 7_200_000_000, "1 d 2 h")],
)  # fmt: skip
def test_spans(span: int, text: str) -> None:
    assert timeline.lasted(span) == text
    assert timeline.since(-span - 1000).startswith("-")


def test_folding_loses_nothing_but_blanks() -> None:
    text = "one two  three " + "x" * 100 + " four"
    for room in range(10, 60):
        rows = timeline.fold([(text[:7], "a"), (text[7:60], "b"), (text[60:], "c")], room)
        assert all(sum(len(piece) for piece, _ in row) <= room for row in rows)
        assert "".join(piece for row in rows for piece, _ in row).replace(" ", "") == text.replace(" ", "")


def test_one_line_of_a_message() -> None:
    assert outcome.summary(STORIES["deferred and waiting"]).state == "waiting"
    assert outcome.summary(STORIES["given up"]).state == "failed"
    assert outcome.summary(STORIES["put off"]).state == "put off"
    assert outcome.summary(STORIES["refused"])[2:] == (
        "amy@friend.test", ("bob@here.test", "x@far.test"), "refused", "550 5.7.1 There is a virus in it"
    )  # fmt: skip
    assert outcome.summary(STORIES["operators, others"]).state == "dropped"
    assert outcome.summary(STORIES["an alias and a copy for nobody"]).state == "1 delivered, 1 passed on, 1 nobody"
    gone = case(event(1, "accepted", **AWAY), event(2, "attempt", **LATER))
    assert outcome.summary(gone).state == "not in the queue"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (
            {
                "added": ["date", "message-id"], "removed": 2,
                "signed": [{"d": "here.test", "s": "r1", "a": "rsa-sha256"},
                           {"d": "here.test", "s": "e1", "a": "ed25519-sha256"}],
            },
            ["Date was added, Message-ID was added, Bcc was removed",
             "Signed for here.test with r1 (rsa-sha256), e1 (ed25519-sha256)"],
        ),
        ({"unsigned": "the DNS has no key of here.test"}, ["Not signed: the DNS has no key of here.test"]),
        ({"sealed": {"d": "here.test", "s": "r1", "cv": "none"}}, ["Sealed (ARC) for here.test with r1, cv=none"]),
        ({"forged": {"Authentication-Results": 2, "Received-SPF": 1}},
         ["Taken out, as it claimed to be ours: Authentication-Results (2), Received-SPF"]),
        ({"unsealed": "its chain is too long"}, ["Not sealed: its chain is too long"]),
        ({}, []),
    ],
)  # fmt: skip
def test_who_signed(data: dict[str, Any], lines: list[str]) -> None:
    rows = [line.strip() for line in told(case(event(1, "accepted", **(HERE | data))))]
    words = ("Date", "Signed", "Not s", "Sealed", "Taken")
    assert [row for row in rows if row.startswith(words)] == lines
