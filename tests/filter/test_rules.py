"""Rules: every condition, every action, their order and their stage."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from posthouse.base.filter_settings import Filter, Rule
from posthouse.filter.rules import Rules, stage_of
from posthouse.filter.visitor import STAGES, Visitor

NOW = int(datetime(2026, 11, 24, 23, 30, tzinfo=UTC).timestamp()) * 1_000_000  # a Tuesday
FACTS: dict[str, Any] = {
    "secure": "TLSv1.3 x", "hello": "Mail.Example.net", "name": "mail.example.net", "sender": "alice@sub.example.net",
    "recipient": "sales@posthouse.test", "recipients": ["bob@posthouse.test", "sales@posthouse.test"], "size": 5000,
}  # fmt: skip


def visitor(**changes: Any) -> Visitor:
    return Visitor("s", **({"service": "smtp", "ip": "192.0.2.7"} | FACTS | changes))


def decide(rules: list[dict[str, Any]], who: Visitor) -> tuple[str, int, float]:
    """(stage, code, delay) of the first decision; ("", 0, delay) if there is none."""
    compiled = Rules([Rule.model_validate(rule) for rule in rules])
    delay = 0.0
    for stage in STAGES:
        ruling = compiled.decide(stage, who, NOW)
        delay = max(delay, ruling.delay)
        if ruling.reply is not None:
            return stage, ruling.reply.code, delay
    return "", 0, delay


@pytest.mark.parametrize(
    ("condition", "stage", "others"),
    [
        ({"network": ["192.0.2.0/24"]}, "connect", {"ip": "198.51.100.1"}),
        ({"network": ["2001:db8::/32"]}, "connect", None),
        ({"service": ["smtp", "lmtp"]}, "connect", {"service": "submission"}),
        ({"tls": True}, "mail", {"secure": ""}),
        ({"tls": False}, "mail", None),
        ({"authenticated": False}, "mail", {"login": "alice@posthouse.test"}),
        ({"hello": ["[192.0.2.*]", "mail.example.ne?"]}, "hello", {"hello": "1"}),
        ({"hello": ["*.example.net", "localhost"]}, "hello", {"hello": "example.net"}),
        ({"reverse_dns": ["mail.*"]}, "connect", {"name": ""}),
        ({"reverse_dns": ["mail.*", ""]}, "connect", {"name": None}),
        ({"reverse_dns": [""]}, "connect", None),
        ({"sender": ["@example.net"]}, "mail", {"sender": "alice@badexample.net"}),
        ({"sender": ["@example.org", "ALICE@*"]}, "mail", {"sender": ""}),
        ({"sender": ["<>"]}, "mail", None),
        ({"recipient": ["sales@posthouse.test"]}, "recipient", {"recipient": "bob@posthouse.test"}),
        ({"larger": 4999}, "message", {"size": 4999}),
        ({"hours": "22:00-06:00"}, "connect", None),
        ({"hours": "06:00-23:29"}, "connect", None),
        ({"hours": "23:30-24:00"}, "connect", None),
        ({"larger": 10, "recipient": ["bob@*"]}, "message", {"recipients": ["sales@posthouse.test"]}),
        ({"days": ["tue"]}, "connect", None),
        ({"days": ["mon", "sun"]}, "connect", None),
        ({"network": ["192.0.2.0/24"], "sender": ["@example.net"]}, "mail", {"ip": "198.51.100.1"}),
    ],
)
def test_conditions(condition: dict[str, Any], stage: str, others: dict[str, Any] | None) -> None:
    holds = condition not in (
        {"network": ["2001:db8::/32"]}, {"tls": False}, {"reverse_dns": [""]}, {"sender": ["<>"]},
        {"hours": "06:00-23:29"}, {"days": ["mon", "sun"]},
    )  # fmt: skip
    rule = condition | {"action": "reject"}
    assert decide([rule], visitor()) == ((stage, 550, 0.0) if holds else ("", 0, 0.0))
    if others is not None:
        assert decide([rule], visitor(**others)) == ("", 0, 0.0)


def test_actions() -> None:
    assert decide([{"action": "defer"}], visitor()) == ("connect", 450, 0)
    assert decide([{"action": "reject", "code": 521, "text": "Go away"}], visitor()) == ("connect", 521, 0)
    assert decide([{"action": "tarpit", "delay": 3}, {"action": "tarpit", "delay": 7}], visitor()) == ("", 0, 7)
    assert decide([{"action": "tarpit", "delay": 3}, {"action": "reject"}], visitor()) == ("connect", 550, 3)
    assert decide([{"action": "require_tls"}], visitor()) == ("", 0, 0)
    assert decide([{"action": "require_tls"}], visitor(secure="")) == ("mail", 530, 0)
    assert decide([{"action": "require_auth"}], visitor()) == ("mail", 530, 0)
    assert decide([{"action": "require_auth"}], visitor(login="alice")) == ("", 0, 0)
    who = visitor()
    tags = [{"action": "tag", "tag": word} for word in ("a", "b", "a")]
    assert decide(tags, who) == ("", 0, 0)
    assert who.tags == ["a", "b"]


def test_the_first_that_decides_decides() -> None:
    good = {"network": ["192.0.2.7"], "action": "accept"}
    bad = {"sender": ["*"], "action": "reject"}
    assert decide([good, bad], visitor()) == ("", 0, 0)
    assert decide([bad, good], visitor()) == ("", 0, 0), "the address is known before the sender"
    assert decide([good, bad], visitor(ip="192.0.2.8")) == ("mail", 550, 0)
    friend = {"sender": ["friend@*"], "action": "accept"}
    who = visitor(sender="friend@example.net")
    assert decide([friend, bad], who) == ("", 0, 0)
    who.begin()
    who.sender = "enemy@example.net"
    assert decide([friend, bad], who) == ("mail", 550, 0), "what was accepted for one message is not for the next"
    both = [{"recipient": ["sales@*"], "action": "accept"}, {"recipient": ["*"], "action": "reject"}]
    who = visitor()
    assert decide(both, who) == ("", 0, 0)
    who.ask_about("bob@posthouse.test")
    assert decide(both, who) == ("recipient", 550, 0), "nor what was accepted for one recipient"
    late = {"recipient": ["sales@*"], "action": "accept"}
    assert decide([late, {"recipient": ["*"], "action": "reject"}], visitor()) == ("", 0, 0)


@pytest.mark.parametrize(
    "rule",
    [
        {}, {"action": "explode"}, {"action": "tag"}, {"action": "tag", "tag": "two words"},
        {"action": "reject", "code": 450}, {"action": "accept", "code": 550}, {"action": "reject", "hours": "9-5"},
        {"action": "reject", "hours": "06:00-06:00"},
        {"action": "reject", "sender": ["spam.example"]}, {"action": "reject", "recipient": ["@a.example", "b"]},
        {"action": "tarpit", "delay": 61}, {"action": "reject", "days": ["someday"]}, {"action": "reject", "from": "x"},
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Filter.model_validate({"rule": [rule]})


def test_domains_are_compared_as_the_dns_writes_them() -> None:
    rule = {"sender": ["@bücher.example"], "action": "reject"}
    assert decide([rule], visitor(sender="x@xn--bcher-kva.example")) == ("mail", 550, 0)


def test_many_stars_cost_nothing() -> None:
    rule = {"hello": ["*" * 5000 + "x"], "action": "reject"}
    assert decide([rule], visitor(hello="a" * 200)) == ("", 0, 0)


def test_each_rule_has_one_stage() -> None:
    assert stage_of(Rule(action="require_tls")) == "mail"
    assert stage_of(Rule(action="reject", larger=1, recipient=("x@*",))) == "message"
