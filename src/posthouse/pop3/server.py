"""The POP3 protocol engine, server side: bytes and answers in, events and bytes out.

It keeps the states of RFC 1939, answers by itself all that needs no decision (STAT, LIST, UIDL, DELE, RSET,
NOOP, CAPA, UTF8, LANG and every mistake), and asks its session the rest as events (pop3/events.py). Commands may be
pipelined (RFC 2449 section 6.6): they are worked off one after the other.

It never raises for what a peer sent. A line that is too long, a bare LF, or too many mistakes are answered
and end the connection (`closed`). Whether a password is right, how long to wait, and what a message holds
is for the session.
"""

import binascii
import enum
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from posthouse.pop3 import languages, replies
from posthouse.pop3.events import Auth, AuthResponse, Event, Login, Pause, Retrieve, StartTls, Update
from posthouse.pop3.maildrop import Maildrop
from posthouse.pop3.replies import Reply
from posthouse.pop3.top import Top
from posthouse.wire import sasl
from posthouse.wire.buffer import LineTooLong, ReceiveBuffer
from posthouse.wire.dots import DotEncoder

# RFC 2449 section 4 limits commands to 255 octets; clients with long passwords pass that.
_MAX_LINE = 2048
_MAX_RESPONSE = 12288  # a SASL response may be longer than a command (RFC 5034 section 4)
_HIGH_WATER = 64 * 1024  # of output that waits before the session is asked to let it go

# RFC 1939 section 5: msg = a message-number; leading zeros are in the wild
_number = re.compile(rb"[ ]*([0-9]{1,10})[ ]*").fullmatch
_two_numbers = re.compile(rb"[ ]*([0-9]{1,10})[ ]+([0-9]{1,10})[ ]*").fullmatch


class State(enum.Enum):
    """RFC 1939 section 3; the update state is the event `Update`."""

    AUTHORIZATION = enum.auto()
    TRANSACTION = enum.auto()


class Options(NamedTuple):
    """What is offered."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    starttls: bool = False  # STLS is possible
    secure: bool = False  # TLS is active already
    plaintext_auth: bool = False  # passwords are taken without TLS
    require_tls: bool = False
    max_errors: int = 20
    expire: int | None = None  # days that messages stay at least; None: for ever
    login_delay: int = 0  # seconds between two logins


class Verb(NamedTuple):
    """One command: where it is allowed, and what it does."""

    allowed: frozenset[State]
    run: "Callable[[Pop3Server, bytes], Event | None]"


class Pop3Server:
    """One POP3 connection."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._secure = options.secure
        self._buffer = ReceiveBuffer()
        self._output: list[bytes] = []
        self._waiting_bytes = 0
        self._state = State.AUTHORIZATION
        self._unanswered: Event | None = None
        self._user: str | None = None
        self._language = languages.DEFAULT
        self.utf8 = False  # UTF-8 mode: messages go as they are (RFC 6856 section 2.1)
        self.certified = False  # the client showed a certificate: the session says so
        self._in_sasl = False
        self._errors = 0
        self._maildrop: Maildrop | None = None
        self._slices: Iterator[bytes] | None = None
        self._dots: DotEncoder | None = None
        self._top: Top | None = None
        self.closed = False

    # The runtime's side

    @property
    def buffered(self) -> int:
        """Bytes from the peer that are not worked off."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Add bytes from the peer."""
        if not self.closed:
            self._buffer.feed(data)

    def take_output(self) -> bytes:
        """The bytes to send since the last call."""
        output = b"".join(self._output)
        self._output.clear()
        self._waiting_bytes = 0
        return output

    def next_event(self) -> Event | None:
        """The next event; None: more bytes, or the answer to the last one, come first."""
        while self._unanswered is None and not self.closed:
            if self._slices is not None:
                self._next_slice()
            if self._waiting_bytes > _HIGH_WATER:
                self._unanswered = Pause()
            elif self._slices is None:
                line = self._take_line()
                if line is None:
                    return None
                self._unanswered = self._response(line) if self._in_sasl else self._command(line)
            if self._unanswered is not None:
                return self._unanswered
        return None

    # The session's side

    def greet(self, reply: Reply) -> None:
        """Say the first line."""
        self._answer(reply)

    def reply(self, reply: Reply) -> None:
        """Answer the last event."""
        event, self._unanswered = self._unanswered, None
        self._in_sasl = False
        self._answer(reply)
        if isinstance(event, Update):
            self.closed = True
        elif isinstance(event, StartTls) and reply.accepted:
            # Whatever came after STLS came without protection: it must never be executed.
            self._buffer.clear()
        elif not reply.accepted:
            self._count_error()

    def challenge(self, data: bytes) -> None:
        """Answer `Auth` or `AuthResponse`: ask for a response."""
        self._unanswered = None
        self._in_sasl = True
        self._send(b"+ " + binascii.b2a_base64(data, newline=False) + b"\r\n")

    def authenticated(self, maildrop: Maildrop) -> None:
        """Answer `Login`, `Auth` or `AuthResponse`: the mailbox is open."""
        self._maildrop = maildrop
        self._state = State.TRANSACTION
        self.reply(replies.opened(maildrop.count, maildrop.size))

    def tls_started(self) -> None:
        """The handshake is done: all that was known before it is forgotten (RFC 2595 section 4).

        Bytes from before it were dropped with the +OK; what came since is from inside TLS and is kept.
        """
        self._unanswered = None
        self._user = None
        self._language = languages.DEFAULT
        self._secure = True

    def content(self, data: bytes, clean: bool = False) -> bool:
        """Answer `Retrieve`: the next piece of the message. True: TOP needs no more of it.

        `clean`: it is known that every CR and LF of the message is one of a CRLF.
        """
        event = self._unanswered
        assert isinstance(event, Retrieve)
        if self._dots is None:
            self._dots = DotEncoder(clean=clean)
            self._top = None if event.lines is None else Top(event.lines)
            self._answer(replies.CONTENT)
        if self._top is not None:
            data = b"" if self._top.done else self._top.feed(data)
        self._send(self._dots.encode(data))
        return self._top is not None and self._top.done

    def end_content(self) -> None:
        """The message is complete."""
        if self._dots is None:
            self.content(b"")
        assert self._dots is not None
        self._send(self._dots.finish())
        self._dots = self._top = None
        self._unanswered = None

    def proceed(self) -> None:
        """Answer `Pause`."""
        self._unanswered = None

    def fail(self, reply: Reply) -> None:
        """The last event could not be answered. In the middle of a message there is no way to say so."""
        if self._dots is not None:
            self.closed = True
        elif self._unanswered is not None:
            self.reply(reply)

    def goodbye(self, reply: Reply | None) -> None:
        """Close, after saying why (if there is a way to)."""
        if reply is not None and self._dots is None and self._slices is None:
            self._answer(reply)
        self.closed = True

    # Reading

    def _take_line(self) -> bytes | None:
        try:
            line = self._buffer.take_line(_MAX_RESPONSE if self._in_sasl else _MAX_LINE)
        except LineTooLong:
            self.goodbye(replies.TOO_LONG)
            return None
        if (b"\n" in line) if line is not None else self._buffer.find(b"\n") >= 0:
            self.goodbye(replies.BARE_LF)
            return None
        return line

    def _command(self, line: bytes) -> Event | None:
        name, _, args = line.partition(b" ")
        verb = VERBS.get(name.upper())
        if verb is None:
            return self._refuse(replies.UNKNOWN_COMMAND)
        if self._state not in verb.allowed:
            return self._refuse(replies.BAD_STATE)
        return verb.run(self, args)

    def _response(self, line: bytes) -> Event | None:
        self._in_sasl = False
        if line == b"*":
            return self._refuse(replies.CANCELLED)
        data = _unbase64(line)
        return self._refuse(replies.BAD_BASE64) if data is None else AuthResponse(data)

    def _send(self, data: bytes) -> None:
        self._output.append(data)
        self._waiting_bytes += len(data)

    def _answer(self, reply: Reply) -> None:
        self._send(reply.encode(self._language))

    def _refuse(self, reply: Reply) -> Event | None:
        """Answer a mistake; returns None, so that a command can end with it."""
        self._answer(reply)
        self._count_error()
        return None

    def _count_error(self) -> None:
        self._errors += 1
        if self._errors >= self._options.max_errors and not self.closed:
            self.goodbye(replies.TOO_MANY_ERRORS)

    # Authorization

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What the client may log in with now."""
        options = self._options
        return sasl.usable(
            options.mechanisms,
            secure=self._secure,
            certified=self.certified,
            plaintext=options.plaintext_auth,
            require_tls=options.require_tls,
        )

    def _capa(self, _args: bytes) -> None:
        options = self._options
        lines = [
            "TOP",
            "UIDL",
            "PIPELINING",
            "RESP-CODES",
            "AUTH-RESP-CODE",
            f"EXPIRE {'NEVER' if options.expire is None else options.expire}",
            "UTF8 USER",
            "LANG",
            "IMPLEMENTATION Posthouse",
        ]
        if options.login_delay:
            lines.append(f"LOGIN-DELAY {options.login_delay}")
        if self._secure or options.plaintext_auth:
            lines.append("USER")
        if self.mechanisms:
            lines.append(f"SASL {' '.join(self.mechanisms)}")
        if options.starttls and not self._secure:
            lines.append("STLS")
        self._answer(replies.CAPABILITIES)
        self._send("".join(f"{line}\r\n" for line in lines).encode() + b".\r\n")

    def _stls(self, args: bytes) -> Event | None:
        if args:
            return self._refuse(replies.BAD_ARGUMENTS)
        if self._secure:
            return self._refuse(replies.TLS_ACTIVE)
        if not self._options.starttls:
            return self._refuse(replies.NO_TLS)
        if self.utf8:
            return self._refuse(replies.STLS_AFTER_UTF8)  # RFC 6856 section 2.1
        if len(self._buffer):
            # Commands that came with STLS were sent without protection and may be another's.
            self.goodbye(replies.AFTER_STLS)
            return None
        return StartTls()

    def _utf8(self, args: bytes) -> Event | None:
        if args.strip(b" "):
            return self._refuse(replies.BAD_ARGUMENTS)
        self.utf8 = True
        self._answer(replies.UTF8)
        return None

    def _lang(self, args: bytes) -> Event | None:
        wanted = _text(args.strip(b" "))
        if wanted is None or " " in wanted:
            return self._refuse(replies.BAD_ARGUMENTS)
        if not wanted:
            self._answer(replies.LANGUAGES)
            self._send("".join(f"{tag} {name}\r\n" for tag, name in languages.LANGUAGES.items()).encode() + b".\r\n")
            return None
        tag = languages.chosen(wanted)
        if tag is None:
            return self._refuse(replies.NO_SUCH_LANGUAGE)
        self._language = tag
        self._answer(replies.language(tag))
        return None

    def _user_command(self, args: bytes) -> Event | None:
        name = _text(args.strip(b" "))
        if not name:
            return self._refuse(replies.BAD_ARGUMENTS)
        if not (self._secure or self._options.plaintext_auth):
            return self._refuse(replies.TLS_REQUIRED)
        self._user = name
        self._answer(replies.SEND_PASSWORD)
        return None

    def _pass_command(self, args: bytes) -> Event | None:
        if self._user is None:
            return self._refuse(replies.USER_FIRST)
        name, self._user = self._user, None
        password = _text(args)  # RFC 1939 section 7: spaces are part of it
        return Login(name, password) if password else self._refuse(replies.AUTH_FAILED)

    def _auth(self, args: bytes) -> Event | None:
        if not args.strip(b" "):
            # Outlook asks for the list in this way, older than CAPA.
            self._answer(replies.MECHANISMS)
            self._send("".join(f"{m}\r\n" for m in self.mechanisms).encode() + b".\r\n")
            return None
        name, _, response = args.strip(b" ").partition(b" ")
        mechanism = (_text(name) or "").upper()
        if mechanism not in self._options.mechanisms:
            return self._refuse(replies.BAD_MECHANISM)
        if mechanism not in self.mechanisms:
            return self._refuse(replies.TLS_REQUIRED)
        if not response:
            return Auth(mechanism, None)
        # RFC 5034 section 4: a single "=" is an empty initial response
        data = b"" if response == b"=" else _unbase64(response)
        return self._refuse(replies.BAD_BASE64) if data is None else Auth(mechanism, data)

    # Transaction

    @property
    def _mail(self) -> Maildrop:
        assert self._maildrop is not None
        return self._maildrop

    def _message(self, args: bytes) -> int | None:
        """The number of a message that is there and not marked; None: it was refused."""
        match = _number(args)
        if match is None:
            self._refuse(replies.BAD_ARGUMENTS)
        elif (number := int(match[1])) not in self._mail:
            self._refuse(replies.NO_SUCH_MESSAGE)
        elif self._mail.is_deleted(number):
            self._refuse(replies.ALREADY_DELETED)
        else:
            return number
        return None

    def _stat(self, _args: bytes) -> None:
        self._send(b"+OK %d %d\r\n" % (self._mail.count, self._mail.size))

    def _list(self, args: bytes) -> None:
        self._listing(args, False)

    def _uidl(self, args: bytes) -> None:
        self._listing(args, True)

    def _listing(self, args: bytes, unique_ids: bool) -> None:
        if args.strip(b" "):
            number = self._message(args)
            if number is not None:
                line = self._mail.uidl_line(number) if unique_ids else self._mail.list_line(number)
                self._send(b"+OK " + line + b"\r\n")
        else:
            self._answer(replies.LISTING)
            self._slices = self._mail.listing(unique_ids)
            self._next_slice()

    def _next_slice(self) -> None:
        assert self._slices is not None
        part = next(self._slices, None)
        if part is None:
            self._slices = None
        self._send(b".\r\n" if part is None else part)

    def _retr(self, args: bytes) -> Event | None:
        number = self._message(args)
        return None if number is None else Retrieve(number, None)

    def _top_command(self, args: bytes) -> Event | None:
        match = _two_numbers(args)
        if match is None:
            return self._refuse(replies.BAD_ARGUMENTS)
        number = self._message(match[1])
        return None if number is None else Retrieve(number, int(match[2]))

    def _dele(self, args: bytes) -> None:
        number = self._message(args)
        if number is not None:
            self._mail.delete(number)
            self._answer(replies.DELETED)

    def _rset(self, _args: bytes) -> None:
        self._mail.reset()
        self._answer(replies.RESET)

    def _noop(self, _args: bytes) -> None:
        self._answer(replies.OK)

    def _quit(self, _args: bytes) -> Event | None:
        if self._maildrop is None:
            self.goodbye(replies.BYE)
            return None
        return Update(self._maildrop.deleted)


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _unbase64(data: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(data, strict_mode=True) if data else b""
    except ValueError:
        return None


_BEFORE = frozenset({State.AUTHORIZATION})
_AFTER = frozenset({State.TRANSACTION})
_ALWAYS = _BEFORE | _AFTER

VERBS: dict[bytes, Verb] = {
    b"CAPA": Verb(_ALWAYS, Pop3Server._capa),
    b"STLS": Verb(_BEFORE, Pop3Server._stls),
    b"USER": Verb(_BEFORE, Pop3Server._user_command),
    b"PASS": Verb(_BEFORE, Pop3Server._pass_command),
    b"AUTH": Verb(_BEFORE, Pop3Server._auth),
    b"UTF8": Verb(_BEFORE, Pop3Server._utf8),
    b"LANG": Verb(_ALWAYS, Pop3Server._lang),
    b"STAT": Verb(_AFTER, Pop3Server._stat),
    b"LIST": Verb(_AFTER, Pop3Server._list),
    b"UIDL": Verb(_AFTER, Pop3Server._uidl),
    b"RETR": Verb(_AFTER, Pop3Server._retr),
    b"TOP": Verb(_AFTER, Pop3Server._top_command),
    b"DELE": Verb(_AFTER, Pop3Server._dele),
    b"RSET": Verb(_AFTER, Pop3Server._rset),
    b"NOOP": Verb(_AFTER, Pop3Server._noop),
    b"QUIT": Verb(_ALWAYS, Pop3Server._quit),
}
