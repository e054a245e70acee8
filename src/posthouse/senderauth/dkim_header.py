"""The fields of a message as signatures see them: which are signed, and in which canonical form. Pure."""

from collections.abc import Sequence

from posthouse.mime import header as headers
from posthouse.senderauth import dkim_canon, dkim_tags
from posthouse.senderauth.dkim_canon import Canon
from posthouse.senderauth.dkim_crypto import sha256
from posthouse.senderauth.dkim_tags import Signature

MAX_HEADER = 256 * 1024  # octets; what is longer is body for the MIME scanner, too
MAX_FIELDS = 3_000  # of a header that is verified; two microseconds each, in which the event loop waits


def too_large(header: bytes) -> str:
    """Why a stranger's header is not verified; "" if it is small enough."""
    if len(header) > MAX_HEADER:
        return f"the header is larger than {MAX_HEADER} octets"
    if header.count(b"\n") - header.count(b"\n ") - header.count(b"\n\t") > MAX_FIELDS:
        return f"the header has more than {MAX_FIELDS} fields"
    return ""


class Header:
    """The fields of a message and their canonical forms, each made once."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.fields = headers.split(raw)
        self._numbers: dict[bytes, list[int]] = {}
        for number, field in enumerate(self.fields):
            self._numbers.setdefault(field.name.lower(), []).append(number)
        self._made: dict[Canon, dict[int, bytes]] = {"simple": {}, "relaxed": {}}

    def has_strays(self) -> bool:
        """Whether there are lines that are no field. Many programs show them, and all below, as the body."""
        at = 0
        for field in self.fields:
            if field.start != at:
                return True
            at = field.end
        return self._raw[at:] not in (b"", b"\r\n", b"\n")

    def numbers(self, name: bytes) -> list[int]:
        """The fields of this name (in lower case), from top to bottom."""
        return self._numbers.get(name, [])

    def count(self, name: bytes) -> int:
        return len(self.numbers(name))

    def canonical(self, canon: Canon, number: int) -> bytes:
        """A field, CRLF included."""
        made = self._made[canon].get(number)
        if made is None:
            name, value, start, end = self.fields[number]
            made = self._made[canon][number] = dkim_canon.field(canon, name, value, self._raw[start:end])
        return made

    def selected(self, canon: Canon, names: Sequence[bytes], but: int = -1) -> list[bytes]:
        """The canonical fields that h= names, without that with the number `but`. RFC 6376 section 5.4.2."""
        left: dict[bytes, list[int]] = {}
        chosen: list[bytes] = []
        for name in names:
            if name not in left:
                left[name] = [number for number in self.numbers(name) if number != but]
            if left[name]:
                chosen.append(self.canonical(canon, left[name].pop()))
        return chosen

    def hash(self, said: Signature, own: int) -> bytes:
        """What the signature in field `own` signs. RFC 6376 section 3.7."""
        last = self.canonical_without_own(said.header_canon, own)
        return sha256(*self.selected(said.header_canon, said.names, own), last)

    def canonical_without_own(self, canon: Canon, number: int) -> bytes:
        """A signature with an empty b= and without its last CRLF: so it signs itself."""
        name, value, start, end = self.fields[number]
        bare = dkim_tags.without_own_value(value)
        raw = self._raw[start:end].partition(b":")[0] + b":" + bare
        return dkim_canon.field(canon, name, bare, raw + b"\r\n").removesuffix(b"\r\n")
