"""Ordered rules of the configuration: the first that decides, decides.

A rule is looked at once, at the earliest stage at which all its conditions are known: address, port, name in the DNS
and time at "connect", the greeting at "hello", TLS, login and sender at "mail", the recipient at "recipient", the real
size, and what was found of who sent it (SPF, DKIM, DMARC), at "message". `accept` ends the rules for what the rule was
about: a connection, a transaction, a recipient; `tag` and `tarpit` go on. Pure.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from posthouse.base.filter_settings import Rule
from posthouse.base.networks import trusted
from posthouse.filter.visitor import GO, Ruling, Stage, Visitor
from posthouse.smtp.replies import Reply
from posthouse.wire.address import parse_domain

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Holds = Callable[[Visitor, int], bool]  # now, in seconds

REQUIRE_TLS = Reply(530, "5.7.0", "This is taken with TLS only: issue STARTTLS first")
REQUIRE_AUTH = Reply(530, "5.7.0", "Authentication required")


class _Compiled(NamedTuple):
    number: int  # as in the file, from 1
    rule: Rule
    stage: Stage
    conditions: tuple[Holds, ...]


class Rules:
    """The rules of one configuration, sorted by stage."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_stage: dict[str, list[_Compiled]] = {}
        for number, rule in enumerate(rules, 1):
            one = _Compiled(number, rule, stage_of(rule), tuple(_conditions(rule)))
            self._by_stage.setdefault(one.stage, []).append(one)

    def at(self, stage: str) -> bool:
        """Whether any rule is looked at there."""
        return stage in self._by_stage

    def needs_name(self) -> bool:
        """Whether any rule asks for the client's name in the DNS."""
        return any(one.rule.reverse_dns for rules in self._by_stage.values() for one in rules)

    def decide(self, stage: Stage, visitor: Visitor, now: int) -> Ruling:
        """What the rules of a stage say. `now` is in microseconds."""
        rules = self._by_stage.get(stage)
        if rules is None or visitor.settled:
            return GO
        moment = now // 1_000_000
        delay = 0.0
        for number, rule, _, conditions in rules:
            if not all(holds(visitor, moment) for holds in conditions):
                continue
            why = f"rule {number}"
            if rule.action not in ("reject", "defer"):  # the gate notes refusals
                visitor.note(stage, why, _did(rule))
            match rule.action:
                case "accept":
                    visitor.settled = stage
                    return Ruling(None, delay, why)
                case "reject":
                    return Ruling(_reply(rule, 550, "Not accepted here"), delay, why)
                case "defer":
                    return Ruling(_reply(rule, 450, "Not now; try again later"), delay, why)
                case "tarpit":
                    delay = max(delay, rule.delay)
                case "tag":
                    if rule.tag not in visitor.tags:
                        visitor.tags.append(rule.tag)
                case "require_tls":
                    if not visitor.secure:
                        return Ruling(REQUIRE_TLS, delay, why)
                case "require_auth":
                    if not visitor.login:
                        return Ruling(REQUIRE_AUTH, delay, why)
        return Ruling(None, delay) if delay else GO


def _did(rule: Rule) -> str:
    """What a rule that fits does, in words."""
    match rule.action:
        case "tag":
            return f"tag {rule.tag}"
        case "tarpit":
            return f"wait {rule.delay:g} s"
        case "require_tls":
            return "require TLS"
        case "require_auth":
            return "require a login"
        case action:
            return action


def stage_of(rule: Rule) -> Stage:
    """The earliest stage at which all that a rule looks at is known."""
    if rule.larger is not None or rule.spf or rule.dkim or rule.dmarc:
        return "message"
    if rule.recipient:
        return "recipient"
    asks = rule.action in ("require_tls", "require_auth")
    if rule.sender or rule.tls is not None or rule.authenticated is not None or asks:
        return "mail"
    return "hello" if rule.hello else "connect"


def _reply(rule: Rule, code: int, text: str) -> Reply:
    code = rule.code or code
    return Reply(code, "5.7.1" if code >= 500 else "4.7.1", rule.text or text)


def _conditions(rule: Rule) -> list[Holds]:
    found: list[Holds] = []
    if rule.network:
        found.append(lambda v, _: trusted(v.ip, rule.network))
    if rule.service:
        found.append(lambda v, _: v.service in rule.service)
    if rule.tls is not None:
        found.append(lambda v, _: bool(v.secure) == rule.tls)
    if rule.authenticated is not None:
        found.append(lambda v, _: bool(v.login) == rule.authenticated)
    if rule.hello:
        hello = _any_of(rule.hello)
        found.append(lambda v, _: hello(v.hello))
    if rule.reverse_dns:
        name = _any_of(rule.reverse_dns)
        # A name that could not be looked up is not "none".
        found.append(lambda v, _: v.name is not None and name(v.name))
    if rule.sender:
        sender = _any_address(rule.sender)
        found.append(lambda v, _: sender(v.sender))
    if rule.recipient:
        recipient = _any_address(rule.recipient)
        if stage_of(rule) == "message":
            found.append(lambda v, _: any(recipient(one) for one in v.recipients))
        else:
            found.append(lambda v, _: recipient(v.recipient))
    if rule.larger is not None:
        limit = rule.larger
        found.append(lambda v, _: (v.size or 0) > limit)
    if rule.spf:
        found.append(lambda v, _: v.spf in rule.spf)
    if rule.dkim:
        found.append(lambda v, _: v.dkim in rule.dkim)
    if rule.dmarc:
        found.append(lambda v, _: v.dmarc in rule.dmarc)
    if rule.hours is not None:
        begin, _, end = rule.hours.partition("-")
        found.append(lambda _, at: _within(f"{datetime.fromtimestamp(at, UTC):%H:%M}", begin, end))
    if rule.days:
        found.append(lambda _, at: _DAYS[datetime.fromtimestamp(at, UTC).weekday()] in rule.days)
    return found


def _within(now: str, begin: str, end: str) -> bool:
    return begin <= now < end if begin <= end else now >= begin or now < end


def _any_of(patterns: Sequence[str]) -> Callable[[str], bool]:
    """One expression for all patterns: "*" is anything, "?" one character, letters of any case."""
    matches = re.compile("|".join(_expression(pattern.lower()) for pattern in patterns), re.DOTALL).fullmatch
    return lambda text: matches(text.lower()) is not None


def _expression(pattern: str) -> str:
    # Neighbouring stars are one: each more would make matching slower, and say nothing.
    return re.escape(re.sub(r"\*+", "*", pattern)).replace(r"\*", ".*").replace(r"\?", ".")


def _any_address(patterns: Sequence[str]) -> Callable[[str], bool]:
    globs: list[str] = []
    for pattern in patterns:
        if pattern.startswith("@") and "*" not in pattern:
            domain = parse_domain(pattern[1:], True) or pattern[1:]
            globs += [f"*@{domain}", f"*@*.{domain}"]
        else:
            globs.append("" if pattern == "<>" else pattern)
    return _any_of(globs)
