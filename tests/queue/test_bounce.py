"""What follows from a reply: the retry, the words of the bounce, warnings of delay, double bounces, suppression."""

import email
from typing import Any

import pytest

from posthouse.base.queue_settings import Queue
from posthouse.queue import advice, delays, suppress
from posthouse.queue.bounce import DOUBLE, Notice, bounce, double_bounce, notices
from posthouse.queue.patterns import match
from posthouse.queue.results import DEFERRED, DELIVERED, FAILED, Judged, Report, Verdict, judge
from posthouse.smtp.params import RcptParams
from posthouse.store.delays import Waiting
from posthouse.store.envelope import pack_rcpt
from posthouse.store.events import Event
from posthouse.store.outbox import HERE, Claim, Message
from posthouse.store.suppression import Entry
from tests.queue.site import site
from tests.support.clock import START
from tests.support.loop import on_loop

SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000
WAITS = (60.0, 180.0, 3600.0)


def message(sender: str = "alice@here.test", account_id: int | None = 7, **changes: Any) -> Message:
    return Message(1, sender, account_id, 1, b"", 100, START, START + 5 * DAY, 0, "")._replace(**changes)


def claim(address: str = "bob@there.test", attempts: int = 0, notify: tuple[str, ...] = (), **changes: Any) -> Claim:
    options = pack_rcpt(RcptParams(notify)) if notify else ""
    destination = address.rpartition("@")[2]
    return Claim(hash(address) & 0xFFFF, address, destination, attempts, options, message())._replace(**changes)


def said(code: int, status: str, text: str, host: str = "mx.there.test") -> Verdict:
    state = DELIVERED if code < 300 else DEFERRED if code < 500 else FAILED
    return Verdict(state, code, status, text, host, True)


def judged(verdict: Verdict, now: int = START, **options: Any) -> Judged:
    one = claim(**options)
    (found,) = judge(message(), [one], Report({one.address: verdict}), now, WAITS, 0.0)
    return found


def plain(report: bytes) -> str:
    first: Any = email.message_from_bytes(report).get_payload(0)
    return " ".join(first.get_payload(decode=True).decode().split())


# The next attempt


@pytest.mark.parametrize(
    ("verdict", "attempts", "seconds"),
    [
        (said(450, "4.2.0", "Greylisted"), 0, 60),
        (said(450, "4.2.0", "Greylisted"), 9, 600),
        (said(450, "4.2.0", "Greylisted"), 12, 3600),
        (said(421, "4.7.0", "too many connections from you"), 0, 1800),
        (said(421, "4.7.0", "too many connections from you"), 9, 3600),
        (said(451, "4.3.0", "Something"), 0, 60),
        (said(550, "5.7.1", "Greylisted, come back"), 0, 1800),
        (said(550, "5.1.1", "User unknown"), 0, None),
        (Verdict(DEFERRED, 451, "4.4.1", "too many connections", "mx.there.test", False), 0, 60),
    ],
)
def test_a_known_reply_decides_when_to_try_again(verdict: Verdict, attempts: int, seconds: int | None) -> None:
    found = judged(verdict, attempts=attempts)
    assert found.retry == (None if seconds is None else START + seconds * SECOND)
    assert (found.verdict.state == FAILED) == (seconds is None)


def test_a_meaning_that_says_never_ends_a_deferral() -> None:
    meaning = match("mx.there.test", 450, "4.2.0", "Greylisted")
    assert meaning is not None
    assert list(advice.waits(WAITS, meaning._replace(retry="never"), 1)) == list(WAITS)
    assert not advice.slow_down([meaning, None])
    assert advice.slow_down([match("mx.there.test", 421, "", "too many connections")])


@on_loop
async def test_the_queue_goes_by_it() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": ["550 5.7.1 greylisted, come back later", "250 2.1.5 OK"]})
        await here.run("bob@there.test")
        assert "bob@there.test" in await here.waiting()
        await here.pass_time(3600)
        assert await here.waiting() == {}
        assert len(here.remotes["there.test"].taken) == 1
        await here.remote("full.test", {"RCPT": "552 5.2.2 Mailbox full"})
        await here.run("carol@full.test")
        (report,) = await here.bounces()
        text = plain(report)
        assert "The recipient's mailbox is full." in text
        assert "What to do: Tell the recipient in another way" in text
        assert "For your postmaster: Nothing is wrong here." in text
        assert "552 5.2.2 Mailbox full" in text


# The words


def test_what_a_bounce_says_when_the_time_was_over() -> None:
    one = judged(said(450, "4.2.0", "Greylisted"), now=START + 5 * DAY)
    assert (one.verdict.state, one.verdict.status) == (FAILED, "5.4.7")
    text = plain(bounce(message(), b"Subject: x\r\n", Notice("failed", (one,)), "mail.here.test", START, "u"))
    assert "We tried for as long as we may, and gave up. The other server does not know us yet" in text
    assert "450 5.4.7 Greylisted" in text


def test_a_reply_that_nobody_knows_is_explained_by_its_status() -> None:
    one = judged(said(550, "5.2.4", "No"))
    assert one.meaning is None
    text = plain(bounce(message(), b"", Notice("failed", (one,)), "mail.here.test", START, "u"))
    assert "The recipient's mailbox could not take the message." in text
    assert "For your postmaster" not in text


def test_hostile_replies_break_no_report() -> None:
    one = judged(said(550, "5.1.1", "user unknown\r\n\r\n--boundary\r\nX: \0" + "\u2028é" * 5000))
    report = bounce(message(), b"", Notice("failed", (one,)), "mail.here.test", START, "u")
    assert len(report) < 20_000
    assert b"\r\n--boundary" not in report


# Who hears of what


def test_nobody_hears_of_mail_that_is_not_authentic_or_has_no_sender() -> None:
    one = judged(said(550, "5.1.1", "User unknown"))
    assert [n.action for n in notices(message(), [one])] == ["failed"]
    assert notices(message(), [one], authentic=False) == []
    assert notices(message(sender=""), [one]) == []


def test_a_double_bounce_goes_to_the_postmaster_once() -> None:
    lost = message(sender="", account_id=None)
    one = judged(said(550, "5.1.1", "User unknown"))
    found = double_bounce(lost, [one, judged(said(450, "4.3.0", "x"), address="c@d.test")], [])
    assert found == Notice("failed", (one,))
    assert double_bounce(message(), [one], []) is None
    assert double_bounce(lost, [judged(said(450, "4.3.0", "x"))], []) is None
    assert double_bounce(lost, [one], [Event(1, 1, "accepted", {DOUBLE: "0ABC"})]) is None
    report = bounce(
        lost, b"Subject: Not delivered\r\n", found, "mail.here.test", START, "u", postmaster="postmaster@mail.here.test"
    )
    read = email.message_from_bytes(report)
    assert read["To"] == "postmaster@mail.here.test"
    assert read["Subject"] == "Not delivered, and nobody to tell: Not delivered"
    text = plain(report)
    assert 'A message "Not delivered" of ' in text
    assert "there is nobody to return it to" in text
    assert "The header of the message is attached." in text


def test_a_refusal_of_the_settings_is_not_said_of_another_server() -> None:
    ours = Verdict(FAILED, 550, "5.7.1", "We do not write there", "", False, rule=True)
    report = bounce(message(), b"Subject: x\r\n", Notice("failed", (judged(ours),)), "mail.here.test", START, "u")
    text = plain(report)
    assert "This server is set up not to send mail this way, and has not asked another one. We do not write" in text
    assert "The other server" not in text
    later = judged(ours._replace(state=DEFERRED, code=450, status="4.7.1"), now=START + 6 * DAY)
    text = plain(bounce(message(), b"", Notice("failed", (later,)), "mail.here.test", START, "u"))
    assert "We tried for as long as we may" in text


# Delays


WAITING = said(450, "4.3.0", "later")


@pytest.mark.parametrize(
    ("hours", "sender", "account", "notify", "authentic", "setting", "due"),
    [
        (4, "alice@here.test", 7, (), None, 14400.0, True),
        (3.9, "alice@here.test", 7, (), None, 14400.0, False),
        (4, "", 7, (), None, 14400.0, False),
        (4, "x@far.test", None, (), None, 14400.0, False),
        (4, "x@far.test", None, (), False, 14400.0, False),
        (4, "x@far.test", None, (), True, 14400.0, True),
        (4, "x@far.test", None, ("DELAY",), False, 14400.0, False),
        (4, "alice@here.test", 7, ("DELAY", "FAILURE"), None, 14400.0, True),
        (4, "alice@here.test", 7, ("FAILURE",), None, 14400.0, False),
        (4, "alice@here.test", 7, ("NEVER",), None, 14400.0, False),
        (4, "alice@here.test", 7, (), None, 0.0, False),
        (4, "alice@here.test", 7, ("DELAY",), None, 0.0, True),
        (1, "alice@here.test", 7, (), None, 3600.0, True),
    ],
)
def test_who_is_warned_of_a_delay(
    hours: float, sender: str, account: int | None, notify: tuple[str, ...], authentic: bool | None, setting: float,
    due: bool,
) -> None:  # fmt: skip
    now = START + int(hours * HOUR)
    one = judged(WAITING, now=now, notify=notify)
    queue = Queue(delay_warning=setting)
    assert delays.is_due(message(sender, account), [one], now, queue, authentic=authentic) == due


def test_no_warning_for_what_is_delivered_given_up_or_was_held() -> None:
    now, queue = START + 5 * HOUR, Queue()
    for verdict in (said(250, "2.0.0", "OK"), said(550, "5.1.1", "User unknown")):
        assert not delays.is_due(message(), [judged(verdict, now=now)], now, queue)
    held = message(expires=START + 5 * HOUR + 5 * DAY)
    assert not delays.is_due(held, [judged(WAITING, now=now)], now, queue)
    assert delays.is_due(held, [judged(WAITING, now=now + 4 * HOUR)], now + 4 * HOUR, queue)


def test_a_warning_names_all_who_wait_and_until_when() -> None:
    now = START + 5 * HOUR
    one = judged(said(450, "4.2.0", "Greylisted"), now=now)
    others = [
        Waiting(one.claim.id, "bob@there.test", "there.test", 3, "", now, 450, "4.2.0", "x", "mx"),
        Waiting(2, "carol@far.test", "far.test", 3, "", now, 451, "4.4.1", "No connection to mx.far.test", "mx"),
        Waiting(3, "dan@far.test", "far.test", 3, pack_rcpt(RcptParams(("NEVER",))), now, 451, "4.4.1", "x", "mx"),
    ]
    gone = judged(said(550, "5.1.1", "User unknown"), address="eve@there.test")
    notice = delays.notice(message(), [one, gone], others, Queue())
    assert [j.claim.address for j in notice.judged] == ["bob@there.test", "carol@far.test"]
    report = bounce(message(), b"Subject: hi\r\n", notice, "mail.here.test", now, "u")
    groups: Any = email.message_from_bytes(report).get_payload(1)
    assert [(g["Action"], g["Status"]) for g in groups.get_payload()[1:]] == [
        ("delayed", "4.2.0"),
        ("delayed", "4.4.1"),
    ]
    assert all(g["Will-Retry-Until"] for g in groups.get_payload()[1:])
    text = plain(report)
    assert "asks us to come again in a few minutes" in text
    assert "No connection to mx.far.test" in text
    assert "You need not do anything: we keep trying until" in text


# Suppression


def test_only_a_bad_address_is_suppressed() -> None:
    bad = [
        judged(said(550, "5.1.1", "User unknown")),
        judged(said(550, "5.2.1", "The account is disabled"), address="carol@there.test"),
    ]
    fine = [
        judged(said(552, "5.2.2", "Mailbox full"), address="1@x.test"),
        judged(said(550, "5.7.1", "blocked using zen.spamhaus.org"), address="2@x.test"),
        judged(said(450, "4.1.1", "User unknown"), address="3@x.test"),
        judged(said(450, "4.1.1", "User unknown"), now=START + 5 * DAY, address="4@x.test"),
        judged(said(550, "5.1.1", "User unknown"), destination=HERE, address="5@x.test"),
        judged(Verdict(FAILED, 550, "5.1.2", "User unknown", "", False), address="6@x.test"),
        judged(said(250, "2.0.0", "user unknown"), address="7@x.test"),
    ]
    assert suppress.entries(message(), [*bad, *fine], START, 30) == [
        Entry(7, "bob@there.test", "user-unknown", "550 5.1.1 User unknown", START, START + 30 * DAY),
        Entry(7, "carol@there.test", "mailbox-disabled", "550 5.2.1 The account is disabled", START, START + 30 * DAY),
    ]
    assert suppress.entries(message(account_id=None), bad, START, 30) == []
