"""Build messages: text, HTML, attachments, other messages; headers encoded and folded, CRLF throughout.

For what the server itself writes (bounces, notices, the demo) and for `posthouse send`. Time, message id
and boundaries are handed in or made from what is. Lines never exceed 998 octets (RFC 5322 section
2.1.1), and the result is ASCII. Values with line ends in them are made one line: no field can be forged.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from posthouse.mime import trace, words

_LINE = 76
_one_line = re.compile(r"[\r\n\0]+[ \t]*")
_line_ends = re.compile(rb"\r\n|\r|\n")
_token = re.compile(r"[!#$&+\-.^_`{|}~0-9A-Za-z]+").fullmatch
_dot_atom = re.compile(r"[!#-'*+\-/0-9=?A-Z^_`a-z{|}~]+(?:\.[!#-'*+\-/0-9=?A-Z^_`a-z{|}~]+)*").fullmatch
_phrase = re.compile(r"[!#-'*+\-/0-9=?A-Z^_`a-z{|}~ ]+").fullmatch


class Attachment(NamedTuple):
    """A file to send along. A type of message/rfc822 is put in as it is."""

    content: bytes
    type: str = "application/octet-stream"
    filename: str = ""


def mailbox(address: str, name: str = "") -> str:
    """An address with its display name, for From, To and the like."""
    address = _one_line.sub("", address)
    name = _one_line.sub(" ", name).strip()
    local, at, domain = address.rpartition("@")
    if at and local.isascii() and not (local.startswith('"') or _dot_atom(local)):
        address = _quoted(local) + at + domain
    if not name:
        return address
    if not words.is_plain(name):
        name = words.encode(name)
    elif not _phrase(name):
        name = _quoted(name)
    return f"{name} <{address}>"


def header_field(name: str, value: str) -> bytes:
    """One header field, folded at its blanks. An ASCII value stands as it is (it may hold encoded words already)."""
    value = _one_line.sub(" ", value).strip()
    if not value.isascii() or not value.isprintable():
        value = words.encode(value)
    lines = [f"{name}:"]
    for word in value.split(" "):
        # Folding before a blank keeps the value as it is. Not right after the name: some choke on it.
        if len(lines[-1]) + 1 + len(word) > _LINE and lines[-1] != f"{name}:" and word:
            lines.append("")
        lines[-1] += " " + word
    # What has no blank for 998 octets would break SMTP: cut it.
    return b"\r\n".join([line.encode("ascii", "replace")[:998] for line in lines]) + b"\r\n"


def parameter(name: str, value: str) -> str:
    """One parameter of a Content-Type or Content-Disposition (RFC 2231 where it is not ASCII), with its ";"."""
    value = _one_line.sub(" ", value)
    # One word stays whole beyond what lines should be long (RFC 5322 section 2.1.1): not all who look for names of
    # files, as in reports, know continuations.
    if value.isascii() and value.isprintable() and len(value) < (60 if " " in value else 400):
        return f"; {name}={value if _token(value) else _quoted(value)}"
    pieces, current = [], "utf-8''"
    for char in value:
        piece = "".join([chr(b) if _token(chr(b)) else f"%{b:02X}" for b in char.encode("utf-8", "replace")])
        if len(current) + len(piece) > 56:
            pieces.append(current)
            current = ""
        current += piece
    pieces.append(current)
    if len(pieces) == 1:
        return f"; {name}*={pieces[0]}"
    return "".join([f"; {name}*{number}*={piece}" for number, piece in enumerate(pieces)])


def message(
    *,
    sender: str,
    to: Iterable[str],
    subject: str,
    date: int,
    message_id: str,
    text: str = "",
    html: str = "",
    attachments: Sequence[Attachment] = (),
    cc: Iterable[str] = (),
    fields: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A whole message. `sender`, `to` and `cc` are in the form `mailbox` gives; `message_id` without brackets.

    `fields` are further ones: In-Reply-To, Auto-Submitted...
    """
    content = _text("plain", text)
    if html:
        content = multipart("alternative", [content, _text("html", html)])
    if attachments:
        content = multipart("mixed", [content, *[attached(one) for one in attachments]])
    return whole(content, sender=sender, to=to, subject=subject, date=date, message_id=message_id, cc=cc, fields=fields)


def whole(
    content: bytes,
    *,
    sender: str,
    to: Iterable[str],
    subject: str,
    date: int,
    message_id: str,
    cc: Iterable[str] = (),
    fields: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A message with this content: a part with its own header, as the functions below make them."""
    head = [
        header_field("Date", trace.date_time(date)),
        header_field("From", sender),
    ]
    if recipients := ", ".join(to):
        head.append(header_field("To", recipients))
    if recipients := ", ".join(cc):
        head.append(header_field("Cc", recipients))
    head.append(header_field("Message-ID", f"<{message_id}>"))
    head.append(header_field("Subject", words.encode(_one_line.sub(" ", subject).strip())))
    head += [header_field(name, value) for name, value in fields]
    head.append(b"MIME-Version: 1.0\r\n")
    return b"".join(head) + content


def part(content_type: str, body: bytes, fields: Iterable[tuple[str, str]] = ()) -> bytes:
    """A part whose body goes in as it is: its lines must be short, and it is marked 8bit if it must be."""
    head = [header_field("Content-Type", content_type)]
    if not body.isascii():
        head.append(b"Content-Transfer-Encoding: 8bit\r\n")
    head += [header_field(name, value) for name, value in fields]
    return b"".join(head) + b"\r\n" + body


def multipart(subtype: str, parts: Sequence[bytes], params: str = "") -> bytes:
    """A multipart of parts made by this file. `params` are further ones: "; report-type=delivery-status"."""
    # The boundary is made from the content: it needs no randomness, and is checked not to be in there.
    digest = hashlib.blake2b(digest_size=12)
    for one in parts:
        digest.update(one)
    boundary = f"=_{digest.hexdigest()}"
    while any(boundary.encode() in one for one in parts):
        digest.update(b"again")
        boundary = f"=_{digest.hexdigest()}"
    line = b"--" + boundary.encode()
    out = [header_field("Content-Type", f'multipart/{subtype}{params}; boundary="{boundary}"'), b"\r\n"]
    for one in parts:
        out += [line, b"\r\n", one, b"\r\n"]
    return b"".join([*out, line, b"--\r\n"])


def attached(attachment: Attachment) -> bytes:
    """The part that carries a file."""
    disposition = "attachment"
    content_type = attachment.type
    if attachment.filename:
        disposition += parameter("filename", attachment.filename)
    head = [header_field("Content-Type", content_type), header_field("Content-Disposition", disposition)]
    if content_type.lower().startswith("message/"):  # base64 is forbidden for it (RFC 2046 section 5.2.1)
        if not attachment.content.isascii():
            head.append(b"Content-Transfer-Encoding: 8bit\r\n")
        return b"".join(head) + b"\r\n" + _line_ends.sub(b"\r\n", attachment.content)
    return b"".join(head) + b"Content-Transfer-Encoding: base64\r\n\r\n" + _base64(attachment.content)


def _text(subtype: str, text: str) -> bytes:
    data = _line_ends.sub(b"\r\n", text.encode("utf-8", "replace"))
    if data and not data.endswith(b"\n"):
        data += b"\r\n"
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\n".encode()
    longest = max(map(len, data.split(b"\n")), default=0)
    if data.isascii() and longest < 990 and b"\0" not in data:
        return head + b"Content-Transfer-Encoding: 7bit\r\n\r\n" + data
    plain = len(data) - sum(byte > 126 for byte in data)
    if plain * 6 >= len(data) * 5:
        quoted = binascii.b2a_qp(data.replace(b"\r\n", b"\n"), istext=True).replace(b"\n", b"\r\n")
        return head + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted
    return head + b"Content-Transfer-Encoding: base64\r\n\r\n" + _base64(data)


def _base64(data: bytes) -> bytes:
    lines = [base64.b64encode(data[at : at + 57]) for at in range(0, len(data), 57)]
    return b"\r\n".join([*lines, b""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
