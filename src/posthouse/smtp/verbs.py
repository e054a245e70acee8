"""The commands of SMTP, one row each: what runs, in which states, how long a line may be.

A command answers with an event, if the session must decide, with a reply, or with None if it has done all by
itself. The functions see one line without its CRLF, limited in length before, and never raise for it.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from posthouse.smtp import params, replies
from posthouse.smtp.events import Auth, AuthResponse, Burl, Event, Hello, Mail, Rcpt, Reset, StartTls, Vrfy, Xclient
from posthouse.smtp.grammar import (
    bdat_args,
    burl_args,
    control,
    from_base64,
    mail_args,
    rcpt_args,
    word,
    xclient_attribute,
)
from posthouse.smtp.options import Offer, ServerOptions
from posthouse.smtp.replies import Reply
from posthouse.smtp.states import (
    ANY,
    AUTH_LINE,
    CHUNKS,
    COMMAND_LINE,
    EXTENDED_LINE,
    MAIL,
    OPEN,
    RCPT,
    READY,
    REFUSED,
)
from posthouse.smtp.xtext import xtext_decode
from posthouse.wire.address import parse_path
from posthouse.wire.sasl import PLAINTEXT

Result = Event | Reply | None


class Engine(Protocol):
    """The engine as a command sees it: `server.SmtpServer`."""

    options: ServerOptions
    offer: Offer
    state: int
    secure: bool
    esmtp: bool
    authenticated_as: str
    mail: params.MailParams | None  # of the transaction under way
    recipients: int  # RCPT commands of it

    def end_transaction(self) -> None: ...

    def begin_data(self) -> None: ...

    def begin_chunk(self, size: int, last: bool, refusal: Reply | None) -> None: ...

    def goodbye(self, reply: Reply) -> None: ...


class Verb(NamedTuple):
    """One row."""

    run: Callable[[Engine, bytes], Result]
    allowed: int = ANY
    misplaced: Reply = replies.BAD_SEQUENCE  # in READY, where it is not allowed
    limit: int = COMMAND_LINE - 2
    last: bool = False  # the client must wait for the reply before it sends more (RFC 2920 section 3.1) ...
    extension: str = ""  # ... unless this is offered


def _unknown(_engine: Engine, _args: bytes) -> Reply:
    return replies.UNRECOGNIZED


def _not_implemented(_engine: Engine, _args: bytes) -> Reply:
    return replies.NOT_IMPLEMENTED


def _http(_engine: Engine, _args: bytes) -> Reply:
    return replies.NOT_HTTP


# Greeting


def _ehlo(engine: Engine, args: bytes) -> Hello | Reply:
    return replies.SAY_LHLO if engine.options.lmtp else _hello(engine, "EHLO", args)


def _helo(engine: Engine, args: bytes) -> Hello | Reply:
    return replies.SAY_LHLO if engine.options.lmtp else _hello(engine, "HELO", args)


def _lhlo(engine: Engine, args: bytes) -> Hello | Reply:
    return _hello(engine, "LHLO", args) if engine.options.lmtp else replies.SAY_EHLO


def _hello(engine: Engine, verb: str, args: bytes) -> Hello | Reply:
    # ehlo = "EHLO" SP ( Domain / address-literal ) CRLF
    # Loosened to any word: half the clients give a name that is no domain, and nothing hangs on it.
    name = args.strip(b" ")
    if not word(name):
        return replies.CONTROL_CHARACTER if control(name) else replies.HELLO_SYNTAX
    engine.end_transaction()
    return Hello(verb, name.decode("ascii", "replace"))


def _starttls(engine: Engine, args: bytes) -> StartTls | Reply:
    if args.strip(b" "):
        return replies.NO_ARGUMENTS
    if engine.secure:
        return replies.TLS_ACTIVE
    return StartTls() if engine.options.starttls else replies.TLS_NOT_OFFERED


XCLIENT_NAMES = {"NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"}


def _xclient(engine: Engine, args: bytes) -> Xclient | Reply:
    # xclient-command = XCLIENT 1*( SP attribute-name "=" attribute-value ), values in xtext
    if "XCLIENT" not in engine.options.extensions:
        return replies.XCLIENT_DENIED
    attributes: dict[str, str | None] = {}
    for one in args.split():
        match = xclient_attribute(one)
        value = xtext_decode(match[2].decode("ascii"), utf8=True) if match else None
        if match is None or value is None:
            return replies.XCLIENT_SYNTAX
        unknown = value.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
        name = match[1].decode("ascii").upper()
        if name not in XCLIENT_NAMES:
            return replies.XCLIENT_SYNTAX
        attributes[name] = None if unknown else value
    return Xclient(attributes) if attributes else replies.XCLIENT_SYNTAX


def _auth(engine: Engine, args: bytes) -> Auth | Reply:
    options = engine.options
    if not options.mechanisms:
        return replies.AUTH_NOT_OFFERED
    if engine.authenticated_as:
        return replies.AUTH_ACTIVE
    if not engine.esmtp:
        return replies.AUTH_NEEDS_EHLO
    words = args.split()
    if not 1 <= len(words) <= 2 or control(args):
        return replies.AUTH_SYNTAX
    mechanism = words[0].decode("ascii", "replace").upper()
    if mechanism not in engine.offer.mechanisms:
        hidden = mechanism in options.mechanisms and mechanism in PLAINTEXT
        return replies.AUTH_NEEDS_TLS if hidden else replies.UNKNOWN_MECHANISM
    initial = None
    if len(words) == 2:
        # RFC 4954 section 4: "=" is an initial response of no octets
        initial = b"" if words[1] == b"=" else from_base64(words[1])
        if initial is None:
            return replies.AUTH_BASE64
    return Auth(mechanism, initial)


def auth_response(engine: Engine, line: bytes) -> AuthResponse | Reply:
    """What follows a challenge is no command, whatever it looks like."""
    data = None if line == b"*" else from_base64(line)
    if data is None:
        engine.state = READY
        return replies.AUTH_CANCELLED if line == b"*" else replies.AUTH_BASE64
    return AuthResponse(data)


# The mail transaction


def _mail(engine: Engine, args: bytes) -> Mail | Reply:
    options = engine.options
    if options.require_tls and not engine.secure:
        return replies.TLS_REQUIRED
    if not engine.authenticated_as and (options.submission or options.require_auth):
        return replies.AUTH_REQUIRED
    match = mail_args(args)
    if match is None:
        return replies.CONTROL_CHARACTER if control(args) else replies.MAIL_SYNTAX
    path, bare, words = match.groups()
    values = params.NO_MAIL_PARAMS
    if words:
        parsed = params.mail_params(words, engine.offer.params)
        if isinstance(parsed, Reply):
            return parsed
        values = parsed
    sender = parse_path(path if path is not None else b"<%b>" % bare, values.smtputf8)
    if sender is None:
        return _address_problem(path or bare, replies.SENDER_NEEDS_DOMAIN, replies.SENDER_SYNTAX)
    if sender.local_part and not sender.domain:
        return replies.SENDER_NEEDS_DOMAIN
    return Mail(sender, values)


def _rcpt(engine: Engine, args: bytes) -> Rcpt | Reply:
    match = rcpt_args(args)
    if match is None:
        return replies.CONTROL_CHARACTER if control(args) else replies.RCPT_SYNTAX
    path, bare, words = match.groups()
    values = params.NO_RCPT_PARAMS
    utf8 = engine.mail is not None and engine.mail.smtputf8
    if words:
        parsed = params.rcpt_params(words, engine.offer.params, utf8)
        if isinstance(parsed, Reply):
            return parsed
        values = parsed
    recipient = parse_path(path if path is not None else b"<%b>" % bare, utf8)
    if recipient is None or not recipient.local_part:
        return _address_problem(path or bare, replies.RECIPIENT_NEEDS_DOMAIN, replies.RECIPIENT_SYNTAX)
    if engine.recipients >= engine.options.max_recipients:
        return replies.TOO_MANY_RECIPIENTS
    engine.recipients += 1
    return Rcpt(recipient, values)


def _address_problem(path: bytes, needs_domain: Reply, syntax: Reply) -> Reply:
    if not path.isascii():
        return replies.NEEDS_SMTPUTF8
    return needs_domain if b"@" not in path and path.strip(b"<>") else syntax


def _data(engine: Engine, args: bytes) -> Reply:
    if args.strip(b" "):
        return replies.NO_ARGUMENTS
    if engine.state == CHUNKS:
        return replies.BDAT_UNDER_WAY
    if engine.mail is not None and engine.mail.body == "BINARYMIME":
        return replies.BINARY_NEEDS_BDAT
    if engine.state == MAIL:
        if engine.options.lmtp:
            return replies.NEED_RCPT  # RFC 2033 section 4.2: 503, never another
        return replies.NO_VALID_RECIPIENTS if engine.recipients else replies.NEED_RCPT
    engine.begin_data()
    return replies.START_MAIL


def _bdat(engine: Engine, args: bytes) -> Reply | None:
    # bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF      RFC 3030 section 2
    if "CHUNKING" not in engine.offer.names:
        return replies.NOT_IMPLEMENTED
    match = bdat_args(args)
    if match is None:
        # How much is data and how much commands cannot be told any more.
        engine.goodbye(replies.BDAT_SYNTAX)
        return None
    refusal = None
    if engine.state == READY:
        refusal = replies.NEED_MAIL
    elif engine.state == MAIL:
        refusal = replies.NO_VALID_RECIPIENTS if engine.recipients and not engine.options.lmtp else replies.NEED_RCPT
    engine.begin_chunk(int(match[1]), match[2] is not None, refusal)
    return None


def _burl(engine: Engine, args: bytes) -> Burl | Reply:
    if "BURL" not in engine.offer.names:
        wanted = "BURL" in engine.options.extensions and not engine.options.lmtp
        return replies.BURL_NEEDS_LOGIN if wanted and not engine.authenticated_as else replies.NOT_IMPLEMENTED
    match = burl_args(args)
    if match is None:
        return replies.BURL_SYNTAX
    if engine.state == READY:
        return replies.NEED_MAIL
    if engine.state == MAIL:
        return replies.NO_VALID_RECIPIENTS if engine.recipients else replies.NEED_RCPT
    return Burl(match[1], match[2] is not None)


def _rset(_engine: Engine, args: bytes) -> Reset | Reply:
    return replies.NO_ARGUMENTS if args.strip(b" ") else Reset()


# What stands beside it


def _noop(_engine: Engine, args: bytes) -> Reply:
    return replies.CONTROL_CHARACTER if control(args) else replies.OK


def _help(_engine: Engine, args: bytes) -> Reply:
    return replies.CONTROL_CHARACTER if control(args) else replies.HELP


def _vrfy(engine: Engine, args: bytes) -> Vrfy | Reply:
    return _verify(engine, args, False)


def _expn(engine: Engine, args: bytes) -> Vrfy | Reply:
    return _verify(engine, args, True) if "EXPN" in engine.options.extensions else replies.NOT_IMPLEMENTED


def _verify(engine: Engine, args: bytes, expand: bool) -> Vrfy | Reply:
    text = args.strip(b" ")
    if text[-9:].upper() == b" SMTPUTF8" and "SMTPUTF8" in engine.offer.names:  # RFC 6531 section 3.7.4.2
        text = text[:-9].rstrip(b" ")
    if not text or control(text):
        return replies.VRFY_SYNTAX
    return Vrfy(text.decode("utf-8", "replace"), expand)


def _etrn(_engine: Engine, args: bytes) -> Reply:
    if control(args):
        return replies.CONTROL_CHARACTER
    return replies.NO_ETRN if args.strip(b" ") else replies.ETRN_SYNTAX


def _quit(engine: Engine, args: bytes) -> Reply | None:
    if args.strip(b" "):
        return replies.NO_ARGUMENTS
    engine.goodbye(replies.BYE)
    return None


UNKNOWN = Verb(_unknown)
_OTHER = Verb(_not_implemented)
_HTTP = Verb(_http, ANY | REFUSED, limit=AUTH_LINE)

# RFC 2920 asks clients to wait after EHLO, NOOP, VRFY, AUTH and QUIT too; there, going on does no harm.
VERBS: dict[bytes, Verb] = {
    b"EHLO": Verb(_ehlo),
    b"HELO": Verb(_helo),
    b"LHLO": Verb(_lhlo),
    b"MAIL": Verb(_mail, READY, limit=EXTENDED_LINE - 2),
    b"RCPT": Verb(_rcpt, MAIL | RCPT, replies.NEED_MAIL, limit=EXTENDED_LINE - 2),
    b"DATA": Verb(_data, MAIL | RCPT | CHUNKS, replies.NEED_MAIL, last=True),
    b"BDAT": Verb(_bdat, READY | MAIL | RCPT | CHUNKS, last=True, extension="CHUNKING"),
    b"BURL": Verb(_burl, READY | MAIL | RCPT | CHUNKS, limit=AUTH_LINE - 2),
    b"RSET": Verb(_rset),
    b"NOOP": Verb(_noop),
    b"QUIT": Verb(_quit, ANY | REFUSED),
    b"VRFY": Verb(_vrfy),
    b"EXPN": Verb(_expn),
    b"HELP": Verb(_help),
    b"ETRN": Verb(_etrn, READY),
    b"STARTTLS": Verb(_starttls, READY, last=True),
    b"AUTH": Verb(_auth, READY, limit=AUTH_LINE - 2),
    b"XCLIENT": Verb(_xclient, OPEN | READY, limit=EXTENDED_LINE - 2, last=True),
    **dict.fromkeys((b"TURN", b"SEND", b"SOML", b"SAML"), _OTHER),
    **dict.fromkeys((b"GET", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"PRI"), _HTTP),
}
