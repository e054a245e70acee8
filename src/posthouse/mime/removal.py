"""Header fields taken out of a message while it streams through: Bcc of what is submitted, results forged in our name.

Of the message little more than one field is held, and of that `limit` octets; the body passes untouched, and what
comes out never depends on how the message was cut. The header ends at its first empty line. A line that is no field
stays, and what follows it is looked at all the same: some programs see one header there, and what was to go must not
come back for them. Lines end with LF, with or without CR before it; a CR alone ends no line.
"""

import re
from collections.abc import Callable

LIMIT = 64 * 1024  # octets of a field

Unwanted = Callable[[bytes, bytes], bool]

# Looser than header.py is: blanks before the colon, 8-bit octets in a name, a byte order mark before it, and control
# characters in it, which some programs pass over and others take for the end of a text.
_fields = re.compile(
    rb"\n(?:\xef\xbb\xbf)?+([\x00-\x08\x0b\x0c\x0e-\x1f!-9;-~\x7f-\xff]++)[ \t]*+:((?:[^\n]*+\n[ \t])*+[^\n]*+)"
).finditer
_empty_line = re.compile(rb"(?:\A|\n)(?=\r?\n)").search
_next_field = re.compile(rb"\n(?=[^ \t])").search


class Removal:
    """Takes fields out of one message that comes in pieces: `feed` each, then `finish`; both return what goes on.

    `unwanted` gets the name of a field as it is written, and its value: raw, folded, with the blank after the colon and
    without the last line end. Of a field of more than `limit` octets it gets only these, and the field goes or stays as
    a whole. `missing`, if given, is asked once the last field was seen: what it returns goes in below that.
    """

    def __init__(self, unwanted: Unwanted, limit: int = LIMIT, missing: Callable[[], bytes] | None = None) -> None:
        self.removed = 0  # fields
        self.body: int | None = None  # once the header has ended: where the body starts in all that went on
        self._unwanted = unwanted
        self._missing = missing
        self._passed = 0  # octets that went on before the header ended
        self._ends_line = True
        self._limit = limit
        self._in_header = True
        self._pending: list[bytes] = []  # not looked at yet
        self._pending_size = 0
        self._held = b""  # looked at: the beginning of a field; of one that is too long a line end that may be its last
        self._stays: bool | None = None  # in a field that is too long: whether it goes on

    def feed(self, data: bytes) -> bytes:
        """Take the next piece."""
        if not self._in_header:
            return data
        self._pending.append(data)
        self._pending_size += len(data)
        # What is held is looked at again only when it has doubled: linear for pieces of any size.
        if self._pending_size < len(self._held):
            return b""
        passed = self._look(final=False)
        if self._in_header and passed:
            self._passed += len(passed)
            self._ends_line = passed.endswith(b"\n")
        return passed

    def finish(self) -> bytes:
        """No piece follows."""
        return self._look(final=True) if self._in_header else b""

    def _look(self, *, final: bool) -> bytes:
        text = b"".join([self._held, *self._pending])
        self._pending.clear()
        self._pending_size = 0
        passed = b""
        if self._stays is not None:
            passed, text = self._rest_of_field(text, final=final)
            if self._stays is not None:
                self._held = text
                return passed
        empty = _empty_line(text)
        if empty is not None or final:
            self._in_header = False
            self._held = b""
            end = empty.end() if empty is not None else len(text)
            passed += self._filtered(text[:end])
            if self._missing is not None and (more := self._missing()):
                passed += b"" if (passed.endswith(b"\n") if passed else self._ends_line) else b"\r\n"
                passed += more
            self.body = self._passed + len(passed)
            if empty is None:
                return passed
            self.body += text.index(b"\n", end) + 1 - end  # the empty line is the last of the header
            return passed + text[end:]
        start = _last_field(text)
        passed += self._filtered(text[:start])
        self._held = text[start:]
        if len(self._held) > self._limit:
            self._stays = not self._goes(self._held)
            more, self._held = self._rest_of_field(self._held, final=False)
            passed += more
        return passed

    def _rest_of_field(self, text: bytes, *, final: bool) -> tuple[bytes, bytes]:
        """What goes on of a field that is too long, and what comes after that. `_stays` is None once it ended."""
        stays, found = self._stays, _next_field(text)
        if found is not None or final:
            self._stays = None
        # Otherwise a line end may be its last one.
        end = found.end() if found is not None else len(text) - (not final and text.endswith(b"\n"))
        return (text[:end] if stays else b""), text[end:]

    def _filtered(self, text: bytes) -> bytes:
        """Whole fields, without those that are to go."""
        kept: list[bytes] = []
        at = 0
        for match in _fields(b"\n" + text):
            start, end = match.start(), min(match.end(), len(text))  # the octet in front makes up for the line end
            if end - start > self._limit:
                goes = self._goes(text[start:end])
            elif goes := self._unwanted(match[1], match[2].removesuffix(b"\r")):
                self.removed += 1
            if goes:
                kept.append(text[at:start])
                at = end
        return b"".join([*kept, text[at:]]) if at else text

    def _goes(self, field: bytes) -> bool:
        """The answer for a field that is too long."""
        match = next(_fields(b"\n" + field[: self._limit]), None)
        goes = match is not None and match.start() == 0 and self._unwanted(match[1], match[2].removesuffix(b"\r"))
        self.removed += goes
        return goes


def _last_field(text: bytes) -> int:
    """Where the last line starts of which it is sure that it does not go on with the one before."""
    at = text.rfind(b"\n")
    while at >= 0 and text[at + 1 : at + 2] in (b" ", b"\t", b""):
        at = text.rfind(b"\n", 0, at)
    return at + 1
