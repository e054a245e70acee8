"""One mail transaction: its sender, who gets the message, and the `Delivery` that comes of it.

The decisions are made before; here they are gathered and put into the form that `delivery.accept` commits. What stands
in the trace is listed in docs/explain.md; it is made of what is known anyway, as every message pays for it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from posthouse.auth.login import Login
from posthouse.base import ids
from posthouse.delivery import accept
from posthouse.filter.visitor import Note
from posthouse.mime import trace
from posthouse.mime.addresses import Address as Author
from posthouse.mime.addresses import address_list
from posthouse.reports.dsn import FailedRecipient, Original, report
from posthouse.servers.smtp.authentication import Judged
from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, DeliverBy, Hold, MailParams, RcptParams
from posthouse.smtp.replies import Reply
from posthouse.store.accounts import Resolution
from posthouse.store.blobs.writer import Content
from posthouse.store.envelope import AUTHENTIC, JUNK, UNAUTHENTIC, pack_mail, pack_rcpt
from posthouse.store.model import Digest
from posthouse.store.outbox import HERE
from posthouse.wire.address import Address

SECOND = 1_000_000
MOST_REFUSED = 20  # recipients that the trace names with their refusal
MOST_NAMED = 20  # accounts and addresses that the trace names where one recipient leads to many
MOST_ASKED = 100  # recipients whose parameters are in the trace
MOST_FROM = 1000  # octets of a From field that is looked at
# The text of RFC 3461 section 6.2.7.3 wants one report where a list takes over; its members are not reported.
_EXPANDED = RcptParams(notify=("FAILURE", "DELAY"))


class Where(NamedTuple):
    """From where the message came: for the trace and the Received field."""

    session: str
    service: str  # "smtp", "submission", "submissions" or "lmtp"
    hostname: str
    hello: str
    verb: str  # "EHLO", "HELO" or "LHLO"
    ip: str
    tls: str  # "TLSv1.3 TLS_AES_256_GCM_SHA384", or ""
    peer_name: str  # of a client certificate, or ""
    login: Login | None
    name: str | None = None  # of the client in the DNS, confirmed; "": it has none; None: nobody asked
    mechanism: str = ""  # of the login


class Transaction:
    """From MAIL to the end of the content."""

    __slots__ = (
        "aliases",
        "asked",
        "became",
        "began",
        "discarded",
        "due",
        "exempt",
        "forged",
        "forwarded",
        "homes",
        "into",
        "judged",
        "local",
        "notes",
        "number",
        "options",
        "params",
        "recipients",
        "refused",
        "rejections",
        "rejections_more",
        "remote",
        "sender",
        "success",
        "tags",
    )

    def __init__(self, sender: Address, params: MailParams, due: int, began: int = 0) -> None:
        self.sender = sender
        self.params = params
        self.due = due  # held until then, in microseconds; 0: not held
        self.began = began  # when MAIL came, in microseconds
        self.number = 0  # of its trace, once it has one
        self.recipients: list[Address] = []
        self.homes: list[tuple[int, ...]] = []  # the accounts of each of them
        self.became: list[dict[str, Any]] = []  # what each recipient leads to
        self.asked: dict[str, dict[str, Any]] = {}  # by recipient: parameters of RCPT
        self.rejections: list[tuple[str, Reply]] = []  # recipients ("": the sender, or the message) and why
        self.rejections_more = 0
        self.notes: Sequence[Note] = ()  # what filters did
        self.local: dict[int, None] = {}  # accounts
        self.options: dict[int, str] = {}  # what was asked for each of them (store/envelope.py)
        self.exempt: set[int] = set()  # accounts whose quota does not count, as those who run the server are asked for
        self.refused: dict[int, Reply] = {}  # accounts that get no copy, and why
        self.remote: dict[str, accept.Remote] = {}
        self.forwarded: dict[str, accept.Remote] = {}  # those to whom aliases of ours lead
        self.aliases: dict[str, None] = {}  # the domains of these aliases
        # Who is to be reported, with which action, and whose mailboxes that means.
        self.success: list[tuple[Address, RcptParams, str, tuple[int, ...]]] = []
        self.tags: list[str] = []
        self.into: dict[int, str] = {}  # accounts whose copy goes into another mailbox than INBOX
        self.discarded: list[str] = []  # names of accounts that get none, because a hook said so
        self.judged: Judged | None = None  # who sent it, if that was looked at
        self.forged: dict[str, int] = {}  # fields in our name that were taken out: how many, by name

    def add(self, recipient: Address, params: RcptParams, resolution: Resolution) -> None:
        """One more recipient, who was accepted."""
        self.recipients.append(recipient)
        self.homes.append(tuple(resolution.accounts))
        self.became.append(self._leads(recipient, resolution))
        if params is not NO_RCPT_PARAMS and len(self.asked) < MOST_ASKED and (said := _said(params, NO_RCPT_PARAMS)):
            self.asked[str(recipient)] = said
        # Named twice, it is delivered once and reported once.
        wants_success = "SUCCESS" in params.notify and all(told[0] != recipient for told in self.success)
        options = pack_rcpt(params)
        if not resolution.local:
            address = str(recipient)
            self.remote.setdefault(address, accept.Remote(address, recipient.domain, options))
            return
        if self.due:
            # Who it is for is looked up when its time has come.
            address = str(recipient)
            self.remote.setdefault(address, accept.Remote(address, HERE, options))
            return
        several = len(resolution.accounts) + len(resolution.remote) > 1
        if several:
            options = pack_rcpt(_EXPANDED) if params.notify and params.notify != ("NEVER",) else options
        for account_id in resolution.accounts:
            self.local[account_id] = None
            self.options.setdefault(account_id, options)
        if resolution.remote:
            self.aliases[recipient.domain] = None
        for address in resolution.remote:
            self.forwarded.setdefault(address, accept.Remote(address, address.rpartition("@")[2], options))
        if wants_success and several:
            self.success.append((recipient, params, "expanded", ()))
        elif wants_success and resolution.accounts:
            self.success.append((recipient, params, "delivered", tuple(resolution.accounts)))

    @property
    def has_someone(self) -> bool:
        """Whether there is anything to keep; a copy that a hook discarded leaves its trace."""
        return bool(self.local or self.remote or self.forwarded or self.discarded)

    def refuse(self, account_id: int, why: Reply) -> None:
        """This account gets no copy."""
        del self.local[account_id]
        self.refused[account_id] = why

    def put_aside(self, account_id: int, name: str) -> None:
        """This account gets its copy from the queue, once it has room."""
        del self.local[account_id]
        self.remote.setdefault(name, accept.Remote(name, HERE, self.options.get(account_id, "")))

    def answers(self, otherwise: Reply) -> list[Reply]:
        """The answer for each recipient. Of several accounts behind one, the refusal of any counts: that the others get
        it twice is better than that one does without."""
        return [next((self.refused[id_] for id_ in home if id_ in self.refused), otherwise) for home in self.homes]

    def _leads(self, recipient: Address, resolution: Resolution) -> dict[str, Any]:
        """What becomes of a recipient, for the trace."""
        if not resolution.local:
            return {"queued": recipient.domain}
        if self.due:
            return {"held": self.due}
        found: dict[str, Any] = {}
        accounts, remote = resolution.accounts, resolution.remote
        if accounts:
            found["accounts"] = accounts[:MOST_NAMED]
        if remote:
            found["elsewhere"] = remote[:MOST_NAMED]
        if (more := max(0, len(accounts) - MOST_NAMED) + max(0, len(remote) - MOST_NAMED)) > 0:
            found["more"] = more
        return found

    def reject(self, recipient: str, reply: Reply) -> None:
        """A recipient was refused, or ("") the sender or the whole message."""
        if len(self.rejections) >= MOST_REFUSED and not recipient:
            del self.rejections[-1]  # what was said of the message is worth more
            self.rejections_more += 1
        if len(self.rejections) < MOST_REFUSED:
            self.rejections.append((recipient, reply))
        else:
            self.rejections_more += 1

    def delivery(
        self,
        where: Where,
        number: int,
        now: int,
        lifetime: int,
        content: Content,
        digest: Digest,
        may_hurry: bool,
        forwarded: accept.Forwarded | None = None,
    ) -> accept.Delivery:
        """The message with its decisions. `may_hurry`: an urgent one may overtake others. `forwarded`: what goes on
        with a sender of ours; without it, all that is queued has the sender that the message came with."""
        sender, text = str(self.sender), ids.to_text(number)
        recipients = [str(r) for r in self.recipients]
        received = trace.received(
            hello=where.hello,
            ip=where.ip,
            by=where.hostname,
            protocol=_protocol(where, self.params.smtputf8),
            id=text,
            recipient=recipients[0] if len(recipients) == 1 else "",
            tls=" ".join(word for word in (where.tls, where.peer_name) if word),
            at=now,
        )
        for tag in self.tags:
            received = f"X-Posthouse-Tag: {tag}\r\n".encode() + received
        if self.judged is not None:
            received = self.judged.fields + received
        marks = self._marks(where)
        priority = self.params.priority or 0
        return accept.Delivery(
            trace=number,
            sender=sender,
            account_id=where.login.account_id if where.login else None,
            local=tuple(self.local),
            remote=tuple((self.remote if forwarded is not None else self.forwarded | self.remote).values()),
            content=content,
            digest=digest,
            return_path=trace.return_path(sender),
            received=received,
            at=now,
            expires=self._expires(now, lifetime),
            event=self._event(where, now, recipients, content, digest),
            options=pack_mail(
                self.params if may_hurry or priority <= 0 else self.params._replace(priority=None),
                marks,
            ),
            priority=priority if may_hurry else min(priority, 0),
            due=self.due,
            into=self.into,
            forwarded=forwarded,
            junk=JUNK in marks,
        )

    def _marks(self, where: Where) -> set[str]:
        """What the queue is to know of a stranger's message (store/envelope.py)."""
        if where.login is not None:
            return set()
        marks = {UNAUTHENTIC} if UNAUTHENTIC in self.tags else set()
        if self.judged is not None:
            decision = self.judged.decision
            if decision.sender is False:
                marks.add(UNAUTHENTIC)
            elif decision.sender and not marks:
                marks.add(AUTHENTIC)
            if decision.disposition == "quarantine":
                marks.add(JUNK)
        return marks

    def _expires(self, now: int, lifetime: int) -> int:
        by = self.params.by
        if by is not None and by.mode == "R":
            # RFC 2852 section 4.1.4. A held message lives from when it is let go.
            return min(now + by.seconds * SECOND, max(now, self.due) + lifetime)
        return max(now, self.due) + lifetime

    def _event(self, where: Where, now: int, recipients: list[str], content: Content, digest: Digest) -> dict[str, Any]:
        event = self._came(where, now)
        event["recipients"] = recipients
        event["became"] = self.became
        event["local"] = len(self.local)
        event["remote"] = len(self.forwarded | self.remote) if self.forwarded or self.remote else 0
        self._describe(event, content, digest)
        if self.tags:
            event["tags"] = self.tags
        if self.discarded:
            event["discarded"] = self.discarded
        if self.refused:
            event["refused_accounts"] = {str(account): str(reply)[:500] for account, reply in self.refused.items()}
        if self.into:
            event["into"] = {str(account): mailbox for account, mailbox in self.into.items()}
        return event

    def _came(self, where: Where, now: int) -> dict[str, Any]:
        """How the message came, and what was said of it."""
        event: dict[str, Any] = {
            "session": where.session,
            "service": where.service,
            "ip": where.ip,
            "hello": where.hello[:255],
            "sender": str(self.sender),
        }
        if self.began:
            event["ms"] = (now - self.began) // 1000
        if where.verb != "EHLO":
            event["verb"] = where.verb
        if where.name is not None:
            event["name"] = where.name
        if where.tls:
            event["tls"] = where.tls
        if where.peer_name:
            event["peer"] = where.peer_name
        if where.login:
            event["login"] = where.login.name
            event["mechanism"] = where.mechanism
        if self.params is not NO_MAIL_PARAMS and (said := _said(self.params, NO_MAIL_PARAMS)):
            event["mail"] = said
        if self.asked:
            event["rcpt"] = self.asked
        if self.judged is not None:
            event["authentication"] = self.judged.trace
        if self.forged:
            event["forged"] = self.forged
        if self.notes:
            event["filter"] = [_note(one) for one in self.notes]
        if self.rejections:
            event["refused"] = [{"recipient": who, "reply": str(reply)[:500]} for who, reply in self.rejections]
        if self.rejections_more:
            event["refused_more"] = self.rejections_more
        return event

    def refusal(self, where: Where, now: int, content: Content | None, digest: Digest | None) -> dict[str, Any]:
        """What stands in the trace of a transaction that was refused; with its content, if that came."""
        event = self._came(where, now)
        event["recipients"] = [str(recipient) for recipient in self.recipients[:MOST_REFUSED]]
        if len(self.recipients) > MOST_REFUSED:
            event["recipients_more"] = len(self.recipients) - MOST_REFUSED
        if content is not None and digest is not None:
            self._describe(event, content, digest)
        return event

    def _describe(self, event: dict[str, Any], content: Content, digest: Digest) -> None:
        """What is known of the content."""
        event["size"] = content.size
        event["hash"] = content.hash[:16].hex()  # half of it is enough to tell contents apart
        event["message_id"] = digest.message_id[:1000]
        value, sender = digest.author.strip(b" \t\r\n"), event["sender"].encode()
        if value and value != sender and not (value.endswith(b"<%b>" % sender) and value.count(b"@") == 1):
            event["from"] = _author(value)

    def receipts(self, header: bytes, hostname: str, now: int, unique: str) -> list[bytes]:
        """The reports of success that were asked for and are due with the delivery (RFC 3461 section 5.2.3)."""
        if self.sender.is_null:
            return []
        reports = []
        for action in ("delivered", "expanded"):
            told = [
                FailedRecipient(str(recipient), "2.0.0", action=action, original=params.orcpt)
                for recipient, params, done, accounts in self.success
                # Where a hook of the operator discarded it, nothing was delivered and nobody is to be told.
                if done == action and (not accounts or any(account in self.local for account in accounts))
            ]
            if told:
                reports.append(
                    report(
                        to=str(self.sender),
                        hostname=hostname,
                        now=now,
                        message_id=f"{unique}.{action}@{hostname}",
                        original=Original(header, now, self.params.envid),
                        recipients=told,
                    )
                )
        return reports


def _said(params: MailParams | RcptParams, nothing: MailParams | RcptParams) -> dict[str, Any]:
    """The parameters that were given."""
    return {
        name: value._asdict() if isinstance(value, Hold | DeliverBy) else value
        for name, value, default in zip(params._fields, params, nothing, strict=True)
        if value != default
    }


def _note(note: Note) -> dict[str, str]:
    said = {"at": note.stage, "by": note.by, "did": note.did[:500]}
    return said | {"for": note.about} if note.about else said


def _author(value: bytes) -> str:
    """The addresses of a From field, without the names: "a@example.org, b@example.org"."""
    if len(value) > MOST_FROM:
        return ""
    found = [one for one in address_list(value, 3) if isinstance(one, Author)]
    return b", ".join([one.local + b"@" + one.domain for one in found]).decode("utf-8", "replace")


def _protocol(where: Where, utf8: bool) -> str:
    """The word after "with" (RFC 3848, RFC 6531 section 4.3)."""
    suffix = "S" * bool(where.tls) + "A" * (where.login is not None)
    if where.verb == "LHLO":
        return ("UTF8LMTP" if utf8 else "LMTP") + suffix
    if utf8:
        return "UTF8SMTP" + suffix
    return ("ESMTP" if where.verb == "EHLO" else "SMTP") + suffix
