"""What is written on top of a message that was verified: Authentication-Results (RFC 8601) and Received-SPF (RFC 7208
section 9.1); and which fields of a message that comes in claim to be these, or marks of our filters, and have to go.
Pure.
"""

import re
from collections.abc import Iterator

from posthouse.senderauth import authres, received_spf
from posthouse.senderauth.authres import Method
from posthouse.senderauth.policy import Decision
from posthouse.senderauth.verify import Verdict

MOST = 20  # signatures that are listed
MARK = b"x-posthouse-tag"  # of the action "tag": later rules, and filters of people, go by it
MOST_ASKED = 100  # fields of a message

_OURS = frozenset({authres.NAME.lower().encode(), received_spf.NAME.lower().encode()})
_FIRST = b"AaRrXx" + bytes(range(32)) + b"\x7f"
_controls = re.compile(rb"[\x00-\x1f\x7f]+").sub  # which some programs pass over, or end a text at


def fields(verdict: Verdict, decision: Decision, authserv_id: str, hostname: str) -> bytes:
    """The fields, each with its line end."""
    client = verdict.client
    written = authres.render(authserv_id, methods(verdict, decision))
    said = verdict.mail_from or verdict.helo
    if said is not None:
        written += received_spf.render(said, hostname, client.ip, client.hello, client.sender)
    return written


class Forged:
    """Which fields of one message from outside claim to be ours (RFC 8601 section 5); marks of filters always do. Of
    results that could, the first `MOST_ASKED` are read and the others count as forged: the event loop waits while they
    are."""

    def __init__(self, authserv_id: str, hostname: str) -> None:
        self._authserv_id, self._hostname = authserv_id, hostname
        self._asked = 0

    def __call__(self, name: bytes, value: bytes) -> bool:
        """Whether this field does."""
        if name[:1] not in _FIRST:  # nearly all: this is asked of every field
            return False
        bare = _controls(b"", name).lower()
        if bare not in _OURS:
            return bare == MARK
        self._asked += 1
        return (
            self._asked > MOST_ASKED
            or authres.claims(bare, value, self._authserv_id)
            or received_spf.claims(bare, value, self._hostname)
        )


def is_mark(name: bytes, _value: bytes) -> bool:
    """Whether a field is a mark of filters: that alone goes where nothing is verified."""
    return name[:1] in _FIRST and _controls(b"", name).lower() == MARK


def methods(verdict: Verdict, decision: Decision) -> Iterator[Method]:
    """The results, as Authentication-Results has them."""
    client = verdict.client
    if verdict.iprev is not None:
        yield Method("iprev", verdict.iprev.result, "", (("policy.iprev", client.ip),), verdict.iprev.name)
    if verdict.mail_from is not None:
        yield Method("spf", verdict.mail_from.result, "", (("smtp.mailfrom", client.sender),))
    if verdict.helo is not None:
        yield Method("spf", verdict.helo.result, "", (("smtp.helo", client.hello),))
    for one in verdict.dkim[:MOST]:
        said = ("d", one.domain), ("s", one.selector), ("a", one.algorithm), ("b", one.tag)
        yield Method("dkim", one.word, one.reason, tuple([(f"header.{tag}", value) for tag, value in said if value]))
    if not verdict.dkim:
        yield Method("dkim", "none")
    chain = verdict.arc
    if chain is not None and chain.word != "none":
        oldest = (("header.oldest-pass", str(chain.oldest_pass)),) if chain.oldest_pass is not None else ()
        yield Method("arc", chain.word, chain.reason, (("smtp.remote-ip", client.ip), *oldest))
    judged = verdict.dmarc
    if judged is not None:
        asked = f"p={judged.policy} dis={decision.disposition}" if judged.policy else ""
        author = judged.domain or ", ".join(verdict.authors[:3])
        yield Method("dmarc", judged.word, "", (("header.from", author),) if author else (), asked)
