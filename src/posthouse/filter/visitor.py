"""What is known of a client and its transaction, stage by stage, and what is decided about it."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from posthouse.smtp.replies import Reply

Stage = Literal["connect", "hello", "auth", "mail", "recipient", "headers", "message"]
MOST_NOTES = 100  # about a connection, and as many about each message
STAGES: tuple[Stage, ...] = ("connect", "hello", "auth", "mail", "recipient", "headers", "message")


class Note(NamedTuple):
    """One thing that a filter did: for the trace."""

    stage: Stage | Literal["deliver"]
    by: str  # "rule 3", "bad.test", "on_mail"
    did: str
    about: str = ""  # the recipient it was about, or the account


@dataclass(slots=True)
class Visitor:
    """One connection. The session fills it as it learns more."""

    session: str
    service: str  # "smtp", "submission", "submissions" or "lmtp"
    ip: str
    exempt: bool = False  # from a trusted or relaying network
    secure: str = ""  # TLS version and cipher
    hello: str = ""
    login: str = ""
    account_id: int | None = None
    name: str | None = None  # forward-confirmed reverse DNS; "": there is none; None: not looked up
    sender: str = ""
    recipient: str = ""  # the one that is asked about
    recipients: list[str] = field(default_factory=list)  # accepted ones
    size: int | None = None  # declared, then real
    # What was found of who sent the message, in words of RFC 8601; "": it was not looked at
    spf: str = ""
    dkim: str = ""
    dmarc: str = ""
    tags: list[str] = field(default_factory=list)  # of the connection and of the message under way
    tags_before: int | None = None  # so many of them are the connection's, while a message is under way
    settled: str = ""  # the stage at which a rule or hook accepted: how far it holds, `begin` and `ask_about` say
    listed: float = 0.0  # what the DNS lists say
    listed_why: str = ""
    notes: list[Note] = field(default_factory=list)  # what filters did, of the connection and of the message under way
    notes_before: int | None = None  # so many of them are the connection's, while a message is under way

    @property
    def is_known(self) -> bool:
        """One of our own people or networks: lists and greylisting are not for them."""
        return self.exempt or bool(self.login) or self.service == "lmtp"

    def begin(self) -> None:
        """A new transaction: what was accepted for its sender or recipient is over."""
        self.sender = self.recipient = ""
        self.recipients = []
        self.size = None
        self.spf = self.dkim = self.dmarc = ""
        self.listed, self.listed_why = 0.0, ""
        if self.notes_before is not None:
            del self.notes[self.notes_before :]
            self.notes_before = None
        if self.tags_before is not None:
            del self.tags[self.tags_before :]
            self.tags_before = None
        if self.settled not in ("connect", "hello", "auth"):
            self.settled = ""

    def send(self, sender: str, size: int | None) -> None:
        """MAIL: the tags so far are the connection's."""
        self.sender, self.size = sender, size
        self.tags_before = len(self.tags)
        self.notes_before = len(self.notes)

    def greet(self, hello: str) -> None:
        """EHLO, perhaps once more: what was accepted for another greeting is over."""
        self.hello = hello
        if self.settled != "connect":
            self.settled = ""

    def ask_about(self, recipient: str) -> None:
        """One more recipient: what was accepted for another is not for this one."""
        self.recipient = recipient
        if self.settled == "recipient":
            self.settled = ""

    def note(self, stage: Stage | Literal["deliver"], by: str, did: str, about: str | None = None) -> None:
        """Remember what a filter did, once, and not without end."""
        if about is None:
            about = self.recipient if stage == "recipient" else ""
        note = Note(stage, by, did, about)
        if len(self.notes) - (self.notes_before or 0) < MOST_NOTES and note not in self.notes:
            self.notes.append(note)

    def go_on(self) -> None:
        """All recipients are known; the message is looked at."""
        if self.settled == "recipient":
            self.settled = ""


class Ruling(NamedTuple):
    """What is decided. Without a reply the session goes on."""

    reply: Reply | None = None
    delay: float = 0.0  # seconds to wait before the answer
    why: str = ""  # one line for log and trace


GO = Ruling()


class ContentFacts(NamedTuple):
    """The message, once it is there."""

    header: bytes
    size: int
    message_id: str
    head: bytes  # the beginning of the whole message
    cut: bool  # there is more of it
