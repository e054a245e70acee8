"""What follows from a verdict: a table of what was found, what is done, and whether the sender is who it says."""

import pytest

from posthouse.base.authentication_settings import Authentication
from posthouse.senderauth import arc, dkim, dmarc, spf
from posthouse.senderauth.arc_fields import Status
from posthouse.senderauth.authres import Method, Results
from posthouse.senderauth.dmarc_record import Policy
from posthouse.senderauth.policy import Decision, decide
from posthouse.senderauth.spf import Word
from posthouse.senderauth.verify import Client, Verdict

USUAL = Authentication()


def verdict(
    sender: str = "a.test",
    said: Word = "none",
    signers: tuple[str, ...] = (),
    word: dmarc.Word = "none",
    policy: Policy = "none",
    author: str = "a.test",
) -> Verdict:
    judged = dmarc.Result(
        word, author, policy if word in ("pass", "fail") else "", policy if word == "fail" else "none"
    )
    return Verdict(
        Client("192.0.2.1", "mx.test", f"x@{sender}" if sender else ""),
        (author,),
        spf.Result("none", "helo", "mx.test"),
        spf.Result(said, "mailfrom", sender) if sender else None,
        tuple([dkim.Result("pass", "", one) for one in signers]),
        dmarc=judged,
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (verdict(said="pass"), True),
        (verdict(said="fail"), False),
        (verdict(said="softfail"), None),
        (verdict(said="temperror"), None),
        (verdict(), None),
        (verdict("", author="a.test"), None),
        # A signature of the sender's domain, or of one above it, is as good.
        (verdict(said="fail", signers=("a.test",)), True),
        (verdict("b.a.test", said="fail", signers=("a.test",)), True),
        (verdict(said="fail", signers=("b.a.test",)), False),
        (verdict(said="fail", signers=("other.test",)), False),
        # It says so itself that it did not send this.
        (verdict(word="fail", policy="reject"), False),
        (verdict(word="fail", policy="quarantine", author="b.a.test"), False),
        (verdict(word="fail", policy="none"), None),
        (verdict(word="fail", policy="reject", author="other.test"), None),
        (verdict(said="pass", word="fail", policy="reject", author="other.test"), True),
    ],
)
def test_whether_the_sender_is_who_it_says(found: Verdict, expected: bool | None) -> None:
    for chosen in (USUAL, Authentication(dmarc="mark")):
        assert decide(found, chosen).sender is expected


def test_what_is_done() -> None:
    forged = verdict(word="fail", policy="reject")
    assert decide(forged, USUAL).disposition == "reject"
    assert decide(verdict(word="fail", policy="quarantine"), USUAL).disposition == "quarantine"
    for word in ("none", "pass", "temperror"):
        assert decide(verdict(word=word, policy="reject"), USUAL)[:3] == Decision()[:3]
    deferring = Authentication(trouble="defer")
    assert decide(verdict(word="temperror"), deferring).disposition == "defer"
    assert decide(forged, deferring).disposition == "reject"
    assert decide(forged, Authentication(dmarc="mark"))[:2] == ("none", "local_policy")
    assert forged.dmarc is not None
    milder = forged._replace(dmarc=forged.dmarc._replace(disposition="quarantine", override="policy_test_mode"))
    assert decide(milder, USUAL)[:2] == ("quarantine", "policy_test_mode")
    assert decide(forged._replace(mail_from=None, helo=None), USUAL)[:2] == ("none", "local_policy")


def test_a_from_that_cannot_be_read_is_refused() -> None:
    malformed = verdict(word="permerror", author="bank.test\\x00")
    assert decide(malformed, USUAL).disposition == "reject"
    assert decide(malformed, Authentication(dmarc="mark"))[:2] == ("none", "local_policy")
    assert malformed.dmarc is not None
    # It is the record that cannot be used: its domain asks for nothing.
    record = malformed._replace(dmarc=malformed.dmarc._replace(policy_domain="a.test"))
    assert decide(record, USUAL)[:3] == Decision()[:3]


def test_an_answer_that_is_missing_does_not_make_a_policy_void() -> None:
    """The sender chooses what is asked for."""
    found = verdict(word="temperror")
    assert found.dmarc is not None
    for policy, done in (("", "none"), ("none", "none"), ("quarantine", "defer"), ("reject", "defer")):
        unknown = found._replace(dmarc=found.dmarc._replace(policy=policy))  # type: ignore[arg-type]
        assert decide(unknown, USUAL).disposition == done
        assert decide(unknown, Authentication(dmarc="mark")).disposition == "none"
    known = verdict("lists.test", "pass", word="temperror")._replace(dmarc=found.dmarc._replace(policy="reject"))
    assert decide(known, Authentication(mailing_lists=("lists.test",)))[:2] == ("none", "mailing_list")


def test_lists_are_those_of_the_settings_and_below() -> None:
    chosen = Authentication(mailing_lists=("lists.test",))
    for sender, said, signers, taken in (
        ("lists.test", "pass", (), True),
        ("bounce.lists.test", "pass", (), True),
        ("lists.test", "fail", (), False),
        ("evil-lists.test", "pass", (), False),
        ("x.test", "fail", ("lists.test",), True),
        ("test", "pass", (), False),
    ):
        found = verdict(sender, said, signers, "fail", "reject", "author.test")  # type: ignore[arg-type]
        assert (decide(found, chosen).override == "mailing_list") == taken, sender


@pytest.mark.parametrize(
    ("word", "chain", "taken"),
    [
        ("pass", [("fwd.test", "pass")], True),
        ("pass", [("mx.fwd.test", "pass")], True),
        ("pass", [("fwd.test", "fail")], False),
        ("fail", [("fwd.test", "pass")], False),
        ("none", [], False),
        ("pass", [("evilfwd.test", "pass")], False),
        ("pass", [("fwd.test", "pass"), ("x.test", "pass")], False),  # the oldest first
        ("pass", [("x.test", "pass"), ("fwd.test", "fail")], False),
        ("pass", [("fwd.test", "pass"), ("fwd.test", "fail")], True),
        ("pass", [("fwd.test", "pass"), ("x.test", "fail"), ("fwd.test", "fail")], False),
    ],
)
def test_all_that_sealed_since_must_be_trusted(word: Status, chain: list[tuple[str, str]], taken: bool) -> None:
    seen = tuple([Results(sealer, (Method("spf", "pass"), Method("dmarc", result))) for sealer, result in chain])
    found = verdict(word="fail", policy="reject")._replace(
        arc=arc.Chain(word, "", tuple([sealer for sealer, _ in chain]), seen)
    )
    chosen = Authentication(trusted_sealers=("fwd.test",))
    assert found.arc is not None
    weak = found._replace(arc=found.arc._replace(weaknesses=("a From field is not signed",)))
    assert decide(weak, chosen).disposition == "reject"
    assert (decide(found, chosen).override == "trusted_forwarder") == taken
    assert decide(found, USUAL).disposition == "reject"
