"""What another server's reply means: known replies of the large providers, of filters and of servers everywhere.

The data is `patterns.toml`: how a reply is recognized, a word of a small vocabulary, sentences for the sender and for
the operator, and whether and when to try again. `match` looks a reply up; what follows from it is `queue/advice.py`.

What servers say is hostile input: MAX_TEXT characters are looked at, in which texts are searched first and a regular
expression only where one was found; those of the data file cannot repeat without bound (`check_regex`). Nothing is
raised for a reply; a mistake in the data file is a `ValueError` that names the row, when it is read first.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final, Literal, NamedTuple, cast, get_args

Retry = Literal["usual", "never", "soon", "slow", "later"]
RETRIES: Final[tuple[str, ...]] = get_args(Retry)
MAX_TEXT = 1000  # characters of a reply that are looked at
MAX_REPEAT = 100  # of the one counted repeat that an expression may have
MAX_OPTIONAL = 4  # "?" in an expression

# The vocabulary, for those who compare: every word has a table [meaning.WORD] in the data.
USER_UNKNOWN: Final = "user-unknown"
MAILBOX_DISABLED: Final = "mailbox-disabled"
RATE_LIMITED: Final = "rate-limited"


class Meaning(NamedTuple):
    """What a reply means."""

    id: str  # of the pattern: "gmail-full"
    provider: str  # "Gmail"; "" for replies that many servers give
    meaning: str  # "mailbox-full"
    what: str  # what happened, a sentence for people
    sender: str  # what the sender can do
    operator: str  # what the operator of this server can do
    retry: Retry


class Pattern(NamedTuple):
    """One row of the data: how a reply is recognized, and what it means."""

    id: str
    hosts: tuple[str, ...]  # names; () for every server
    codes: tuple[int, ...]  # 4 and 5 are all of 4yz and 5yz
    status: frozenset[str]  # enhanced status codes; empty: any
    has: tuple[str, ...]  # one of these texts; () for none
    regex: re.Pattern[str] | None
    temporary: Meaning  # what it means with a code of 4yz
    permanent: Meaning  # and with 5yz


class _Bucket(NamedTuple):
    """The patterns that a code may match."""

    by_host: Mapping[str, Sequence[Pattern]]
    general: Sequence[Pattern]


def match(host: str, code: int, status: str, text: str) -> Meaning | None:
    """What `host` means by a reply; None if it is not known, or is no refusal.

    `status` is the enhanced status code or "", `text` the reply without code and status, lines parted by line feeds.
    """
    if not 400 <= code <= 599:
        return None
    bucket = _bucket(code)
    said = text[:MAX_TEXT].lower().replace("\n", " ")
    if host:
        labels = host.lower().rstrip(".").rsplit(".", 6)
        name = labels[-1]
        for label in labels[-2::-1]:
            name = f"{label}.{name}"
            patterns = bucket.by_host.get(name)
            if patterns and (found := _first(patterns, status, said)) is not None:
                return found.temporary if code < 500 else found.permanent
    found = _first(bucket.general, status, said)
    if found is None:
        return None
    return found.temporary if code < 500 else found.permanent


def _first(patterns: Sequence[Pattern], status: str, said: str) -> Pattern | None:
    for pattern in patterns:
        if pattern.status and status not in pattern.status:
            continue
        if pattern.has:
            for text in pattern.has:
                if text in said:
                    break
            else:
                continue
        if pattern.regex is None or pattern.regex.search(said):
            return pattern
    return None


@cache  # 200 codes at the most
def _bucket(code: int) -> _Bucket:
    by_host: dict[str, list[Pattern]] = {}
    general = []
    for pattern in patterns():
        if code not in pattern.codes and code // 100 not in pattern.codes:
            continue
        for host in pattern.hosts:
            by_host.setdefault(host, []).append(pattern)
        if not pattern.hosts:
            general.append(pattern)
    return _Bucket(by_host, general)


@cache
def patterns() -> tuple[Pattern, ...]:
    """All patterns, in the order in which they are tried."""
    return parse(resources.files("posthouse.queue").joinpath("patterns.toml").read_text("utf-8"))


# Reading the data


def parse(text: str) -> tuple[Pattern, ...]:
    """The patterns of a TOML text; ValueError names the row that is wrong."""
    data = tomllib.loads(text)
    found: dict[str, Pattern] = {}
    for row in data["pattern"]:
        name = str(row.get("id"))
        try:
            pattern = _pattern(row, data["meaning"], data["hosts"])
        except (KeyError, TypeError, re.error, ValueError) as error:
            raise ValueError(f"pattern {name}: {error!r}") from error
        if found.setdefault(name, pattern) is not pattern:
            raise ValueError(f"pattern {name}: there are two")
    return tuple(found.values())


_KEYS = {"id", "provider", "hosts", "codes", "status", "has", "text", "meaning", "what", "sender", "operator", "retry"}


def _pattern(row: Mapping[str, Any], meanings: Mapping[str, Any], hosts: Mapping[str, Sequence[str]]) -> Pattern:
    if unknown := row.keys() - _KEYS:
        raise ValueError(f"{min(unknown)} is not known")
    has, regex = tuple(row.get("has", ())), row.get("text", "")
    if not has and not row.get("status"):
        raise ValueError("it would match everything: `has` or `status` is missing")
    if any(word != word.lower() or len(word) < 3 for word in has):
        raise ValueError("`has` holds texts in lower case, of three letters or more")
    if regex:
        check_regex(regex)
    if row.get("retry", "usual") not in RETRIES:
        raise ValueError(f"retry is one of {', '.join(RETRIES)}")
    return Pattern(
        id=row["id"],
        hosts=tuple(hosts[row["hosts"]]) if "hosts" in row else (),
        codes=tuple(row["codes"]),
        status=frozenset(row.get("status", ())),
        has=has,
        regex=re.compile(regex) if regex else None,
        temporary=_meaning(row, meanings[row["meaning"]], permanent=False),
        permanent=_meaning(row, meanings[row["meaning"]], permanent=True),
    )


def _meaning(row: Mapping[str, Any], usual: Mapping[str, str], *, permanent: bool) -> Meaning:
    return Meaning(
        id=row["id"],
        provider=row["provider"],
        meaning=row["meaning"],
        what=row.get("what", usual["what"]),
        sender=row.get("sender", usual["sender"]),
        operator=row.get("operator", usual["operator"]),
        retry=_retry(row.get("retry", ""), usual.get("retry", ""), permanent),
    )


def _retry(own: str, usual: str, permanent: bool) -> Retry:
    """A code of 5yz is final but with "later"; of 4yz, "later" says nothing that the word of the meaning does not."""
    if permanent:
        return "later" if own == "later" else "never"
    return cast(Retry, (own if own != "later" else "") or usual or "usual")


_class = re.compile(r"\[\^?\]?[^\]]*\]")
_counted = re.compile(r"\{(\d+),(\d+)\}")


def check_regex(regex: str) -> None:
    """Raise ValueError for an expression whose cost could grow faster than the text.

    There is no * and no +, no back-reference and no look-around; one counted repeat at most, of a single character or
    class, and few optional ones: so a search costs at most MAX_TEXT * MAX_REPEAT * 2 ** MAX_OPTIONAL steps.
    """
    plain = _class.sub("x", regex.replace("\\\\", "x").replace("\\", "\\\\"))
    if "\\\\" in plain and re.search(r"\\\\[^.\[\](){}?|/-]", plain):
        raise ValueError("only marks may follow a backslash")
    plain = re.sub(r"\\\\.", "x", plain)
    repeats = _counted.findall(plain)
    if "*" in plain or "+" in plain or len(repeats) > 1 or plain.count("{") != len(repeats):
        raise ValueError("* and + repeat without bound, and one {m,n} is enough")
    if any(int(most) > MAX_REPEAT for _, most in repeats) or "){" in plain:
        raise ValueError(f"a repeat goes up to {MAX_REPEAT}, of a character and not of a group")
    plain = plain.replace("(?:", "(")
    if "(?" in plain or plain.count("?") > MAX_OPTIONAL:
        raise ValueError(f"groups are (?:...), and {MAX_OPTIONAL} ? at the most")
