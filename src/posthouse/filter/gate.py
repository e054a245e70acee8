"""`Gate`: all filters in their order, for the SMTP sessions of a server.

`needs(stage, visitor)` is cheap and says whether anything is configured for a stage at all; `check` then asks: rules,
names, lists, limits, greylisting, hooks. What it decides is a `Ruling`; a refusal at "connect" is said in place of the
greeting, lists are decided at the recipient, so that postmaster can always be reached (RFC 5321 section 4.5.1).
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.networks import site
from posthouse.base.settings import Settings
from posthouse.filter import hooks, names
from posthouse.filter.greylist import Greylist
from posthouse.filter.hooks import Hooks
from posthouse.filter.limits import Excess, Limiter
from posthouse.filter.lists import Lists
from posthouse.filter.rules import Rules
from posthouse.filter.visitor import GO, ContentFacts, Ruling, Visitor
from posthouse.mime import header, words
from posthouse.net.dns import Resolver
from posthouse.smtp.replies import Reply
from posthouse.store.database import Database

Notice = Callable[[str, str], Awaitable[None]]

NO_NAME = Reply(550, "5.7.25", "Your address has no name in the DNS that leads back to it")
NAME_LATER = Reply(450, "4.7.25", "The name of your address could not be looked up or confirmed; try again later")


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
        self._rules = Rules(chosen.rule)
        self._lists = Lists(chosen.list, resolver)
        self._accounts = Limiter(chosen.account_limit, "account") if chosen.account_limit.is_set else None
        self._networks = Limiter(chosen.network_limit, "network") if chosen.network_limit.is_set else None
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
            "recipient": limited or self._lists.are_set or self.greylist is not None,
        }
        self._stages = frozenset(
            stage
            for stage in hooks.HOOKS
            if on.get(stage) or self._rules.at(stage) or (self._hooks is not None and self._hooks.at(stage))
        )

    def needs(self, stage: str, visitor: Visitor) -> bool:  # noqa: ARG002 - the one place to spare known visitors
        """Whether there is anything to ask at a stage."""
        return stage in self._stages

    async def check(self, stage: str, visitor: Visitor, content: ContentFacts | None = None) -> Ruling:
        """Ask all filters of a stage; the first refusal counts."""
        if stage == "connect" and self._wants_name and visitor.name is None and visitor.service != "lmtp":
            visitor.name = await names.confirmed_name(self._resolver, visitor.ip)
        ruled = self._rules.decide(stage, visitor, self._clock.now())
        if ruled.reply is not None:
            return ruled
        own = _CHECKS.get(stage)
        if own is not None:
            found = await own(self, visitor)
            if found.reply is not None:
                return found._replace(delay=max(found.delay, ruled.delay))
        if self._hooks is not None and self._hooks.at(stage):
            verdict = await self._hooks.run(stage, _value(stage, visitor, content))
            found = hooks.ruling(verdict, visitor.tags, lambda: _settle(visitor), stage)
            if found.reply is not None:
                return found._replace(delay=ruled.delay)
        return ruled if ruled.delay else GO

    async def deliver(self, visitor: Visitor, content: ContentFacts, account: str) -> Destiny:
        """What becomes of the copy for one account."""
        if self._hooks is None or not self._hooks.at("deliver"):
            return Destiny()
        value = hooks.Deliver(**_fields("deliver", visitor, content), account=account)
        verdict = await self._hooks.run("deliver", value)
        if verdict is not None and verdict.action == "into":
            return Destiny(verdict.text)
        if verdict is not None and verdict.action == "discard":
            return Destiny(keep=False)
        return Destiny(ruling=hooks.ruling(verdict, visitor.tags, lambda: None, "deliver"))

    # What is our own at each stage

    async def _at_connect(self, visitor: Visitor) -> Ruling:
        how = self._chosen.reverse_dns
        if how == "ignore" or visitor.name or visitor.is_known:
            return GO
        if how == "tag":
            _mark(visitor, "no-reverse-dns")
        elif how == "defer" or visitor.name is None:
            return Ruling(NAME_LATER, 0.0, "reverse DNS")
        else:
            return Ruling(NO_NAME, 0.0, "reverse DNS")
        return GO

    async def _at_hello(self, visitor: Visitor) -> Ruling:
        how = self._chosen.hello
        why = names.odd_greeting(visitor.hello, self._hostname, visitor.ip) if how != "ignore" else ""
        if not why or visitor.is_known or visitor.service != "smtp":
            return GO
        if how == "tag":
            _mark(visitor, "odd-greeting")
            return GO
        return Ruling(Reply(550, "5.7.1", f"Your greeting {visitor.hello[:100]} is refused: {why}"), 0.0, "greeting")

    async def _at_mail(self, visitor: Visitor) -> Ruling:
        return await self._over(visitor, messages=1)

    async def _at_recipient(self, visitor: Visitor) -> Ruling:
        over = await self._over(visitor, recipients=1)
        if over.reply is not None or visitor.is_known or visitor.settled or _is_postmaster(visitor.recipient):
            return over
        if self._lists.are_set:
            if not visitor.listed_why:
                domains = [visitor.hello, visitor.name or "", visitor.sender.rpartition("@")[2]]
                score = await self._lists.score(visitor.ip, [one for one in domains if one])
                visitor.listed, visitor.listed_why = score.total, score.why or "not listed"
            if visitor.listed >= self._chosen.reject_score:
                text = f"Your address {visitor.ip} or name is listed: {visitor.listed_why}"
                return Ruling(Reply(550, "5.7.1", text), 0.0, visitor.listed_why)
        if self.greylist is not None and visitor.listed >= 0:
            reply = await self.greylist.check(visitor.ip, visitor.sender, visitor.recipient)
            if reply is not None:
                return Ruling(reply, 0.0, "greylisting")
        return GO

    async def _over(self, visitor: Visitor, *, messages: int = 0, recipients: int = 0) -> Ruling:
        now = self._clock.now() // 1_000_000
        excess: Excess | None = None
        if visitor.account_id is not None:
            if self._accounts is not None:
                excess = self._accounts.admit(
                    visitor.account_id, visitor.login, now, messages=messages, recipients=recipients
                )
        elif self._networks is not None and not visitor.is_known:
            client = site(visitor.ip)
            excess = self._networks.admit(client, client, now, messages=messages, recipients=recipients)
        if excess is None:
            return GO
        if excess.first:
            await self._notice("A limit of sending is over", f"{excess.text}.")
        return Ruling(excess.reply, 0.0, excess.text)

    def close(self) -> None:
        """Let threads go."""
        if self._hooks is not None:
            self._hooks.close()


_CHECKS: dict[str, Callable[[Gate, Visitor], Awaitable[Ruling]]] = {
    "connect": Gate._at_connect,
    "hello": Gate._at_hello,
    "mail": Gate._at_mail,
    "recipient": Gate._at_recipient,
}


def _settle(visitor: Visitor) -> None:
    visitor.settled = True


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
    fields["fields"] = tuple(
        (field.name.decode("ascii", "replace"), words.decode(header.unfold(field.value)).strip())
        for field in header.split(content.header)
    )
    if stage == "message":
        fields |= {"content": content.head, "cut": content.cut}
    return fields
