"""A small SMTP session for tests: who lives here is a table, and what was accepted is a list."""

from typing import Any, NamedTuple

from posthouse.smtp import replies
from posthouse.smtp.events import (
    Auth,
    AuthResponse,
    Content,
    ContentAborted,
    Hello,
    Mail,
    Rcpt,
    Reset,
    StartTls,
    Vrfy,
    Xclient,
)
from posthouse.smtp.params import MailParams
from posthouse.smtp.replies import Reply
from posthouse.smtp.server import ServerOptions, SmtpServer
from posthouse.wire import sasl


class Accepted(NamedTuple):
    """One message that was answered 250."""

    sender: str
    recipients: list[str]
    content: bytes
    params: MailParams
    submitter: str  # who was authenticated


class SmtpSite:
    """Answers the events of one engine: example.org is ours, nobody@ does not exist, full@ is full."""

    def __init__(self, options: ServerOptions) -> None:
        self.engine = SmtpServer(options)
        self.accepted: list[Accepted] = []
        self.aborted: list[Reply] = []
        self.events = 0
        self.starting_tls = False
        self._mechanism: sasl.Mechanism | None = None
        self._recipients: list[str] = []
        self._content: list[bytes] = []
        self._sender = ""
        self._params = MailParams()

    def answer(self, event: Any) -> None:
        self.events += 1
        engine = self.engine
        match event:
            case Hello(name="refused.example"):
                engine.reply(Reply(550, "5.7.1", "Not you"))
            case Hello():
                engine.reply(replies.OK)
            case StartTls():
                engine.reply(replies.READY_FOR_TLS)
                self.starting_tls = not engine.closed
            case Auth(mechanism, initial):
                self._mechanism = sasl.server(mechanism)
                assert self._mechanism is not None
                self._step(self._mechanism.step(initial))
            case AuthResponse(data):
                assert self._mechanism is not None
                self._step(self._mechanism.step(data))
            case Mail(sender, params):
                self._sender, self._params = str(sender), params
                self._recipients, self._content = [], []
                refused = sender.domain == "spam.example"
                engine.reply(Reply(550, "5.7.1", "Refused") if refused else replies.SENDER_OK)
            case Rcpt(recipient):
                engine.reply(self._recipient(recipient.local_part, recipient.domain, str(recipient)))
            case Content(data, last):
                self._content.append(data)
                if not last:
                    engine.proceed()
                    return
                content = b"".join(self._content)
                if b"please refuse" in content:
                    engine.reply(Reply(554, "5.7.1", "Refused for what it says"))
                    return
                self.accepted.append(
                    Accepted(self._sender, self._recipients, content, self._params, engine.authenticated_as)
                )
                engine.reply(Reply(250, "2.0.0", f"Accepted as {len(self.accepted)}"))
            case ContentAborted(reply):
                self.aborted.append(reply)
                self._content = []
            case Reset():
                engine.reply(replies.OK)
            case Vrfy():
                engine.reply(replies.CANNOT_VRFY)
            case Xclient():
                engine.reply(replies.greeting("mx.example.org"))
            case _:
                raise AssertionError(event)

    def _step(self, step: sasl.Step) -> None:
        match step:
            case sasl.Challenge(data):
                self.engine.challenge(data)
            case sasl.Credentials("alice", "", "secret"):
                self.engine.authenticated("alice")
                self.engine.reply(replies.AUTH_SUCCEEDED)
            case sasl.Credentials():
                self.engine.reply(replies.AUTH_FAILED)
            case _:
                self.engine.reply(replies.AUTH_MALFORMED)

    def _recipient(self, local_part: str, domain: str, text: str) -> Reply:
        if domain not in ("example.org", "") and not self.engine.authenticated_as:
            return replies.RELAY_DENIED
        if local_part == "nobody":
            return replies.NO_SUCH_USER
        if local_part == "full":
            return replies.MAILBOX_FULL
        self._recipients.append(text)
        return replies.RECIPIENT_OK
