"""`SmtpServer`: one SMTP connection, server side, for the MX and the submission ports (RFC 5321, RFC 6409).

It knows syntax, order and limits, and answers whatever needs no decision: NOOP, HELP, every mistake.
Decisions become events (`events.py`); who may send what to whom, passwords and storage are the session's.
What a peer sends never makes it raise. It closes after too many errors, on lines or content beyond all
measure, on HTTP, and on input where a client must wait (RFC 2920 section 3.1), which is how other
protocols' requests and injected commands arrive.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from posthouse.smtp import params, replies
from posthouse.smtp.content import ContentReader
from posthouse.smtp.events import (
    Auth,
    AuthResponse,
    Content,
    Event,
    Hello,
    Mail,
    Rcpt,
    Reset,
    StartTls,
    Vrfy,
)
from posthouse.smtp.grammar import control, from_base64, mail_args, rcpt_args, word
from posthouse.smtp.replies import Reply
from posthouse.wire.address import parse_path
from posthouse.wire.buffer import LineTooLong, ReceiveBuffer
from posthouse.wire.sasl import PLAINTEXT

# Octets of a line with its CRLF. RFC 5321 section 4.5.3.1.4: 512; extensions add to MAIL and RCPT
# (all that are registered stay below 2048); RFC 4954 section 4: 12288 for AUTH and what follows it.
COMMAND_LINE = 512
EXTENDED_LINE = 2048
AUTH_LINE = 12288

# The states, as bits: a verb's row has all those it is allowed in.
NEW = 1  # not greeted yet
REFUSED = 2  # greeted with 554: only QUIT (RFC 5321 section 3.1)
OPEN = 4  # no EHLO yet
READY = 8
MAIL = 16  # sender accepted
RCPT = 32  # at least one recipient accepted
CONTENT = 64  # 354 sent
AUTH = 128  # a challenge is out
TLS = 256  # 220 to STARTTLS sent, no handshake yet
_GREETED = READY | MAIL | RCPT
_ANY = OPEN | _GREETED


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What all connections of one listener share."""

    hostname: str
    submission: bool = False  # a port for our own users: MAIL needs authentication (RFC 6409 section 4.3)
    max_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_errors: int = 20  # in a row: an accepted message forgives
    mechanisms: tuple[str, ...] = ()
    starttls: bool = False
    secure: bool = False  # TLS from the first byte
    require_auth: bool = False
    require_tls: bool = False
    plaintext_auth: bool = False  # PLAIN and LOGIN without TLS: for tests and closed networks
    smtputf8: bool = False
    dsn: bool = False


class SmtpServer:
    """Bytes and replies in, events and bytes out. See `events.py` for how each event is answered."""

    __slots__ = (
        "_buffer",
        "_content",
        "_errors",
        "_esmtp",
        "_event",
        "_offered",
        "_options",
        "_output",
        "_recipients",
        "_state",
        "_torn",
        "_utf8",
        "authenticated_as",
        "closed",
        "secure",
    )

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._buffer = ReceiveBuffer()
        self._output: list[bytes] = []
        self._state = NEW
        self._event: Event | None = None  # handed out, not answered yet
        self._content: ContentReader | None = None
        self._errors = 0
        self._recipients = 0  # RCPT commands of this transaction
        self._torn = False  # within a line refused for a bare LF
        self._esmtp = False
        self._utf8 = False  # this transaction has SMTPUTF8
        self._offered = _NOTHING
        self.secure = options.secure
        self.authenticated_as = ""
        self.closed = False

    # For the connection

    def receive(self, data: bytes) -> None:
        """Add bytes from the peer."""
        if not self.closed:
            self._buffer.feed(data)

    @property
    def buffered(self) -> int:
        """Bytes received and not used yet. Before the greeting: what an early talker has sent."""
        return len(self._buffer)

    def next_event(self) -> Event | None:
        """The next event, or None: more bytes, or the answer to the last event, come first."""
        if self._event is not None or self.closed:
            return None
        if self._state == CONTENT:
            return self._read_content()
        return self._read_command() if self._state & (_ANY | AUTH | REFUSED) else None

    def take_output(self) -> bytes:
        """The bytes to send since the last call."""
        if not self._output:
            return b""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # For the session

    def greet(self, reply: Reply) -> None:
        """Begin the connection. 421 closes it; any other refusal leaves the client QUIT only."""
        if self._state == NEW:
            self._state = OPEN if reply.accepted else REFUSED
            self._send(reply)

    def reply(self, reply: Reply) -> None:
        """Answer the last event."""
        event, self._event = self._event, None
        if self.closed:
            return
        if event is None:
            raise RuntimeError("no event waits for a reply")
        _ANSWERS[type(event)](self, event, reply)

    def proceed(self) -> None:
        """Answer a Content event that is not the last: go on."""
        if not self.closed and (type(self._event) is not Content or self._event.last):
            raise RuntimeError("no piece of content waits")
        self._event = None

    def challenge(self, data: bytes) -> None:
        """Answer Auth or AuthResponse: the exchange goes on."""
        self._event = None
        if not self.closed:
            self._state = AUTH
            self._output.append(b"334 %b\r\n" % b64encode(data))

    def authenticated(self, name: str) -> None:
        """The client is `name`. The event still needs its reply, normally AUTH_SUCCEEDED."""
        self.authenticated_as = name

    def tls_started(self) -> None:
        """The handshake is done: all that was known is forgotten (RFC 3207 section 4.2).

        Bytes that came before it were dropped with the 220. What came since is from inside TLS (the client
        may send EHLO with the end of its handshake, before we are told of it) and is kept.
        """
        self._state = OPEN
        self.secure = True
        self.authenticated_as = ""
        self._esmtp = self._torn = False

    def fail(self, reply: Reply) -> None:
        """The session could not answer: refuse the event that waits, if one does."""
        if self._event is not None:
            self.reply(reply)

    def goodbye(self, reply: Reply) -> None:
        """Say a last word and close, whatever is under way."""
        if not self.closed:
            self._output.append(reply.encode())
            self._close()

    # Answers

    def _send(self, reply: Reply) -> None:
        """Send a reply; count it if it is an error; 421 closes (RFC 5321 section 3.8)."""
        self._output.append(reply.encode())
        code = reply.code
        if code == 421:
            self._close()
        elif code >= 500:
            self._errors += 1
            if self._errors >= self._options.max_errors:
                self.goodbye(replies.TOO_MANY_ERRORS)

    def _close(self) -> None:
        self.closed = True
        self._buffer.clear()
        self._event = self._content = None

    def _answer_hello(self, event: Hello, reply: Reply) -> None:
        if not reply.accepted:
            self._send(reply)
            return
        self._state = READY
        self._esmtp = event.verb == "EHLO"
        authenticated = bool(self.authenticated_as)
        keywords, self._offered = _capabilities(self._options, self.secure, authenticated)
        name = event.name if len(event.name) <= 255 else "you"
        self._send(replies.capabilities(self._options.hostname, name, keywords if self._esmtp else ()))

    def _answer_starttls(self, _event: StartTls, reply: Reply) -> None:
        if reply.accepted:
            # Whatever came after STARTTLS came without protection: it must never be executed.
            self._buffer.clear()
            self._state = TLS
        self._send(reply)

    def _answer_auth(self, _event: Auth | AuthResponse, reply: Reply) -> None:
        self._state = READY
        self._send(reply)

    def _answer_mail(self, event: Mail, reply: Reply) -> None:
        if reply.code < 400:
            self._state = MAIL
            self._utf8 = event.params.smtputf8
            self._recipients = 0
        self._send(reply)

    def _answer_rcpt(self, _event: Rcpt, reply: Reply) -> None:
        if reply.code < 400:
            self._state = RCPT
        self._send(reply)

    def _answer_content(self, event: Content, reply: Reply) -> None:
        if event.last:
            self._state = READY
            self._content = None
            if reply.code < 400:
                self._errors = 0
            self._send(reply)
        elif not reply.accepted and self._content is not None:
            self._content.refuse(reply)

    def _answer_reset(self, _event: Reset, reply: Reply) -> None:
        if self._state & (MAIL | RCPT):
            self._state = READY
        self._send(reply)

    def _answer_vrfy(self, _event: Vrfy, reply: Reply) -> None:
        self._send(reply)

    # Input

    def _read_content(self) -> Event | None:
        content = self._content
        if content is None or not self._buffer:
            return None
        event, rest = content.read(self._buffer.take_all())
        if rest is not None:
            self._buffer.feed(rest)
            if content.refusal is not None:
                self._state = READY
                self._content = None
                self._send(content.refusal)
        elif content.hopeless:
            self._send(replies.STILL_TOO_BIG)
        if event is None:
            return None if rest is None else self.next_event()
        if type(event) is Content:
            self._event = event
        return event

    def _read_command(self) -> Event | None:
        while not self.closed:
            try:
                line = self._buffer.take_line(AUTH_LINE - 2)
            except LineTooLong:
                self._send(replies.AUTH_LINE_TOO_LONG if self._state == AUTH else replies.LINE_TOO_LONG)
                self.goodbye(replies.TOO_MANY_ERRORS)
                return None
            if line is None:
                if self._buffer:
                    self._look_at_unfinished()
                return None
            result = self._execute(line)
            if result is None:
                continue
            if isinstance(result, Reply):
                self._send(result)
                if self._state == CONTENT:
                    return self.next_event()
                continue
            self._event = result
            return result
        return None

    def _execute(self, line: bytes) -> Event | Reply | None:
        """What a line asks for: an event, the reply that we give by ourselves, or nothing (answered)."""
        if self._torn or b"\n" in line:
            self._refuse_torn(line)
            return None
        if self._state == AUTH:
            return self._auth_response(line)
        name, _, args = line.partition(b" ")
        verb = VERBS.get(name) or VERBS.get(name.upper()) or _UNKNOWN
        if verb.last and self._buffer:
            self.goodbye(replies.EARLY_INPUT)
            return None
        if not self._state & verb.allowed or len(line) > verb.limit:
            return self._out_of_place(verb, line)
        return verb.run(self, args)

    def _refuse_torn(self, line: bytes) -> None:
        # One reply for every bare LF, however the bytes were cut on their way; and nothing of such a
        # line is executed, what stands behind the LF least of all.
        self._torn = False
        for _ in range(line.count(b"\n")):
            if self.closed:
                break
            self._send(replies.BARE_LINE_END)
        if self._state == AUTH:
            self._state = READY

    def _look_at_unfinished(self) -> None:
        """No CRLF in sight. Tell clients that will never send one: bare LF, or TLS on the wrong port."""
        buffer = self._buffer
        while not self.closed and (at := buffer.find(b"\n")) >= 0:
            buffer.take(at + 1)
            self._torn = True
            self._send(replies.BARE_LINE_END)
        # A ClientHello: ContentType handshake, ProtocolVersion 3.x (RFC 8446 section 5.1)
        if self._state == OPEN and not self.closed and buffer.peek(2) == b"\x16\x03":
            self._send(replies.NOT_TLS_YET)

    def _out_of_place(self, verb: "Verb", line: bytes) -> Reply:
        if self._state == REFUSED:
            return replies.SERVICE_REFUSED
        if len(line) > verb.limit:
            return replies.LINE_TOO_LONG
        if self._state == OPEN:
            return replies.SAY_HELLO
        return verb.misplaced if self._state == READY else replies.NESTED_MAIL

    # Verbs: each answers with an event or a reply

    def _unknown(self, _args: bytes) -> Reply:
        return replies.UNRECOGNIZED

    def _http(self, _args: bytes) -> Reply:
        return replies.NOT_HTTP

    def _ehlo(self, args: bytes) -> Hello | Reply:
        return self._hello("EHLO", args)

    def _helo(self, args: bytes) -> Hello | Reply:
        return self._hello("HELO", args)

    def _hello(self, verb: str, args: bytes) -> Hello | Reply:
        # ehlo = "EHLO" SP ( Domain / address-literal ) CRLF
        # Loosened to any word: half the clients give a name that is no domain, and nothing hangs on it.
        name = args.strip(b" ")
        if not word(name):
            return replies.CONTROL_CHARACTER if control(name) else replies.HELLO_SYNTAX
        if self._state & (MAIL | RCPT):
            self._state = READY
        return Hello(verb, name.decode("ascii", "replace"))

    def _mail(self, args: bytes) -> Mail | Reply:
        options = self._options
        if options.require_tls and not self.secure:
            return replies.TLS_REQUIRED
        if not self.authenticated_as and (options.submission or options.require_auth):
            return replies.AUTH_REQUIRED
        match = mail_args(args)
        if match is None:
            return replies.CONTROL_CHARACTER if control(args) else replies.MAIL_SYNTAX
        path, bare, words = match.groups()
        values = params.NO_MAIL_PARAMS
        if words:
            parsed = params.mail_params(words, self._offered)
            if isinstance(parsed, Reply):
                return parsed
            values = parsed
            if values.size is not None and values.size > options.max_size:
                return replies.too_big(options.max_size)
        sender = parse_path(path if path is not None else b"<%b>" % bare, values.smtputf8)
        if sender is None:
            return _address_problem(path or bare, replies.SENDER_NEEDS_DOMAIN, replies.SENDER_SYNTAX)
        if sender.local_part and not sender.domain:
            return replies.SENDER_NEEDS_DOMAIN
        return Mail(sender, values)

    def _rcpt(self, args: bytes) -> Rcpt | Reply:
        match = rcpt_args(args)
        if match is None:
            return replies.CONTROL_CHARACTER if control(args) else replies.RCPT_SYNTAX
        path, bare, words = match.groups()
        values = params.NO_RCPT_PARAMS
        if words:
            parsed = params.rcpt_params(words, self._offered)
            if isinstance(parsed, Reply):
                return parsed
            values = parsed
        recipient = parse_path(path if path is not None else b"<%b>" % bare, self._utf8)
        if recipient is None or not recipient.local_part:
            return _address_problem(path or bare, replies.RECIPIENT_NEEDS_DOMAIN, replies.RECIPIENT_SYNTAX)
        if self._recipients >= self._options.max_recipients:
            return replies.TOO_MANY_RECIPIENTS
        self._recipients += 1
        return Rcpt(recipient, values)

    def _data(self, args: bytes) -> Reply:
        if args.strip(b" "):
            return replies.NO_ARGUMENTS
        if self._state == MAIL:
            return replies.NO_VALID_RECIPIENTS if self._recipients else replies.NEED_RCPT
        self._state = CONTENT
        self._content = ContentReader(self._options.max_size)
        return replies.START_MAIL

    def _rset(self, args: bytes) -> Reset | Reply:
        return replies.NO_ARGUMENTS if args.strip(b" ") else Reset()

    def _noop(self, args: bytes) -> Reply:
        return replies.CONTROL_CHARACTER if control(args) else replies.OK

    def _help(self, args: bytes) -> Reply:
        return replies.CONTROL_CHARACTER if control(args) else replies.HELP

    def _vrfy(self, args: bytes) -> Vrfy | Reply:
        text = args.strip(b" ")
        if not text or control(text):
            return replies.VRFY_SYNTAX
        return Vrfy(text.decode("utf-8", "replace"))

    def _not_implemented(self, _args: bytes) -> Reply:
        return replies.NOT_IMPLEMENTED

    def _quit(self, args: bytes) -> Reply | None:
        if args.strip(b" "):
            return replies.NO_ARGUMENTS
        self.goodbye(replies.BYE)
        return None

    def _starttls(self, args: bytes) -> StartTls | Reply:
        if args.strip(b" "):
            return replies.NO_ARGUMENTS
        if self.secure:
            return replies.TLS_ACTIVE
        return StartTls() if self._options.starttls else replies.TLS_NOT_OFFERED

    def _auth(self, args: bytes) -> Auth | Reply:
        options = self._options
        if not options.mechanisms:
            return replies.AUTH_NOT_OFFERED
        if self.authenticated_as:
            return replies.AUTH_ACTIVE
        if not self._esmtp:
            return replies.AUTH_NEEDS_EHLO
        words = args.split()
        if not 1 <= len(words) <= 2 or control(args):
            return replies.AUTH_SYNTAX
        mechanism = words[0].decode("ascii", "replace").upper()
        if mechanism not in options.mechanisms:
            return replies.UNKNOWN_MECHANISM
        if mechanism in PLAINTEXT and not (self.secure or options.plaintext_auth):
            return replies.AUTH_NEEDS_TLS
        initial = None
        if len(words) == 2:
            # RFC 4954 section 4: "=" is an initial response of no octets
            initial = b"" if words[1] == b"=" else from_base64(words[1])
            if initial is None:
                return replies.AUTH_BASE64
        return Auth(mechanism, initial)

    def _auth_response(self, line: bytes) -> AuthResponse | Reply:
        data = None if line == b"*" else from_base64(line)
        if data is None:
            self._state = READY
            return replies.AUTH_CANCELLED if line == b"*" else replies.AUTH_BASE64
        return AuthResponse(data)


def _address_problem(path: bytes, needs_domain: Reply, syntax: Reply) -> Reply:
    if not path.isascii():
        return replies.NEEDS_SMTPUTF8
    return needs_domain if b"@" not in path and path.strip(b"<>") else syntax


_NOTHING: frozenset[str] = frozenset()


@lru_cache(64)
def _capabilities(options: ServerOptions, secure: bool, authenticated: bool) -> tuple[tuple[str, ...], frozenset[str]]:
    """The lines of EHLO's answer after the first, and the names of the extensions that may be used."""
    lines = ["PIPELINING", f"SIZE {options.max_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    if options.starttls and not secure:
        lines.append("STARTTLS")
    usable = [m for m in options.mechanisms if secure or options.plaintext_auth or m not in PLAINTEXT]
    if usable and not authenticated:
        lines.append("AUTH " + " ".join(usable))
    lines += ["SMTPUTF8"] * options.smtputf8 + ["DSN"] * options.dsn + ["HELP"]
    offered = {line.partition(" ")[0] for line in lines} | ({"AUTH"} if usable else set())
    return tuple(lines), frozenset(offered)


class Verb(NamedTuple):
    """One row: what runs, in which states, and what else holds for the line."""

    run: Callable[[SmtpServer, bytes], Event | Reply | None]
    allowed: int = _ANY
    misplaced: Reply = replies.BAD_SEQUENCE  # in READY, where it is not allowed
    limit: int = COMMAND_LINE - 2
    last: bool = False  # the client must wait for the reply before it sends more (RFC 2920 section 3.1)


_UNKNOWN = Verb(SmtpServer._unknown)
_HTTP = Verb(SmtpServer._http, _ANY | REFUSED, limit=AUTH_LINE)
_OTHER = Verb(SmtpServer._not_implemented)

# RFC 2920 asks clients to wait after EHLO, NOOP, VRFY, AUTH and QUIT too; there, going on does no harm.
VERBS: dict[bytes, Verb] = {
    b"EHLO": Verb(SmtpServer._ehlo),
    b"HELO": Verb(SmtpServer._helo),
    b"MAIL": Verb(SmtpServer._mail, READY, limit=EXTENDED_LINE - 2),
    b"RCPT": Verb(SmtpServer._rcpt, MAIL | RCPT, replies.NEED_MAIL, limit=EXTENDED_LINE - 2),
    b"DATA": Verb(SmtpServer._data, MAIL | RCPT, replies.NEED_MAIL, last=True),
    b"RSET": Verb(SmtpServer._rset),
    b"NOOP": Verb(SmtpServer._noop),
    b"QUIT": Verb(SmtpServer._quit, _ANY | REFUSED),
    b"VRFY": Verb(SmtpServer._vrfy),
    b"HELP": Verb(SmtpServer._help),
    b"STARTTLS": Verb(SmtpServer._starttls, READY, last=True),
    b"AUTH": Verb(SmtpServer._auth, READY, limit=AUTH_LINE - 2),
    b"BDAT": Verb(SmtpServer._not_implemented, last=True),
    **dict.fromkeys((b"EXPN", b"ETRN", b"TURN", b"SEND", b"SOML", b"SAML"), _OTHER),
    **dict.fromkeys((b"GET", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"PRI"), _HTTP),
}

_ANSWERS: dict[type[Event], Callable[[SmtpServer, Any, Reply], None]] = {
    Hello: SmtpServer._answer_hello,
    StartTls: SmtpServer._answer_starttls,
    Auth: SmtpServer._answer_auth,
    AuthResponse: SmtpServer._answer_auth,
    Mail: SmtpServer._answer_mail,
    Rcpt: SmtpServer._answer_rcpt,
    Content: SmtpServer._answer_content,
    Reset: SmtpServer._answer_reset,
    Vrfy: SmtpServer._answer_vrfy,
}
