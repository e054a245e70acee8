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

_OURS = {name.lower().encode(): name for name in (authres.NAME, received_spf.NAME, "X-Posthouse-Tag")}
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
    """Which fields of one message from outside claim to be ours (RFC 8601 section 5); marks of filters always do, and
    with `marks_alone`, where nothing is verified, nothing else. Of results that could, the first `MOST_ASKED` are read
    and the others count as forged: the event loop waits while they are. `found` counts those that do, by name."""

    def __init__(self, authserv_id: str, hostname: str, *, marks_alone: bool = False) -> None:
        self.found: dict[str, int] = {}
        self._authserv_id, self._hostname = authserv_id, hostname
        self._marks_alone = marks_alone
        self._asked = 0

    def __call__(self, name: bytes, value: bytes) -> bool:
        """Whether this field does."""
        if name[:1] not in _FIRST:  # nearly all: this is asked of every field
            return False
        bare = _controls(b"", name).lower()
        if bare not in _OURS or not (bare == MARK or self._claims(bare, value)):
            return False
        self.found[_OURS[bare]] = self.found.get(_OURS[bare], 0) + 1
        return True

    def _claims(self, bare: bytes, value: bytes) -> bool:
        if self._marks_alone:
            return False
        self._asked += 1
        return (
            self._asked > MOST_ASKED
            or authres.claims(bare, value, self._authserv_id)
            or received_spf.claims(bare, value, self._hostname)
        )


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
