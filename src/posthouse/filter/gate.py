"""`Gate`: all filters in their order, for the SMTP sessions of a server.

`needs(stage, visitor)` says whether anything is configured for a stage at all; `decide` answers what can be answered at
once, `check` looks up what must be: rules, names, lists, limits, greylisting, hooks. What it decides is a `Ruling`; a
refusal at "connect" is said in place of the greeting, names and lists refuse at the recipient, so that postmaster can
always be reached (RFC 5321 section 4.5.1).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.networks import site
from posthouse.base.settings import Settings
from posthouse.filter import hooks, names
from posthouse.filter.counts import Counts
from posthouse.filter.greylist import Greylist
from posthouse.filter.hooks import Hooks
from posthouse.filter.limits import Excess, Limiter
from posthouse.filter.lists import Lists, Score
from posthouse.filter.rules import Rules
from posthouse.filter.visitor import GO, ContentFacts, Ruling, Stage, Visitor
from posthouse.mime import header, words
from posthouse.net.dns import Resolver
from posthouse.smtp.replies import Reply
from posthouse.store.database import Database

T = TypeVar("T")
MOST_NOTICES = 20  # an hour
MOST_KEPT, KEPT_FOR = 20_000, 300.0  # answers about clients, and for how many seconds
Notice = Callable[[str, str], Awaitable[None]]

NO_NAME = Reply(550, "5.7.25", "Your address has no name in the DNS that leads back to it")
NAME_LATER = Reply(450, "4.7.25", "The name of your address could not be looked up or confirmed; try again later")


class _Kept(Generic[T]):
    """What was looked up lately, bounded."""

    def __init__(self) -> None:
        self._values: OrderedDict[object, tuple[float, T]] = OrderedDict()

    def get(self, key: object, now: float) -> T | None:
        known = self._values.get(key)
        return known[1] if known is not None and known[0] > now else None

    def keep(self, key: object, value: T, now: float) -> None:
        self._values[key] = (now + KEPT_FOR, value)
        self._values.move_to_end(key)
        if len(self._values) > MOST_KEPT:
            self._values.popitem(last=False)


class Destiny(NamedTuple):
    """What becomes of the copy for one account."""

    mailbox: str = ""  # "": the usual one
    keep: bool = True
    ruling: Ruling = GO


class Gate:
    """The filters of one server."""

    def __init__(
        self, settings: Settings, database: Database, resolver: Resolver, clock: Clock, log: Logger, notice: Notice
    ) -> None:
        chosen = self._chosen = settings.filter
        self._hostname = settings.hostname
        self._resolver = resolver
        self._clock = clock
        self._log = log
        self._notice = notice
        self._names: _Kept[str] = _Kept()
        self._scores: _Kept[Score] = _Kept()
        self._hour = self._told = 0  # notices of this hour
        self._telling: set[asyncio.Future[None]] = set()
        self._rules = Rules(chosen.rule)
        self._lists = Lists(chosen.list, resolver, clock)
        self._accounts = Limiter(chosen.account_limit, "account") if chosen.account_limit.is_set else None
        self._networks = Limiter(chosen.network_limit, "network") if chosen.network_limit.is_set else None
        limiters = {"account": self._accounts, "network": self._networks}
        self.counts = Counts(database, clock, log, {kind: one for kind, one in limiters.items() if one is not None})
        self.greylist = (
            Greylist(database, clock, chosen.greylist_delay, chosen.greylist_lifetime_days) if chosen.greylist else None
        )
        self._hooks = Hooks(chosen.policy, chosen.policy_timeout, clock, log, notice) if chosen.policy else None
        wants_name = chosen.reverse_dns != "ignore" or self._rules.needs_name()
        self._wants_name = wants_name or self._hooks is not None or any(one.of == "domain" for one in chosen.list)
        self.banner_delay = chosen.banner_delay
        limited = self._accounts is not None or self._networks is not None
        on = {
            "connect": self._wants_name,
            "hello": chosen.hello != "ignore",
            "mail": limited,
            "recipient": limited
            or self._lists.are_set
            or self.greylist is not None
            or chosen.reverse_dns in ("defer", "require"),
        }
        self._stages = frozenset(
            stage
            for stage in hooks.HOOKS
            if on.get(stage) or self._rules.at(stage) or (self._hooks is not None and self._hooks.at(stage))
        )

    @property
    def sees_content(self) -> bool:
        """Whether anybody looks at the content of messages."""
        return self._hooks is not None and self._hooks.at("message")

    def needs(self, stage: str, visitor: Visitor) -> bool:  # noqa: ARG002 - the one place to spare known visitors
        """Whether there is anything to ask at a stage."""
        return stage in self._stages

    def decide(self, stage: Stage, visitor: Visitor) -> Ruling | None:
        """The ruling of a stage if nothing has to be waited for; None: `check` it."""
        if (self._hooks is not None and self._hooks.at(stage)) or self._lacks(stage, visitor):
            return None
        return self._judge(stage, visitor)

    async def check(self, stage: Stage, visitor: Visitor, content: ContentFacts | None = None) -> Ruling:
        """Ask all filters of a stage; the first refusal counts."""
        await self._look_up(stage, visitor)
        ruled = self._judge(stage, visitor)
        if ruled.reply is not None:
            return ruled
        if self._asks_greylist(stage, visitor):
            assert self.greylist is not None
            reply = await self.greylist.check(visitor.ip, visitor.sender, visitor.recipient)
            visitor.note(stage, "greylisting", str(reply) if reply is not None else "known by now")
            if reply is not None:
                return Ruling(reply, ruled.delay, "greylisting")
        if self._hooks is not None and self._hooks.at(stage):
            verdict = await self._hooks.run(stage, _value(stage, visitor, content))
            found = hooks.ruling(verdict, visitor.tags, lambda: _settle(visitor, stage), stage)
            if verdict is not None:
                visitor.note(stage, hooks.HOOKS[stage], hooks.did(verdict, found))
            if found.reply is not None:
                return found._replace(delay=ruled.delay)
        return ruled

    # What must be known first

    def _lacks(self, stage: Stage, visitor: Visitor) -> bool:
        """Whether something has to be looked up; what was looked up lately is filled in."""
        if stage == "connect" and self._needs_name(visitor):
            known = self._names.get(visitor.ip, self._clock.monotonic())
            if known is None:
                return True
            visitor.name = known
        if self._needs_score(stage, visitor):
            score = self._scores.get(_of_lists(visitor), self._clock.monotonic())
            if score is None:
                return True
            _tell_score(visitor, score)
        return self._asks_greylist(stage, visitor)

    async def _look_up(self, stage: Stage, visitor: Visitor) -> None:
        if not self._lacks(stage, visitor):
            return
        now = self._clock.monotonic()
        if stage == "connect" and self._needs_name(visitor):
            visitor.name = await names.confirmed_name(self._resolver, visitor.ip)
            if visitor.name is not None:
                self._names.keep(visitor.ip, visitor.name, now)
        if self._needs_score(stage, visitor):
            about = _of_lists(visitor)
            score = await self._lists.score(visitor.ip, [name for name in about[1:] if name])
            self._scores.keep(about, score, now)
            _tell_score(visitor, score)

    def _needs_name(self, visitor: Visitor) -> bool:
        return self._wants_name and visitor.name is None and visitor.service != "lmtp"

    def _needs_score(self, stage: str, visitor: Visitor) -> bool:
        asked = stage == "recipient" and self._lists.are_set and not visitor.listed_why
        return asked and not (visitor.is_known or visitor.settled)

    def _asks_greylist(self, stage: str, visitor: Visitor) -> bool:
        if self.greylist is None or stage != "recipient" or visitor.listed < 0:
            return False
        return not (visitor.is_known or visitor.settled or _is_postmaster(visitor.recipient))

    async def deliver(self, visitor: Visitor, content: ContentFacts, account: str) -> Destiny:
        """What becomes of the copy for one account."""
        if self._hooks is None or not self._hooks.at("deliver"):
            return Destiny()
        value = hooks.Deliver(**_fields("deliver", visitor, content), account=account)
        verdict = await self._hooks.run("deliver", value)
        if verdict is not None:
            ruled = hooks.ruling(verdict, [], lambda: None, "deliver")
            visitor.note("deliver", hooks.HOOKS["deliver"], hooks.did(verdict, ruled), account)
        if verdict is not None and verdict.action == "into":
            return Destiny(verdict.text)
        if verdict is not None and verdict.action == "discard":
            return Destiny(keep=False)
        return Destiny(ruling=hooks.ruling(verdict, visitor.tags, lambda: None, "deliver"))

    # What is decided at once

    def _judge(self, stage: Stage, visitor: Visitor) -> Ruling:
        """Rules, then what is our own at a stage."""
        ruled = self._rules.decide(stage, visitor, self._clock.now())
        own = _CHECKS.get(stage)
        if ruled.reply is None and own is not None:
            found = own(self, visitor)
            if found.reply is not None:
                ruled = found._replace(delay=ruled.delay)
        if ruled.reply is not None:
            visitor.note(stage, ruled.why, str(ruled.reply))
        return ruled

    def _at_connect(self, visitor: Visitor) -> Ruling:
        how = self._chosen.reverse_dns
        if how == "ignore" or visitor.name or visitor.is_known:
            return GO
        if how == "tag":
            _mark(visitor, "no-reverse-dns")
            visitor.note("connect", "reverse DNS", "tag no-reverse-dns")
        return GO

    def _at_hello(self, visitor: Visitor) -> Ruling:
        how = self._chosen.hello
        why = names.odd_greeting(visitor.hello, self._hostname, visitor.ip) if how != "ignore" else ""
        if not why or visitor.is_known or visitor.service != "smtp":
            return GO
        if how == "tag":
            _mark(visitor, "odd-greeting")
            visitor.note("hello", "greeting", "tag odd-greeting")
            return GO
        return Ruling(Reply(550, "5.7.1", f"Your greeting {visitor.hello[:100]} is refused: {why}"), 0.0, "greeting")

    def _at_mail(self, visitor: Visitor) -> Ruling:
        return self._over(visitor, messages=1)

    def _at_recipient(self, visitor: Visitor) -> Ruling:
        over = self._over(visitor, recipients=1)
        if over.reply is not None or visitor.is_known or visitor.settled or _is_postmaster(visitor.recipient):
            return over
        how = self._chosen.reverse_dns
        if how in ("defer", "require") and not visitor.name:
            later = how == "defer" or visitor.name is None
            return Ruling(NAME_LATER if later else NO_NAME, 0.0, "reverse DNS")
        if visitor.listed >= self._chosen.reject_score:
            text = f"Your address {visitor.ip} or name is listed: {visitor.listed_why}"
            return Ruling(Reply(550, "5.7.1", text), 0.0, visitor.listed_why)
        return GO

    def _over(self, visitor: Visitor, *, messages: int = 0, recipients: int = 0) -> Ruling:
        now = self._clock.now() // 1_000_000
        excess: Excess | None = None
        if visitor.account_id is not None:
            if self._accounts is not None:
                excess = self._accounts.admit(
                    str(visitor.account_id), visitor.login, now, messages=messages, recipients=recipients
                )
                self.counts.note()
        elif self._networks is not None and not visitor.is_known:
            client = site(visitor.ip)
            excess = self._networks.admit(client, client, now, messages=messages, recipients=recipients)
            self.counts.note()
        if excess is None:
            return GO
        if excess.first:
            self._tell("A limit of sending is over", f"{excess.text}.")
        return Ruling(excess.reply, 0.0, excess.text)

    def _tell(self, subject: str, text: str) -> None:
        """A notice to the admin, for which nobody waits; not more than so many an hour, whatever floods in."""
        hour = self._clock.now() // 3_600_000_000
        if hour != self._hour:
            self._hour, self._told = hour, 0
        self._told += 1
        if self._told > MOST_NOTICES:
            return
        task = asyncio.ensure_future(self._notice(subject, text))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


_CHECKS: dict[str, Callable[[Gate, Visitor], Ruling]] = {
    "connect": Gate._at_connect,
    "hello": Gate._at_hello,
    "mail": Gate._at_mail,
    "recipient": Gate._at_recipient,
}


def _of_lists(visitor: Visitor) -> tuple[str, ...]:
    """What the DNS lists are asked about."""
    return visitor.ip, visitor.hello, visitor.name or "", visitor.sender.rpartition("@")[2]


def _tell_score(visitor: Visitor, score: Score) -> None:
    visitor.listed, visitor.listed_why = score.total, score.why or "not listed"
    for zone, said in score.said:
        visitor.note("recipient", zone, said, about="")


def _settle(visitor: Visitor, stage: str) -> None:
    visitor.settled = stage


def _mark(visitor: Visitor, tag: str) -> None:
    if tag not in visitor.tags:
        visitor.tags.append(tag)


def _is_postmaster(recipient: str) -> bool:
    return recipient.partition("@")[0].lower() in ("postmaster", "abuse")


def _value(stage: str, visitor: Visitor, content: ContentFacts | None) -> Any:
    return _KINDS[stage](**_fields(stage, visitor, content))


_KINDS: dict[str, Callable[..., Any]] = {
    "connect": hooks.Connect,
    "hello": hooks.Helo,
    "auth": hooks.Auth,
    "mail": hooks.Mail,
    "recipient": hooks.Rcpt,
    "headers": hooks.Headers,
    "message": hooks.Message,
}


def _fields(stage: str, visitor: Visitor, content: ContentFacts | None) -> dict[str, Any]:
    """The fields of the value of a stage."""
    v = visitor
    fields: dict[str, Any] = {
        "session": v.session, "service": v.service, "ip": v.ip, "name": v.name or "", "tls": v.secure
    }  # fmt: skip
    if stage == "connect":
        return fields
    fields["hello"] = v.hello
    if stage == "hello":
        return fields
    fields["login"] = v.login
    if stage == "auth":
        return fields
    fields |= {"sender": v.sender, "size": v.size}
    if stage == "mail":
        return fields
    fields["recipients"] = tuple(v.recipients)
    if stage == "recipient":
        return fields | {"recipient": v.recipient}
    assert content is not None
    fields |= {"spf": v.spf, "dkim": v.dkim, "dmarc": v.dmarc}
    fields["fields"] = tuple(
        (field.name.decode("ascii", "replace"), words.decode(header.unfold(field.value)).strip())
        for field in header.split(content.header)
    )
    if stage == "message":
        fields |= {"content": content.head, "cut": content.cut}
    return fields
