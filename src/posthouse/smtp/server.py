"""`SmtpServer`: one SMTP or LMTP connection, server side (RFC 5321, RFC 6409, RFC 2033).

It knows order and limits, moves content, and answers whatever needs no decision; what each command may say
is `verbs.py`, what is offered `options.py`. Decisions become events (`events.py`); who may send what to
whom, passwords and storage are the session's. What a peer sends never makes it raise. It closes after too
many errors, on lines or content beyond all measure, on HTTP, and on input where a client must wait
(RFC 2920 section 3.1), which is how other protocols' requests and injected commands arrive.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

from posthouse.smtp import replies
from posthouse.smtp.content import ChunkReader, DataReader
from posthouse.smtp.events import (
    Auth,
    AuthResponse,
    Burl,
    Content,
    ContentAborted,
    Event,
    Hello,
    Mail,
    Rcpt,
    Reset,
    StartTls,
    Vrfy,
    Xclient,
)
from posthouse.smtp.options import NOTHING, ServerOptions, offer
from posthouse.smtp.params import MailParams
from posthouse.smtp.replies import Reply
from posthouse.smtp.states import (
    AUTH,
    AUTH_LINE,
    CHUNKS,
    COMMANDS,
    CONTENT,
    MAIL,
    NEW,
    OPEN,
    RCPT,
    READY,
    REFUSED,
    TLS,
    TRANSACTION,
)
from posthouse.smtp.verbs import UNKNOWN, VERBS, Verb, auth_response
from posthouse.wire.buffer import LineTooLong, ReceiveBuffer

__all__ = ["ServerOptions", "SmtpServer"]


class SmtpServer:
    """Bytes and replies in, events and bytes out. See `events.py` for how each event is answered."""

    __slots__ = (
        "_accepted",
        "_buffer",
        "_content",
        "_errors",
        "_event",
        "_output",
        "_stray",
        "_torn",
        "authenticated_as",
        "certified",
        "closed",
        "day",
        "esmtp",
        "mail",
        "offer",
        "options",
        "recipients",
        "secure",
        "state",
    )

    def __init__(self, options: ServerOptions) -> None:
        self._buffer = ReceiveBuffer()
        self._output: list[bytes] = []
        self._event: Event | None = None  # handed out, not answered yet
        self._content: DataReader | ChunkReader | None = None
        self._errors = 0
        self._accepted = 0  # recipients of this transaction that were accepted
        self._stray: tuple[int, DataReader | ChunkReader | None] | None = None  # where a chunk out of place came
        self._torn = False  # within a line refused for a bare LF
        self.secure = options.secure
        self.authenticated_as = ""
        self.closed = False
        # What the session may set before it answers Hello
        self.certified = False  # the client showed a certificate in the handshake
        self.day = 0  # today, in days since 1970
        # For the verbs
        self.options = options
        self.state = NEW
        self.esmtp = False
        self.offer = NOTHING
        self.mail: MailParams | None = None  # of this transaction
        self.recipients = 0  # RCPT commands of this transaction

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
        while self._event is None and not self.closed:
            state = self.state
            if state == CONTENT:
                content = self._content
                event = self._read_chunk(content) if type(content) is ChunkReader else self._read_content()
            else:
                event = self._read_command() if state & COMMANDS else None
            # What was read may have ended content, or begun it: then there may be more to read in another way.
            if event is not None or (self.state == CONTENT) == (state == CONTENT):
                return event
        return None

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
        if self.state == NEW:
            self.state = OPEN if reply.accepted else REFUSED
            self._send(reply)

    def reply(self, reply: Reply) -> None:
        """Answer the last event."""
        event = self._event
        if self.closed:
            self._event = None
            return
        if event is None:
            raise RuntimeError("no event waits for a reply")
        reply.encode()  # what cannot be sent raises now, while the event still waits for another answer
        self._event = None
        _ANSWERS[type(event)](self, event, reply)

    def shut_out(self) -> None:
        """The client is not wanted any more: from now on it may QUIT only."""
        self.state = REFUSED

    def reply_each(self, answers: Sequence[Reply]) -> None:
        """Answer the last piece of content of LMTP: one reply for each recipient that was accepted, in order."""
        if not self.closed:
            *first, last = answers
            self._output += [reply.encode() for reply in first]
            self._accepted = 1
            self.reply(last)

    def proceed(self) -> None:
        """Answer a Content event that is not the last: go on."""
        if not self.closed and (type(self._event) is not Content or self._event.last):
            raise RuntimeError("no piece of content waits")
        self._event = None

    def fetched(self, size: int, last: bool) -> bool:
        """Answer Burl: so many octets were found, and follow by `fetched_data`. False: they are far too many, and the
        connection is over."""
        self.begin_chunk(size, last, None)
        return not self.closed

    def fetched_data(self, data: bytes) -> Content | ContentAborted | None:
        """Some of the octets that a Burl names: what becomes of them. Refused content is answered by `fetched_end`."""
        return self._content.read(data) if type(self._content) is ChunkReader else None

    def fetched_end(self) -> None:
        """The octets that a Burl names are complete, and not the last; or they were refused."""
        self._event = None
        if type(self._content) is ChunkReader and not self.closed:
            self._content.left = 0
            self._read_chunk(self._content)

    def challenge(self, data: bytes) -> None:
        """Answer Auth or AuthResponse: the exchange goes on."""
        self._event = None
        if not self.closed:
            self.state = AUTH
            self._output.append(b"334 %b\r\n" % b64encode(data))

    def authenticated(self, name: str) -> None:
        """The client is `name`. The event still needs its reply, normally AUTH_SUCCEEDED."""
        self.authenticated_as = name
        if self.esmtp:  # BURL is for those who are logged in; not every client says EHLO once more
            self.offer = offer(self.options, self.secure, bool(name), self.certified, self.day)

    def tls_started(self) -> None:
        """The handshake is done: all that was known is forgotten (RFC 3207 section 4.2).

        Bytes that came before it were dropped with the 220. What came since is from inside TLS (the client
        may send EHLO with the end of its handshake, before we are told of it) and is kept.
        """
        self.state = OPEN
        self.secure = True
        self.authenticated_as = ""
        self.esmtp = self._torn = False
        self.offer = NOTHING

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
            if self._errors >= self.options.max_errors:
                self.goodbye(replies.TOO_MANY_ERRORS)

    def _close(self) -> None:
        self.closed = True
        self._buffer.clear()
        self._event = self._content = None

    def _answer_hello(self, event: Hello, reply: Reply) -> None:
        if not reply.accepted:
            self._send(reply)
            return
        options = self.options
        self.state = READY
        self.esmtp = event.verb != "HELO"
        self.offer = offer(options, self.secure, bool(self.authenticated_as), self.certified, self.day)
        name = event.name if len(event.name) <= 255 else "you"
        self._send(replies.capabilities(options.hostname, name, self.offer.lines if self.esmtp else ()))

    def _answer_starttls(self, _event: StartTls, reply: Reply) -> None:
        if reply.accepted:
            # Whatever came after STARTTLS came without protection: it must never be executed.
            self._buffer.clear()
            self.state = TLS
        self._send(reply)

    def _answer_auth(self, _event: Auth | AuthResponse, reply: Reply) -> None:
        self.state = READY
        self._send(reply)

    def _answer_mail(self, event: Mail, reply: Reply) -> None:
        if reply.code < 400:
            self.state = MAIL
            self.mail = event.params
            self.recipients = self._accepted = 0
        self._send(reply)

    def _answer_rcpt(self, _event: Rcpt, reply: Reply) -> None:
        if reply.code < 400:
            self.state = RCPT
            self._accepted += 1
        self._send(reply)

    def _answer_content(self, event: Content, reply: Reply) -> None:
        if event.last:
            if reply.code < 400:
                self._errors = 0
            self._end_content(reply)
        elif not reply.accepted and self._content is not None:
            self._content.refuse(reply)

    def _answer_burl(self, _event: Burl, reply: Reply) -> None:
        """The end of a message; or the URL was refused, and with it the transaction (RFC 4468 section 3.2)."""
        if self.state == CONTENT and reply.code < 400:
            self._errors = 0
        self._end_content(reply)

    def _end_content(self, reply: Reply) -> None:
        """The transaction is over. RFC 2033 section 4.2: LMTP answers for each recipient."""
        self.state = READY
        self._content = None
        if self.options.lmtp:
            self._output += [reply.encode()] * (self._accepted - 1)
        self._send(reply)

    def _answer_reset(self, _event: Reset, reply: Reply) -> None:
        self.end_transaction()
        self._send(reply)

    def end_transaction(self) -> None:
        """What was begun is forgotten."""
        if self.state & TRANSACTION:
            self.state = READY
            self._content = None

    def _answer_vrfy(self, _event: Vrfy, reply: Reply) -> None:
        self._send(reply)

    def _answer_xclient(self, _event: Xclient, reply: Reply) -> None:
        if reply.accepted:
            self.state = OPEN
            self.esmtp = False
            self.offer = NOTHING
        self._send(reply)

    # Input

    def begin_data(self) -> None:
        """354 is on its way: what follows is content."""
        self.state = CONTENT
        self._content = DataReader(self.options.max_size)

    def begin_chunk(self, size: int, last: bool, refusal: Reply | None) -> None:
        """`size` octets follow; with a refusal they are swallowed, and nothing else changes."""
        reader = self._content
        if refusal is not None or type(reader) is not ChunkReader:
            binary = self.mail is not None and self.mail.body == "BINARYMIME"
            reader = ChunkReader(self.options.max_size, binary, refusal)
        reader.begin(size, last)
        if reader.hopeless:
            self._send(replies.STILL_TOO_BIG)
            return
        if refusal is not None:
            self._stray = (self.state, self._content)
        self.state = CONTENT
        self._content = reader

    def _read_chunk(self, reader: ChunkReader) -> Event | None:
        while not reader.ended:
            if reader.left and not self._buffer:
                return None
            event = reader.read(self._buffer.take(reader.left))
            if event is not None:
                if type(event) is Content:
                    self._event = event
                return event
        if self._stray is not None:
            (self.state, self._content), self._stray = self._stray, None
            self._send(reader.refusal or replies.BAD_SEQUENCE)
        elif reader.refusal is None:
            self.state = CHUNKS
            self._send(replies.chunk_taken(reader.total))
        elif reader.last:
            self._end_content(reader.refusal)
        else:
            self.state = READY
            self._content = None
            self._send(reader.refusal)
        return None

    def _read_content(self) -> Event | None:
        content = self._content
        if type(content) is not DataReader or not self._buffer:
            return None
        event, rest = content.read(self._buffer.take_all())
        if rest is not None:
            self._buffer.feed(rest)
            if content.refusal is not None:
                self._end_content(content.refusal)
        elif content.hopeless:
            self._send(replies.STILL_TOO_BIG)
        if type(event) is Content:
            self._event = event
        return event

    def _read_command(self) -> Event | None:
        while not self.closed:
            try:
                line = self._buffer.take_line(AUTH_LINE - 2)
            except LineTooLong:
                self._send(replies.AUTH_LINE_TOO_LONG if self.state == AUTH else replies.LINE_TOO_LONG)
                self.goodbye(replies.TOO_MANY_ERRORS)
                return None
            if line is None:
                if self._buffer:
                    self._look_at_unfinished()
                return None
            result = self._execute(line)
            if result is None or isinstance(result, Reply):
                if result is not None:
                    self._send(result)
                if self.state == CONTENT:
                    return None
                continue
            self._event = result
            return result
        return None

    def _execute(self, line: bytes) -> Event | Reply | None:
        """What a line asks for: an event, the reply that we give by ourselves, or nothing (answered)."""
        if self._torn or b"\n" in line:
            self._refuse_torn(line)
            return None
        if self.state == AUTH:
            return auth_response(self, line)
        name, _, args = line.partition(b" ")
        verb = VERBS.get(name) or VERBS.get(name.upper()) or UNKNOWN
        if verb.last and self._buffer and verb.extension not in self.offer.names:
            self.goodbye(replies.EARLY_INPUT)
            return None
        if not self.state & verb.allowed or len(line) > verb.limit:
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
        if self.state == AUTH:
            self.state = READY

    def _look_at_unfinished(self) -> None:
        """No CRLF in sight. Tell clients that will never send one: bare LF, or TLS on the wrong port."""
        buffer = self._buffer
        while not self.closed and (at := buffer.find(b"\n")) >= 0:
            buffer.take(at + 1)
            self._torn = True
            self._send(replies.BARE_LINE_END)
        # A ClientHello: ContentType handshake, ProtocolVersion 3.x (RFC 8446 section 5.1)
        if self.state == OPEN and not self.closed and buffer.peek(2) == b"\x16\x03":
            self._send(replies.NOT_TLS_YET)

    def _out_of_place(self, verb: Verb, line: bytes) -> Reply:
        if self.state == REFUSED:
            return replies.SERVICE_REFUSED
        if len(line) > verb.limit:
            return replies.LINE_TOO_LONG
        if self.state == OPEN:
            return replies.SAY_HELLO
        return verb.misplaced if self.state == READY else replies.NESTED_MAIL


_ANSWERS: dict[type[Event], Callable[[SmtpServer, Any, Reply], None]] = {
    Hello: SmtpServer._answer_hello,
    StartTls: SmtpServer._answer_starttls,
    Auth: SmtpServer._answer_auth,
    AuthResponse: SmtpServer._answer_auth,
    Mail: SmtpServer._answer_mail,
    Rcpt: SmtpServer._answer_rcpt,
    Content: SmtpServer._answer_content,
    Burl: SmtpServer._answer_burl,
    Reset: SmtpServer._answer_reset,
    Vrfy: SmtpServer._answer_vrfy,
    Xclient: SmtpServer._answer_xclient,
}
