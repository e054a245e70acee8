"""One IMAP connection, server side: bytes and answers in, events and bytes out (RFC 9051, RFC 3501).

The engine knows the grammar and the states; what exists and what happens is the session's. Syntax errors,
commands in the wrong state, CAPABILITY, ENABLE, LOGOUT, the dance around literals and SASL lines are answered
here. Everything else is an event, answered by `ok`, `no`, `bad` (which end the command), `proceed` or
`challenge` (which ask for more); `untagged` and `raw` go before. One command is under way at a time:
pipelined ones wait in the buffer.

Nothing a peer sends raises. Limits: `imap/options.py`. Too many errors end the connection with BYE.
"""

import binascii
import zlib
from typing import Any

from posthouse.imap import capabilities, replies
from posthouse.imap.commands import any as common
from posthouse.imap.commands import append, auth, mailboxes, search
from posthouse.imap.commands.table import BY_NUMBER, VERBS, State, misplaced, not_yet
from posthouse.imap.deflate import Deflate
from posthouse.imap.framer import Announced, Command, Discarded, Found, Framer, Piece
from posthouse.imap.options import UNASKED, Options
from posthouse.imap.replies import Status
from posthouse.imap.tokens import BadSyntax, Cursor
from posthouse.imap.tokens import tag as match_tag
from posthouse.imap.view import Manner
from posthouse.wire import sasl

MAX_TAG = 200
MAX_LITERALS = 500  # in one command
# What is answered here, or passed over, before others have a turn: lines, and inflated pieces.
LINES_AT_ONCE, PIECES_AT_ONCE = 100, 16
_READY, _ANSWER, _APPEND, _IDLE, _SASL = range(5)


class ImapServer:
    """The engine of one connection."""

    __slots__ = (
        "_append",
        "_auth_failures",
        "_deferred",
        "_deflate",
        "_errors",
        "_framer",
        "_goodbye",
        "_held",
        "_new_deferred",
        "_output",
        "_ready",
        "_refusal",
        "_resume",
        "_streaming",
        "_tag",
        "_upload",
        "_waiting",
        "certified",
        "closed",
        "condstore",
        "options",
        "qresync",
        "rev2",
        "secure",
        "state",
        "uid_only",
        "utf8_accept",
    )

    def __init__(self, options: Options, secure: bool = False) -> None:
        self.options = options
        self.secure = secure
        self.certified = False  # the client showed a certificate: the session says so
        self.state = State.NOT_AUTHENTICATED
        self.rev2 = False  # ENABLE IMAP4rev2 was said
        self.condstore = False  # the client wants mod-sequences (RFC 7162 section 3.1)
        self.qresync = False  # and UIDs of what went (section 3.2)
        self.utf8_accept = False  # UTF8=ACCEPT (RFC 6855)
        self.uid_only = False  # and no sequence numbers (RFC 9586)
        self.closed = False
        self._framer = Framer(options.max_line)
        self._output: list[bytes] = []
        self._ready = b""  # output from before it was compressed
        self._deflate: Deflate | None = None
        self._tag = b""
        self._waiting = _READY  # for what: a command, an answer to the event, DONE, a SASL response
        self._upload: append.Upload | None = None  # the APPEND or REPLACE under way
        self._append: Announced | None = None  # the message literal whose leave to come is asked for
        self._streaming = False  # its bytes are being handed out
        self._refusal: Status | None = None  # what to say once a refused literal has gone by
        self._errors = 0
        self._auth_failures = 0
        self._deferred = False  # commands wait for their answers: see `later`
        self._new_deferred = False  # and the session was not told since
        self._held: Found | None = None  # what comes after them
        self._resume = _READY  # what is waited for once they are answered
        self._goodbye: Status | None = None  # and what is said then, for good

    # Bytes

    @property
    def buffered(self) -> int:
        """Bytes held and not yet handed out."""
        return self._framer.buffered + (self._deflate.held if self._deflate is not None else 0)

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self.closed:
            return
        if self._deflate is not None:
            self._deflate.feed(data)
        else:
            self._framer.feed(data)

    def take_output(self) -> bytes:
        """The bytes to send since the last call."""
        if not self._output:
            ready, self._ready = self._ready, b""
            return ready
        output = b"".join(self._output) if len(self._output) > 1 else self._output[0]
        self._output = []
        if self._deflate is not None:
            output = self._deflate.compress(output)
        if self._ready:
            output, self._ready = self._ready + output, b""
        return output

    # Events

    def next_event(self) -> Any | None:
        """The next event, or None: more bytes, or the answer to the last one, come first."""
        for _ in range(PIECES_AT_ONCE):
            event = self._next_event()
            if event is not None or self._deflate is None or self.closed or self._waiting == _ANSWER:
                return event
            try:
                inflated = self._deflate.take()
            except zlib.error:
                self.bye(replies.bye("What you send cannot be decompressed"))
                return None
            if not inflated:
                return None
            self._framer.feed(inflated)
        return common.Turn()

    def _next_event(self) -> Any | None:
        for _ in range(LINES_AT_ONCE):
            if self._waiting == _ANSWER or self.closed:
                return None
            if self._waiting == _IDLE or self._waiting == _SASL:
                line = self._framer.next_line()
                event = None if line is None else self._idle(line) if self._waiting == _IDLE else self._sasl(line)
                if line is None or event is not None:
                    return event
                continue
            found = None if self._goodbye is not None else self._held or self._framer.next()
            self._held = None
            if self._deferred and (self._goodbye is not None or (found is not None and not self._is_append(found))):
                self._held, self._deferred, self._new_deferred = found, False, False
                self._resume, self._waiting = self._waiting, _ANSWER
                return common.Flush()
            if found is None:
                begin, self._new_deferred = self._new_deferred, False
                return common.Flush(whole=False) if begin else None
            if isinstance(found, Command):
                event = self._append_end(found) if self._waiting == _APPEND else self._command(found)
            elif isinstance(found, Announced):
                event = self._announced(found)
            elif isinstance(found, Piece):
                self._waiting = _ANSWER
                event = append.AppendData(found.data, found.last)
            else:
                event = self._discarded(found)
            if event is not None:
                return event
        return common.Turn()

    def _is_append(self, found: Found) -> bool:
        """Does this belong to an APPEND whose client does not wait for anything?"""
        if isinstance(found, Announced):
            return not found.waits and (self._upload is not None or append.begun(found.text) is not None)
        return isinstance(found, Piece) or (isinstance(found, Command) and self._waiting == _APPEND)

    def _command(self, command: Command) -> Any | None:
        text = command.text
        if not text:
            return None  # an empty line: some clients send one after a literal
        found = match_tag(text)
        if found is None or found.end() > MAX_TAG or text[found.end() : found.end() + 1] != b" ":
            self.untagged(replies.bad("A command begins with a tag and a space").encode())
            self._count_error()
            return None
        self._tag = found[0]
        at = found.end() + 1
        end = text.find(b" ", at)
        name = text[at : end if end >= 0 else len(text)].upper()
        if name == b"UID" and end >= 0:
            at = end + 1
            end = text.find(b" ", at)
            name = b"UID " + text[at : end if end >= 0 else len(text)].upper()
        verb = VERBS.get(name)
        if verb is None or (name == b"UNAUTHENTICATE" and not self.options.unauthenticate):
            self._fail(replies.bad("No such command"))
            return None
        if self.state not in verb.allowed:
            self._fail(misplaced(self.state, verb.allowed))
            return None
        cursor = Cursor(text, command.literals, self.utf8, self.options.gmail)
        cursor.at = end if end >= 0 else len(text)
        try:
            event = verb.parse(cursor)
        except BadSyntax as error:
            self._fail(replies.bad(f"{name.decode()}: {error}"))
            return None
        problem = not_yet(name, event, self.state, self.uid_only, self.qresync)
        if problem is not None:
            self._fail(problem)
            return None
        return self._event(event)

    def _event(self, event: Any) -> Any | None:
        """Answer what needs no session; hand on the rest."""
        if isinstance(event, common.Capability):
            self.untagged(b"CAPABILITY " + self._capabilities())
            self.ok("That is all")
            return None
        if isinstance(event, common.Logout):
            self.untagged(replies.GOODBYE.encode())
            self.ok("LOGOUT completed")
            self.state, self.closed = State.LOGOUT, True
            return None
        if isinstance(event, common.Enable):
            enabled = capabilities.enable(self, event.names)
            self.untagged(b" ".join([b"ENABLED", *enabled]))
            if self.state is not State.SELECTED:
                self.ok("ENABLE completed")
                return None
        elif getattr(event, "condstore", False):
            self.condstore = True
        if isinstance(event, common.Compress):
            self._compress(event.mechanism)
            return None
        if isinstance(event, search.BadCharset):
            self.no(replies.BAD_CHARSET)
            return None
        if isinstance(event, auth.StartTls):
            if not self._may_start_tls:
                self._fail(replies.bad("TLS is here already" if self.secure else "TLS is not offered"))
                return None
            if self._framer.buffered:
                # RFC 3207 section 6 tells the attack: what was sent before the handshake must never be obeyed.
                self._fail(replies.bad("Nothing may follow STARTTLS before the handshake"))
                self._framer.forget()
                return None
        elif isinstance(event, (auth.Login, auth.Authenticate)):
            if isinstance(event, auth.Login) and not self._shows_passwords:
                self.no(replies.NEEDS_TLS)
                return None
            if isinstance(event, auth.Authenticate) and event.mechanism not in self.mechanisms:
                hidden = not self.secure and event.mechanism in self.options.mechanisms
                self.no(replies.NEEDS_TLS if hidden else replies.NO_MECHANISM)
                return None
        self._waiting = _ANSWER
        return event

    def _compress(self, mechanism: bytes) -> None:
        """RFC 4978 section 3: the answer is the last thing that is said plainly, and what came after the command is
        compressed already."""
        if mechanism != b"DEFLATE":
            self._fail(replies.bad("DEFLATE is the only way to compress"))
        elif self._deflate is not None:
            self._complete(replies.COMPRESSED)
        else:
            self.ok("DEFLATE begins")
            self._ready = self.take_output()
            self._deflate = Deflate(self._framer.take_rest())

    @property
    def utf8(self) -> bool:
        """Names of mailboxes are UTF-8, as are quoted strings (RFC 9051 section 5.1, RFC 6855 section 3)."""
        return self.rev2 or self.utf8_accept

    @property
    def manner(self) -> Manner:
        """How the client wants to be told of messages."""
        return Manner(not self.rev2, self.condstore, self.qresync, self.uid_only)

    # Literals

    def _announced(self, literal: Announced) -> Any | None:
        """A literal is about to come: keep it with its command, stream it, or refuse it."""
        message = self._message(literal)
        if not self.options.literal_plus and not literal.waits and literal.size > UNASKED:
            message = replies.UNASKED
        if isinstance(message, Status):
            return self._refuse(literal, message)
        if message is not None:
            self._append, self._waiting = literal, _ANSWER
            return message
        inside = self.state is not State.NOT_AUTHENTICATED
        most = self.options.max_literal if inside else self.options.max_literal_before_login
        if literal.size + sum(map(len, literal.literals)) > most or len(literal.literals) >= MAX_LITERALS:
            return self._refuse(literal, replies.bad("The literals of this command are too large", b"TOOBIG"))
        self._framer.collect()
        if literal.waits:
            self._output.append(b"+ Go ahead\r\n")
        return None

    def _message(self, literal: Announced) -> append.Append | Status | None:
        """The piece of a message that this literal is, what is wrong with it, or None: it is some other literal."""
        if self._upload is None:
            begun = append.begun(literal.text)
            if begun is None:
                return None
            self._tag = begun.tag[:MAX_TAG]
            if self.state not in VERBS[begun.verb].allowed:
                return misplaced(self.state, VERBS[begun.verb].allowed)
            if self.uid_only and begun.verb in BY_NUMBER:
                return replies.UID_REQUIRED
            self._upload = begun.upload
        upload = self._upload
        try:
            steps = upload.advance(literal.text, literal.literals, self.utf8)
        except BadSyntax as error:
            return append.refusal(error, upload.target, self.options.max_messages > 0)
        if steps is None:
            return None
        upload.size += literal.size
        return (
            replies.TOO_BIG
            if upload.size > self.options.max_message
            else append.Append(upload.target, steps, literal.size, literal.binary, literal.waits)
        )

    def _refuse(self, literal: Announced, status: Status) -> Any | None:
        """Answer at once if the client waits for leave to send; else when all of it has gone by. The event says that
        what was handed out of the command is to be forgotten."""
        if literal.waits:
            aborted = self._streaming
            self._framer.drop()
            found = match_tag(literal.text)
            self._tag = found[0][:MAX_TAG] if found else b"*"
            self._complete(status)
            return append.AppendAborted() if aborted else None
        if literal.size > self.options.max_skipped or self.state is State.NOT_AUTHENTICATED:
            self.bye(replies.bye("That is more than this server takes", b"TOOBIG"))
        else:
            self._framer.skip()
            self._refusal = status
        return None

    def _discarded(self, discarded: Discarded) -> Any | None:
        found = match_tag(discarded.text)
        whole = found is not None and discarded.text[found.end() : found.end() + 1] == b" "
        self._tag = found[0][:MAX_TAG] if found is not None and whole else b"*"
        status, self._refusal = self._refusal, None
        aborted, self._waiting = self._streaming, _READY
        if discarded.overlong or status is None:
            status = replies.bad("The command is too long", b"TOOBIG")
        self._complete(status)
        return append.AppendAborted() if aborted else None

    def _append_end(self, command: Command) -> Any:
        """The line went on after the last literal, and ended."""
        assert self._upload is not None
        target = self._upload.target
        try:
            steps = self._upload.advance(command.text, command.literals, self.utf8, ended=True)
        except BadSyntax as error:
            self._fail(append.refusal(error, target, self.options.max_messages > 0))
            return append.AppendAborted()
        self._waiting, self._streaming = _ANSWER, False
        return append.AppendEnd(target, steps or ())

    # Lines that are no commands

    def _idle(self, line: bytes | Discarded) -> Any | None:
        """DONE, or what the client says instead of it: either ends IDLE."""
        if isinstance(line, bytes) and line.strip().upper() == b"DONE":
            self._waiting = _ANSWER
            return mailboxes.Done()
        self._waiting = _ANSWER
        self._errors += 1
        self._refusal = replies.bad("IDLE is ended by DONE")
        return mailboxes.Done()

    def _sasl(self, line: bytes | Discarded) -> Any | None:
        self._waiting = _READY
        if line == b"*":
            self._complete(replies.CANCELLED)
            return None
        data = None
        if isinstance(line, bytes) and len(line) <= auth.MAX_RESPONSE:
            data = auth.decode(line)
        if data is None:
            self._fail(replies.bad("That is not base64"))
            return None
        self._waiting = _ANSWER
        return auth.AuthResponse(data)

    # Answers

    @property
    def tag(self) -> bytes:
        """The tag of the command under way."""
        return self._tag

    @property
    def answering(self) -> bool:
        """True while a command waits for its answer."""
        return self._waiting == _ANSWER

    @property
    def idling(self) -> bool:
        """True between IDLE and DONE: untagged responses may be sent at any time."""
        return self._waiting == _IDLE

    def greet(self, hostname: str) -> None:
        """The greeting."""
        self._output.append(
            b"* OK [CAPABILITY %b] %b Posthouse is ready\r\n" % (self._capabilities(), hostname.encode())
        )

    def untagged(self, line: bytes) -> None:
        """An untagged response; `line` without "* " and CRLF."""
        self._output.append(b"* %b\r\n" % line)

    def raw(self, data: bytes) -> None:
        """Bytes that are responses already."""
        self._output.append(data)

    def later(self) -> bytes:
        """Answer to AppendEnd: it will be answered by `complete`, and the next APPEND may come. Returns its tag.

        As soon as nothing more has come there is a Flush event: they may be completed while more comes. When something
        else comes there is one for all of them: then they have to be.
        """
        tag, self._tag, self._waiting, self._upload = self._tag, b"", _READY, None
        self._deferred = self._new_deferred = True
        return tag

    def complete(self, tag: bytes, status: Status) -> None:
        """The answer to a command that was put off."""
        self.raw(b"%b %b\r\n" % (tag, status.encode()))

    def flushed(self) -> None:
        """Answer to a Flush of all: they are completed."""
        self._waiting = self._resume
        self.caught_up()

    def caught_up(self) -> None:
        """All that were put off are completed, whoever asked for it."""
        self._deferred = False
        if self._goodbye is not None:
            self.bye(self._goodbye)

    def ok(self, text: str, code: bytes = b"") -> None:
        """The command under way is done."""
        self._complete(Status(b"OK", text, code))

    def no(self, status: Status) -> None:
        """The command under way is refused: any status that is not OK. Of an APPEND the rest is passed over."""
        literal, self._append = self._append, None
        streaming, self._streaming = self._streaming, False
        if literal is not None:
            self._waiting = _READY
            self._refuse(literal, status)
        elif streaming:
            self._waiting = _READY
            self._framer.skip()
            self._refusal = status
        elif status.condition == b"BAD":
            self._fail(status)
        else:
            self._complete(status)

    def proceed(self) -> None:
        """Answer to Append and AppendData: go on with the message."""
        literal, self._append = self._append, None
        self._waiting = _APPEND
        if literal is not None:
            self._streaming = True
            self._framer.stream()
            if literal.waits:
                self._output.append(b"+ Go ahead\r\n")

    def challenge(self, data: bytes) -> None:
        """Answer to Authenticate and AuthResponse: one more response is needed."""
        self._output.append(b"+ %b\r\n" % binascii.b2a_base64(data, newline=False))
        self._waiting = _SASL

    def idle(self) -> None:
        """Answer to Idle: from now on untagged responses may be sent at any time, until DONE."""
        self._output.append(b"+ idling\r\n")
        self._waiting = _IDLE

    def end_idle(self) -> None:
        """Answer to Done."""
        refusal, self._refusal = self._refusal, None
        self._complete(refusal or replies.ok("IDLE completed"))

    def authenticated(self) -> None:
        """Answer to Login, Authenticate, AuthResponse: welcome."""
        self.state = State.AUTHENTICATED
        self.ok("Logged in", b"CAPABILITY " + self._capabilities())

    def not_authenticated(self, status: Status = replies.BAD_CREDENTIALS) -> None:
        """Answer to Login, Authenticate, AuthResponse: no."""
        self._complete(status)
        self._auth_failures += 1
        if self._auth_failures >= self.options.max_auth_failures:
            self.bye(replies.TOO_MANY_ERRORS)

    def unauthenticated(self) -> None:
        """Answer to Unauthenticate: nobody is logged in, nothing is enabled (RFC 8437 section 3)."""
        self.state = State.NOT_AUTHENTICATED
        capabilities.disable_all(self)
        self.ok("Nobody is logged in", b"CAPABILITY " + self._capabilities())
        if self._deflate is not None:  # that was the last thing that is compressed (section 4.1)
            self._ready += self._deflate.finish(b"".join(self._output))
            self._output = []
            self._framer.feed(self._deflate.rest())
            self._deflate = None

    def selected(self) -> None:
        """A mailbox is selected from now on."""
        self.state = State.SELECTED

    def unselected(self) -> None:
        """No mailbox is selected from now on."""
        self.state = State.AUTHENTICATED

    def start_tls(self) -> None:
        """Answer to StartTls: the handshake comes next, then `tls_started`.

        What was said before the handshake is dropped here (RFC 9051 section 6.2.1) and not when the handshake is over:
        the first bytes under TLS may come before `tls_started` is called, and they count.
        """
        self.ok("Begin the TLS handshake")
        self._framer.forget()
        self._waiting = _ANSWER

    def tls_started(self) -> None:
        """The connection is secure, and what was received since the handshake is obeyed."""
        self.secure = True
        self._waiting, self._errors = _READY, 0

    def bye(self, status: Status = replies.GOODBYE) -> None:
        """Say goodbye; the connection closes after it. Commands that were put off are answered first: Flush comes."""
        if self._deferred:
            self._goodbye = self._goodbye or status
        elif not self.closed:
            self.untagged(status.encode())
            self.state, self.closed = State.LOGOUT, True

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What the client may log in with now."""
        options = self.options
        return sasl.usable(
            options.mechanisms,
            secure=self.secure,
            certified=self.certified,
            plaintext=options.plaintext_login,
            require_tls=options.require_tls,
        )

    @property
    def _may_start_tls(self) -> bool:
        return self.options.starttls and not self.secure

    @property
    def _shows_passwords(self) -> bool:
        return self.secure or self.options.plaintext_login

    def _capabilities(self) -> bytes:
        inside = self.state is not State.NOT_AUTHENTICATED
        compress = self._deflate is None
        return capabilities.line(
            inside, self._may_start_tls, self.mechanisms, self._shows_passwords, compress, self.options
        )

    def _complete(self, status: Status) -> None:
        """The tagged status response that ends a command."""
        self._output.append(b"%b %b\r\n" % (self._tag, status.encode()))
        self._tag = b""
        self._waiting = _READY
        self._upload, self._streaming = None, False
        if status.condition == b"OK":
            self._errors = 0

    def _fail(self, status: Status) -> None:
        """`_complete`, counted as an error."""
        self._complete(status)
        self._count_error()

    def _count_error(self) -> None:
        self._errors += 1
        if self._errors >= self.options.max_errors:
            self.bye(replies.TOO_MANY_ERRORS)
