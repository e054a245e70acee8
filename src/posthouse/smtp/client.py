"""`SmtpClient`: one SMTP connection, client side: relaying, submission, `posthouse send` (RFC 5321).

It greets (EHLO, HELO where that fails), upgrades to TLS, authenticates, and sends any number of
messages, each to many recipients with a result for each; pipelined where that is offered (RFC 2920).
Routes, retries, TLS policy and timers are for `queue`: `patience` says how long to wait now.

A driver is a loop: ask `next_event()`, send `take_output()`; if there was no event, read and `receive()`,
or call `lost()` when the connection is gone. After each event the driver says what comes next by one
of the methods; the event tells which. What the server sends never makes the engine raise. A transaction
that was begun always ends with `Sent`, whatever breaks; `closed` then tells whether another can follow.
"""

from base64 import b64encode
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from posthouse.smtp.client_events import (
    Authenticated,
    AuthRefused,
    Closed,
    Event,
    Failed,
    NeedContent,
    Ready,
    Result,
    Sent,
    StartTls,
    TlsRefused,
)
from posthouse.smtp.client_transaction import Command, Transaction
from posthouse.smtp.grammar import from_base64
from posthouse.smtp.params import NO_MAIL_PARAMS, MailParams, RcptParams
from posthouse.smtp.replies import Reply
from posthouse.smtp.reply_reader import BadReply, ReplyReader, extensions_of
from posthouse.wire import sasl
from posthouse.wire.buffer import ReceiveBuffer
from posthouse.wire.dots import DotEncoder

__all__ = [
    "TIMEOUTS",
    "AuthRefused",
    "Authenticated",
    "Closed",
    "Event",
    "Failed",
    "NeedContent",
    "Ready",
    "Result",
    "Sent",
    "SmtpClient",
    "StartTls",
    "TlsRefused",
]

# Seconds to wait for the reply to each command (RFC 5321 section 4.5.3.2); "content" is for each piece
# to be taken, "end" for the reply after it. What the RFC leaves open is ours.
TIMEOUTS: Mapping[str, float] = {
    "greeting": 300.0,
    "EHLO": 300.0,
    "HELO": 300.0,
    "STARTTLS": 120.0,
    "AUTH": 120.0,
    "MAIL": 300.0,
    "RCPT": 300.0,
    "DATA": 120.0,
    "BDAT": 600.0,
    "content": 180.0,
    "end": 600.0,
    "RSET": 120.0,
    "QUIT": 10.0,
}

MAX_TRANSCRIPT = 256 * 1024  # characters; then it says so and stops

# Replies that no server gave: what happened on our side of the wire. See `Result.remote`.
LOST = Reply(451, "4.4.2", "The connection was lost")
OUT_OF_STEP = Reply(451, "4.5.0", "The server sent something that is not SMTP")
NO_MECHANISM = Reply(504, "5.7.4", "The server offers no authentication mechanism that we know")
NOT_PROVED = Reply(535, "5.7.8", "The server did not prove that it knows the password")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Not sending the password without TLS")
TLS_NOT_OFFERED = Reply(502, "5.7.4", "The server does not offer STARTTLS")


class SmtpClient:
    """Bytes and wishes in, events and bytes out. `hostname` is what we say in EHLO."""

    def __init__(
        self,
        hostname: str,
        *,
        secure: bool = False,
        pipelining: bool = True,
        timeouts: Mapping[str, float] = TIMEOUTS,
        lmtp: bool = False,
    ) -> None:
        self._hostname = hostname
        self._lmtp = lmtp  # RFC 2033: LHLO, and a reply for each recipient after the content
        self._pipelining = pipelining
        self._timeouts = timeouts
        self._buffer = ReceiveBuffer()
        self._reader = ReplyReader()
        self._output: list[bytes] = []
        self._events: deque[Event] = deque()
        self._expected: deque[Command] = deque([Command("greeting", "")])  # whose replies are to come
        self._todo: deque[Command] = deque()  # not sent yet
        self._transaction: Transaction | None = None
        self._encoder: DotEncoder | None = None  # content is under way
        self._octets = 0
        self._chunks = False  # content goes by BDAT
        self._binary = False
        self._mail_open = False  # the server may hold a transaction that was not finished
        self._mechanism: sasl.ClientMechanism | None = None
        self.secure = secure
        self.closed = False
        self.greeting: Reply | None = None
        self.replies = 0  # so many have come: `patience` is for each, not for each few bytes of one
        self.extensions: dict[str, str] = {}
        self.transcript: list[str] = []  # "C: ", "S: ", "! " and text; no content, no secrets
        self._noted = 0

    # For the stream

    def receive(self, data: bytes) -> None:
        """Add bytes from the server."""
        if not self.closed:
            self._buffer.feed(data)

    def lost(self, why: str = "") -> None:
        """The connection is gone or timed out; `why` is for people."""
        if not self.closed:
            self._note("!", why or LOST.text)
            self._fail(LOST._replace(text=why) if why else LOST, remote=False)

    def next_event(self) -> Event | None:
        """The next event, or None: more bytes are needed, or the driver has not said what comes next."""
        while not self._events and not self.closed:
            try:
                reply = self._reader.next(self._buffer)
            except BadReply as error:
                self._note("!", str(error))
                self._fail(OUT_OF_STEP, remote=False)
                break
            if reply is None:
                return None
            self.replies += 1
            for line in self._reader.lines:
                self._note("S:", line)
            self._take(reply)
        return self._events.popleft() if self._events else None

    def take_output(self) -> bytes:
        """The bytes to send since the last call."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    @property
    def buffered(self) -> int:
        """Bytes received and not used yet."""
        return len(self._buffer)

    @property
    def patience(self) -> float:
        """How many seconds to wait for the next reply, or for the server to take a piece of content."""
        return self._timeouts.get(self._phase, 300.0)

    @property
    def _phase(self) -> str:
        if self._encoder is not None:
            return "content"
        return self._expected[0].name if self._expected else ""

    def take_transcript(self) -> list[str]:
        """The transcript since the last call: one message's, where several share the connection."""
        lines, self.transcript, self._noted = self.transcript, [], 0
        return lines

    # For the driver

    def offers(self, extension: str) -> bool:
        """Whether the server announced the extension."""
        return extension in self.extensions

    def start_tls(self) -> None:
        """Ask for TLS. Event: StartTls or TlsRefused."""
        self._idle()
        if self.offers("STARTTLS"):
            self._command(Command("STARTTLS", "STARTTLS"))
        else:
            self._events.append(TlsRefused(TLS_NOT_OFFERED))

    def tls_started(self, what: str = "") -> None:
        """The handshake is done. All that was known is forgotten (RFC 3207 section 4.2). Event: Ready."""
        self.secure = True
        self.extensions = {}
        self._note("!", f"TLS started {what}".rstrip())
        self._hello()

    def authenticate(
        self,
        name: str,
        password: str = "",
        *,
        token: str = "",
        nonce: str = "",
        bindings: Mapping[str, bytes] = MappingProxyType({}),
        plaintext: bool = False,
    ) -> None:
        """Log in with the best mechanism that both sides know. Event: Authenticated or AuthRefused.

        `token` is a bearer token, instead of a password. `nonce` is random text that was never used before: without
        it SCRAM is not tried. `bindings` are those of the TLS connection; `plaintext` allows showing the password
        without TLS.
        """
        self._idle()
        self._reader.hide(password or token)
        offered = self.extensions.get("AUTH", "").upper().split()
        known = [one for one in offered if nonce or not one.startswith("SCRAM-")]
        choose = partial(
            sasl.choose, known, bindings=bindings, password=bool(password and not token), token=bool(token)
        )
        best = choose(secure=self.secure, plaintext=plaintext)
        if best is None:
            hidden = choose(secure=True)
            self._events.append(AuthRefused(AUTH_NEEDS_TLS if hidden else NO_MECHANISM, False))
            return
        self._mechanism = sasl.client(
            best, name, password, token=token, nonce=nonce, bindings=bindings, offered=offered
        )
        if self._mechanism is None:  # a name or password that SCRAM has no form for
            shown = ["PLAIN", "LOGIN"] if self.secure or plaintext else []
            best = next((one for one in shown if one in offered), None)
            self._mechanism = sasl.client(best, name, password) if best is not None else None
        if self._mechanism is None or best is None:
            self._events.append(AuthRefused(NO_MECHANISM, False))
            return
        initial = self._mechanism.initial
        # RFC 4954 section 4: an initial response must fit into the line
        if initial is None or len(initial) > 9000:
            self._command(Command("AUTH", f"AUTH {best}"))
        else:
            self._mechanism.initial = None
            self._secret(f"AUTH {best} ", b64encode(initial))

    def send(
        self,
        sender: str,
        recipients: Sequence[str],
        *,
        size: int | None = None,
        eight_bit: bool = False,
        smtputf8: bool = False,
        mail: MailParams = NO_MAIL_PARAMS,
        rcpt: Sequence[RcptParams] = (),
        chunks: bool = False,
    ) -> None:
        """Send a message to `recipients`. `smtputf8`: its header needs it; addresses speak for themselves. `mail`
        and `rcpt` (one for each recipient) are what else is asked; `chunks`: by BDAT where that is offered.

        Events: NeedContent and Sent, or Sent alone. Converting 8-bit content for a server without 8BITMIME is for
        the caller, here it goes as it is (`queue/conversion.py`); binary content and what must not be lost on
        the way (REQUIRETLS, DELIVERBY) never goes to a server that does not offer it.
        """
        self._idle()
        self._transaction = transaction = Transaction(tuple(recipients))
        commands = transaction.begin(
            self.extensions, sender, size=size, eight_bit=eight_bit, smtputf8=smtputf8, mail=mail, rcpt=rcpt
        )
        if not commands:
            return self._finish()
        binary = mail.body == "BINARYMIME"
        if self._mail_open:
            self._mail_open = False
            self._todo.append(Command("RSET", "RSET"))
        self._todo.extend(commands)
        self._chunks = binary or (chunks and self.offers("CHUNKING"))
        self._binary = binary
        if not self._chunks:
            self._todo.append(Command("DATA", "DATA"))
        return self._proceed()

    def content(self, chunk: bytes) -> None:
        """A piece of the message: dots are added, a bare CR or LF becomes CRLF (in binary content nothing changes)."""
        if self._encoder is not None:
            encoded = chunk if self._binary else self._encoder.encode(chunk)
            self._octets += len(encoded)
            if self._chunks and encoded:
                self._output.append(b"BDAT %d\r\n" % len(encoded))
                self._expected.append(Command("BDAT", ""))
            self._output.append(encoded)

    def end_content(self) -> None:
        """The message is complete. Event: Sent."""
        if self._encoder is not None:
            end = b"" if self._binary else self._encoder.finish()
            self._octets += len(end)
            if self._chunks:
                self._output.append(b"BDAT %d LAST\r\n" % len(end))
            self._output.append(end)
            self._encoder = None
            self._note("C:", f"({self._octets} octets of content{', in chunks' * self._chunks})")
            accepted = self._transaction.accepted if self._lmtp and self._transaction is not None else (-1,)
            self._expected.extend([Command("end", "", recipient) for recipient in accepted])

    def abort(self, why: str = "The message could not be read to its end") -> None:
        """Give up at once. The server gets no end of data, so it delivers nothing. Then close the stream."""
        if not self.closed:
            self._note("!", why)
            self._output.clear()
            self._fail(Reply(451, "4.3.0", why), remote=False)

    def quit(self) -> None:
        """Say goodbye. Event: Closed; who is in a hurry just closes the stream."""
        if not self.closed:
            self._command(Command("QUIT", "QUIT"))

    # Sending

    def _idle(self) -> None:
        if self.closed or self._expected or self._transaction is not None or self._events:
            raise RuntimeError("the connection is closed, or something else is under way")

    def _command(self, command: Command) -> None:
        self._output.append(command.line.encode() + b"\r\n")
        self._note("C:", command.line)
        self._expected.append(command)

    def _secret(self, prefix: str, secret: bytes) -> None:
        self._reader.hide(secret.decode())
        self._output.append(prefix.encode() + (secret or b"=" * bool(prefix)) + b"\r\n")
        self._note("C:", prefix + "(secret)")
        self._expected.append(Command("AUTH", ""))

    def _proceed(self) -> None:
        """Send of the transaction what may be sent now: all of it, or one command when the last is answered."""
        pipelining = self._pipelining and self.offers("PIPELINING")
        while self._todo and (pipelining or not self._expected):
            self._command(self._todo.popleft())

    def _note(self, who: str, text: str) -> None:
        if self._noted < MAX_TRANSCRIPT:
            self.transcript.append(f"{who} {text}")
            self._noted += len(text) + 80  # and what a short string costs in memory
            if self._noted >= MAX_TRANSCRIPT:
                self.transcript.append("! more lines were left out")

    # Replies

    def _take(self, reply: Reply) -> None:
        if (self._encoder is not None and not self._chunks) or not self._expected:
            # A reply out of turn, or in the midst of the content: only a goodbye makes sense there.
            self._fail(reply if reply.code >= 400 else OUT_OF_STEP, remote=reply.code >= 400)
            return
        command = self._expected.popleft()
        if reply.code == 421:
            self._fail(reply, remote=True, command=command.name)
            return
        _TAKERS[command.name](self, reply, command)

    def _take_greeting(self, reply: Reply, command: Command) -> None:
        self.greeting = reply
        if reply.code // 100 == 2:
            self._hello()
        else:
            self._fail(reply, remote=True, command=command.name)

    def _hello(self) -> None:
        self._command(Command("EHLO", f"{'LHLO' if self._lmtp else 'EHLO'} {self._hostname}"))

    def _take_hello(self, reply: Reply, command: Command) -> None:
        if reply.code // 100 == 2:
            self.extensions = extensions_of(reply.text) if command.name == "EHLO" else {}
            self._events.append(Ready(self.extensions))
        elif command.name == "EHLO" and reply.code >= 500 and not self._lmtp:
            self._command(Command("HELO", f"HELO {self._hostname}"))
        else:
            self._fail(reply, remote=True, command=command.name)

    def _take_starttls(self, reply: Reply, command: Command) -> None:
        if reply.code != 220:
            self._events.append(TlsRefused(reply))
        elif self._buffer:
            # Bytes injected before the handshake would be taken for protected ones (CVE-2011-0411 and kin).
            self._note("!", "the server sent more before the TLS handshake")
            self._fail(OUT_OF_STEP, remote=False, command=command.name)
        else:
            self._events.append(StartTls())

    def _take_auth(self, reply: Reply, _command: Command) -> None:
        if reply.code == 334 and self._mechanism is not None:
            challenge = from_base64(reply.text.strip().encode())
            response = self._mechanism.step(challenge) if challenge is not None else None
            if response is None:
                self._mechanism = None
                self._command(Command("AUTH", "*"))
            else:
                self._secret("", b64encode(response))
            return
        mechanism, self._mechanism = self._mechanism, None
        if reply.code // 100 == 2 and mechanism is not None and not mechanism.finished:
            # A success without the proof that was due: whoever that is does not know the password.
            self._note("!", "the server did not prove that it knows the password")
            self._fail(NOT_PROVED, remote=False, command="AUTH")
        elif reply.code // 100 == 2:
            self._events.append(Authenticated(reply))
        else:
            self._events.append(AuthRefused(reply if reply.code >= 400 else OUT_OF_STEP, reply.code >= 400))

    def _take_rset(self, _reply: Reply, _command: Command) -> None:
        self._proceed()

    def _take_mail(self, reply: Reply, command: Command) -> None:
        transaction = self._transaction
        assert transaction is not None
        if reply.code // 100 != 2:
            transaction.refusal = _refusal(reply)
            transaction.decide_rest(transaction.refusal, command.name, reply.code >= 400)
            self._todo.clear()
        else:
            self._mail_open = True
        self._go_on()

    def _take_rcpt(self, reply: Reply, command: Command) -> None:
        transaction = self._transaction
        assert transaction is not None
        if reply.code // 100 == 2:
            transaction.accepted.append(command.recipient)
        else:
            transaction.decide(command.recipient, _refusal(reply), command.name, reply.code >= 400)
        if self._todo and self._todo[0].name == "DATA" and not transaction.accepted:
            self._todo.clear()
        self._go_on()

    def _take_data(self, reply: Reply, command: Command) -> None:
        transaction = self._transaction
        assert transaction is not None
        if reply.code == 354:
            if transaction.refusal is None and transaction.accepted:
                self._need_content()
            else:
                # Pipelined, and nobody is left to get it (RFC 2920 section 3.1): an empty message, which
                # a server without recipients refuses.
                self._output.append(b".\r\n")
                self._note("C:", ".")
                self._expected.append(Command("end", ""))
            return
        transaction.decide_rest(_refusal(reply), command.name, reply.code >= 400)
        self._finish()

    def _need_content(self) -> None:
        self._encoder = DotEncoder(dots=not self._chunks)
        self._octets = 0
        self._events.append(NeedContent())

    def _take_bdat(self, reply: Reply, _command: Command) -> None:
        # RFC 3030 section 2: after a refusal the server refuses what follows, too; the first says why.
        transaction = self._transaction
        assert transaction is not None
        if reply.code // 100 != 2 and transaction.refusal is None:
            transaction.refusal = _refusal(reply)
            transaction.decide_rest(transaction.refusal, "BDAT", reply.code >= 400)

    def _take_end(self, reply: Reply, command: Command) -> None:
        transaction = self._transaction
        assert transaction is not None
        self._mail_open = False
        result = reply if reply.code // 100 == 2 else _refusal(reply)
        if command.recipient >= 0:
            transaction.decide(command.recipient, result, command.name, reply.code >= 400 or result is reply)
        else:
            transaction.decide_rest(result, command.name, reply.code >= 400 or result is reply)
        if not self._expected:
            self._finish()

    def _take_quit(self, _reply: Reply, _command: Command) -> None:
        self.closed = True
        self._events.append(Closed())

    def _go_on(self) -> None:
        self._proceed()
        if self._expected:
            return
        transaction = self._transaction
        if self._chunks and transaction is not None and transaction.accepted and transaction.refusal is None:
            self._need_content()
        else:
            self._finish()

    def _finish(self) -> None:
        transaction, self._transaction = self._transaction, None
        assert transaction is not None
        self._events.append(Sent(tuple(result for result in transaction.results if result is not None)))

    def _fail(self, reply: Reply, *, remote: bool, command: str = "") -> None:
        command = command or (self._phase if remote else "")
        quitting = any(expected.name == "QUIT" for expected in self._expected) or command == "QUIT"
        self.closed = True
        self._expected.clear()
        self._todo.clear()
        self._buffer.clear()
        self._encoder = self._mechanism = None
        if self._transaction is not None:
            self._transaction.decide_rest(reply, command, remote)
            self._finish()
        else:
            self._events.append(Closed() if quitting else Failed(reply, command, remote))


_TAKERS = {
    "greeting": SmtpClient._take_greeting,
    "EHLO": SmtpClient._take_hello,
    "HELO": SmtpClient._take_hello,
    "STARTTLS": SmtpClient._take_starttls,
    "AUTH": SmtpClient._take_auth,
    "RSET": SmtpClient._take_rset,
    "MAIL": SmtpClient._take_mail,
    "RCPT": SmtpClient._take_rcpt,
    "DATA": SmtpClient._take_data,
    "BDAT": SmtpClient._take_bdat,
    "end": SmtpClient._take_end,
    "QUIT": SmtpClient._take_quit,
}


def _refusal(reply: Reply) -> Reply:
    """A reply that is neither success nor refusal (3yz out of place) must not count as either."""
    return reply if reply.code >= 400 else OUT_OF_STEP
