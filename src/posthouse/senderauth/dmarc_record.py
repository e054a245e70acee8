"""What DMARC records say: which TXT record is one, its tags, what they mean, what is wrong with them. Pure.

RFC 9989 section 4.7 and 4.8: who cannot read the value of a tag goes on as if the tag was not there, so nothing raises
and nothing is refused; every mistake is remembered as a sentence, for the trace and for the owner of the domain.
`pct` (RFC 7489) is honoured where the record does not say `t`, because records that have it mean it; `ri` and `rf` are
read past. Which record applies to whom is for `organization.py` and `dmarc.py`.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

Policy = Literal["none", "quarantine", "reject"]

MAX_RECORD = 4_096  # octets that are read of a record; long ones in the wild have 500
MAX_TAGS = 64
MAX_URIS = 10  # of rua or ruf
MAX_URI = 512
MAX_RECORDS = 50  # TXT records of one name that are looked at

# RFC 9989 section 4.8: the version stands first, its value is exact.
_version = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)").match
_tag_name = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z").match
# RFC 3986, with "," and "!" encoded; RFC 7489 had a size after "!".
_uri = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?:!([0-9]{1,12})([kmgtKMGT]?))?\Z"
).match
# Of blanks any counts; other control characters would end in a log or on a screen.
_CONTROLS = {code: " " if code in (9, 10, 13) else f"\\x{code:02x}" for code in (*range(32), 127)}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Uri(NamedTuple):
    """An address for reports."""

    uri: str
    limit: int | None = None  # octets of one report, as RFC 7489 let a domain ask for


class Record(NamedTuple):
    """A DMARC record. Tags that are not there have their defaults."""

    p: Policy | None = None  # None: not there, or not one of the three
    sp: Policy | None = None
    np: Policy | None = None
    adkim: str = "r"
    aspf: str = "r"
    psd: str = "u"
    t: str = ""  # "y", "n", or "" if it does not say
    pct: int | None = None
    fo: tuple[str, ...] = ("0",)
    rua: tuple[Uri, ...] = ()
    ruf: tuple[Uri, ...] = ()
    mistakes: tuple[str, ...] = ()
    broken: bool = False  # sp or np is there and not one of the three

    @property
    def usable(self) -> bool:
        """Whether DMARC is to be applied: a policy that cannot be read is `none` for who wants reports, and nothing for
        who does not. RFC 9989 section 4.10.1."""
        return (self.p is not None and not self.broken) or bool(self.rua)

    @property
    def strict_dkim(self) -> bool:
        return self.adkim == "s"

    @property
    def strict_spf(self) -> bool:
        return self.aspf == "s"

    @property
    def testing(self) -> bool:
        """The domain only tries its policy: `t=y`, or `pct=0` as one said it before."""
        return self.t == "y" or self.percent == 0

    @property
    def percent(self) -> int:
        """Of how many messages in a hundred the policy is meant for."""
        return 100 if self.t or self.pct is None else self.pct

    def policy(self, inherited: bool, exists: bool = True) -> Policy:
        """What the domain asks for: for itself, or for a name below it that `exists` in the DNS or does not. RFC 9989
        section 4.10.1."""
        if self.p is None or self.broken:
            return "none"
        if not inherited:
            return self.p
        return (None if exists else self.np) or self.sp or self.p


class Line(NamedTuple):
    """A tag of a record, for people."""

    tag: str
    value: str
    meaning: str


def select(values: Sequence[bytes]) -> list[bytes]:
    """The DMARC records among the TXT records of a name; more than one count as none (RFC 9989 section 4.10)."""
    return [value for value in values[:MAX_RECORDS] if _version(value)]


def parse(value: bytes) -> Record:
    """Read a record that `select` found."""
    return _parse(value[:MAX_RECORD], len(value))


@lru_cache(1024)  # the domains that send much are few
def _parse(value: bytes, octets: int) -> Record:
    given: dict[str, Any] = {}
    mistakes: list[str] = []
    if octets > MAX_RECORD:
        mistakes.append(f"the record has {octets} octets, of which {MAX_RECORD} are read")
    tags = _tags(value, mistakes)
    for name, text in tags.items():
        tag = _TAGS.get(name)
        if tag is None:
            if name in _OLD:
                mistakes.append(f"{name}= {_OLD[name]}")
            elif name != "v":
                mistakes.append(f"{_cut(name)}= is no tag of DMARC, and ignored")
            continue
        read = tag.read(text, mistakes)
        if read is None:
            mistakes.append(f"{name}={_cut(text)} is not {tag.form}")
            if name in ("sp", "np"):
                given["broken"] = True
        else:
            given[name] = read
    record = Record(**given)
    if "p" not in tags:
        mistakes.append("p= is missing")
    if record.broken:
        mistakes.append("as a policy cannot be read, it is none for all of the domain")
    if record.pct is not None:
        mistakes.append("pct= is of RFC 7489: t=y says that a policy is only tried")
    if record.fo != ("0",) and not record.ruf:
        mistakes.append("fo= means nothing without ruf=")
    return record._replace(mistakes=tuple(mistakes))


def explain(value: bytes) -> list[Line]:
    """The tags of a record with what they mean, and the defaults that matter."""
    record = parse(value)
    lines = []
    for name, text in _tags(value[:MAX_RECORD], []).items():
        tag = _TAGS.get(name)
        if name == "v":
            meaning = "this is a DMARC record"
        elif tag is None:
            meaning = _OLD.get(name, "unknown, and ignored")
        else:
            read = tag.read(text, [])
            meaning = f"not {tag.form}: ignored" if read is None else tag.meaning(read)
        lines.append(Line(name[:20], text[:MAX_URI], meaning))
    there = {line.tag for line in lines}
    for name in ("sp", "np", "adkim", "aspf"):
        if name not in there:
            default: Any = {"sp": record.policy(True), "np": record.policy(True, exists=False)}.get(name, "r")
            lines.append(Line(name, "", f"not said: {_TAGS[name].meaning(default)}"))
    if "rua" not in there:
        lines.append(Line("rua", "", "not said: nobody sends reports"))
    return lines


def _tags(value: bytes, mistakes: list[str]) -> dict[str, str]:
    """Names in lower case and values, of each name the first."""
    text = value.decode("ascii", "backslashreplace").translate(_CONTROLS)
    pieces = text.split(";", MAX_TAGS)
    if len(pieces) > MAX_TAGS:
        mistakes.append(f"there are more than {MAX_TAGS} tags, of which {MAX_TAGS} are read")
        pieces.pop()
    found: dict[str, str] = {}
    for piece in pieces:
        name, equals, said = piece.partition("=")
        name = name.strip().lower()
        if not equals or not _tag_name(name):
            if piece.strip():
                mistakes.append(f"{_cut(piece.strip())!r} is no tag")
        elif name in found:
            mistakes.append(f"{_cut(name)}= is there twice; the first counts")
        else:
            found[name] = said.strip()
    return found


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"


def _word(*words: str) -> Callable[[str, list[str]], str | None]:
    def read(text: str, _: list[str]) -> str | None:
        return text.lower() if text.lower() in words else None

    return read


def _percent(text: str, _: list[str]) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,3}", text) and int(text) <= 100 else None


def _options(text: str, _: list[str]) -> tuple[str, ...] | None:
    """RFC 9989 section 4.7, fo: 0 or 1, d, s, in any order."""
    options = [option.strip().lower() for option in text.split(":", 5)]
    known = tuple(dict.fromkeys(option for option in options if option in ("0", "1", "d", "s")))
    return known if len(known) == len(options) and not {"0", "1"} <= set(known) else None


def _uris(text: str, mistakes: list[str]) -> tuple[Uri, ...] | None:
    uris: list[Uri] = []
    pieces = text.split(",", MAX_URIS)
    if len(pieces) > MAX_URIS:
        mistakes.append(f"there are more than {MAX_URIS} addresses for reports, of which {MAX_URIS} are read")
        pieces.pop()
    for piece in pieces:
        piece = piece.strip()
        match = _uri(piece) if len(piece) <= MAX_URI else None
        if match is None:
            hint = ": write mailto: before it" if "@" in piece and ":" not in piece else ""
            mistakes.append(f"{_cut(piece)!r} is no URI{hint}")
            continue
        uri, size, unit = match.groups()
        uris.append(Uri(uri, int(size) * _UNITS[unit.lower()] if size else None))
    return tuple(uris) or None


def _policy_meaning(who: str) -> Callable[[Any], str]:
    words = {
        "none": "nothing happens",
        "quarantine": "it is suspicious: to the junk mailbox with it",
        "reject": "it is to be refused",
    }
    return lambda value: f"mail that fails, from {who}: {words[value]}"


def _uris_meaning(what: str) -> Callable[[Any], str]:
    return lambda value: f"{what} go to {', '.join(one.uri for one in value)}"


def _alignment_meaning(what: str) -> Callable[[Any], str]:
    return lambda value: (
        f"{what} counts with the very domain of From"
        if value == "s"
        else f"{what} counts with any domain of the organization"
    )


class _Tag(NamedTuple):
    """How a tag is read (None: it cannot be), what it should be, what its value means."""

    read: Callable[[str, list[str]], Any]
    form: str
    meaning: Callable[[Any], str]


_policies = _word("none", "quarantine", "reject")
_OPTIONS = {
    "0": "all of SPF and DKIM fail",
    "1": "one of SPF and DKIM fails",
    "d": "a DKIM signature fails",
    "s": "SPF fails",
}
# RFC 9989 section 4.7; pct: RFC 7489 section 6.3.
_TAGS = {
    "p": _Tag(_policies, "none, quarantine or reject", _policy_meaning("the domain")),
    "sp": _Tag(_policies, "none, quarantine or reject", _policy_meaning("names below it")),
    "np": _Tag(_policies, "none, quarantine or reject", _policy_meaning("names below it that do not exist")),
    "adkim": _Tag(_word("r", "s"), "r or s", _alignment_meaning("DKIM")),
    "aspf": _Tag(_word("r", "s"), "r or s", _alignment_meaning("SPF")),
    "psd": _Tag(
        _word("y", "n", "u"),
        "y, n or u",
        {
            "y": "below this domain each name is an organization of its own",
            "n": "this domain is the top of its organization",
            "u": "whether the domain is the top of its organization is found out by looking above it",
        }.__getitem__,
    ),
    "t": _Tag(
        _word("y", "n"),
        "y or n",
        {"y": "the policy is only tried: the next milder one is applied", "n": "the policy is meant"}.__getitem__,
    ),
    "pct": _Tag(
        _percent,
        "a number from 0 to 100",
        lambda value: f"the policy is meant for {value} messages in 100, the next milder one for the others",
    ),
    "fo": _Tag(
        _options,
        "0, 1, d or s, separated by colons",
        lambda value: f"a failure report when {', or when '.join(_OPTIONS[one] for one in value)}",
    ),
    "rua": _Tag(_uris, "a list of URIs", _uris_meaning("daily reports")),
    "ruf": _Tag(_uris, "a list of URIs", _uris_meaning("reports about single messages")),
}
_OLD = {
    "ri": "is of RFC 7489, and ignored: reports come once a day",
    "rf": "is of RFC 7489, and ignored: there is one format",
}
