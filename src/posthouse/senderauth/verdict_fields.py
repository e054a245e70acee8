"""What is written on top of a message that was verified: Authentication-Results (RFC 8601) and Received-SPF (RFC 7208
section 9.1); and which fields of a message that comes in claim to be these and have to go. Pure.
"""

from collections.abc import Iterator

from posthouse.senderauth import authres, received_spf
from posthouse.senderauth.authres import Method
from posthouse.senderauth.policy import Decision
from posthouse.senderauth.verify import Verdict

MOST = 20  # signatures that are listed


def fields(verdict: Verdict, decision: Decision, authserv_id: str, hostname: str) -> bytes:
    """The fields, each with its line end."""
    client = verdict.client
    written = authres.render(authserv_id, methods(verdict, decision))
    said = verdict.mail_from or verdict.helo
    if said is not None:
        written += received_spf.render(said, hostname, client.ip, client.hello, client.sender)
    return written


def is_forged(name: bytes, value: bytes, authserv_id: str, hostname: str) -> bool:
    """Whether a field of a message from outside claims to be one of ours (RFC 8601 section 5)."""
    if name[:1] not in b"AaRr":  # nearly all: this is asked of every field
        return False
    return authres.claims(name, value, authserv_id) or received_spf.claims(name, value, hostname)


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
