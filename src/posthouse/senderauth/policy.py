"""What follows from a verdict: what is done with a message that fails DMARC, and whether its sender may be told of it.

The domain in From says what is to be done (RFC 9989); what we know better may overrule it (section 7.4 of RFC 9989 and
RFC 8617 section 7.2): a forwarder that is trusted and saw the message pass, a mailing list that is known, or settings
that only mark. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from posthouse.base.authentication_settings import Authentication
from posthouse.senderauth.verify import Verdict

Disposition = Literal["none", "quarantine", "reject", "defer"]


class Decision(NamedTuple):
    """What is done."""

    disposition: Disposition = "none"
    override: str = ""  # why not what the domain asks: a type of RFC 9990 ("trusted_forwarder", "mailing_list", …)
    because: str = ""  # the same in a sentence
    # The reverse-path: True: its domain answers for the message; False: somebody else wrote in its name; None: unknown
    sender: bool | None = None


NOTHING = Decision()


def decide(verdict: Verdict, chosen: Authentication) -> Decision:
    """What follows from a verdict."""
    sender = _sender(verdict)
    judged = verdict.dmarc
    if judged is None:
        return Decision(sender=sender)
    if judged.word == "temperror" and not verdict.had_turn and chosen.dmarc == "enforce":
        # Who makes us wait for his name servers must not get mail through by that.
        return Decision("defer", "", "too much mail waited for the DNS", sender)
    if judged.word == "temperror" and chosen.trouble == "defer":
        return Decision("defer", "", "the DNS gave no answer", sender)
    if judged.is_malformed:
        # Anybody could look like somebody whose mail is refused: people's programs make something of such a field.
        override, because = _override(verdict, chosen)
        because = because or "its From field does not say who wrote it"
        return Decision("none" if override else "reject", override, because, sender)
    if judged.word == "temperror" and judged.policy in ("quarantine", "reject"):
        # The sender chooses which names are asked for, of selectors for one: one that is missing can be his doing.
        override, because = _override(verdict, chosen)
        because = because or f"the DNS did not answer all, and {judged.domain} asks for {judged.policy}"
        return Decision("none" if override else "defer", override, because, sender)
    if judged.word != "fail":
        return Decision(sender=sender)
    override, because = _override(verdict, chosen) if judged.disposition != "none" else ("", "")
    if override:
        return Decision("none", override, because, sender)
    # What the domain asks for; milder than its policy if it only tests (t=y) or samples (pct).
    because = {"policy_test_mode": "the domain only tests (t=y)", "sampled_out": "by its pct"}.get(judged.override, "")
    return Decision(judged.disposition, judged.override, because, sender)


def _override(verdict: Verdict, chosen: Authentication) -> tuple[str, str]:
    if sealer := _trusted_sealer(verdict, chosen.trusted_sealers):
        return "trusted_forwarder", f"{sealer} saw it pass DMARC, and its seal (ARC) is trusted"
    if known := next((one for one in _proved(verdict) if _is_within(one, chosen.mailing_lists)), ""):
        return "mailing_list", f"{known} is a mailing list of the settings"
    if chosen.dmarc == "mark":
        return "local_policy", "this server marks mail that fails and does no more (authentication.dmarc)"
    if verdict.mail_from is None and verdict.helo is None:
        return "local_policy", "the address of the client is not known, so SPF could not be checked"
    return "", ""


def _trusted_sealer(verdict: Verdict, trusted: Sequence[str]) -> str:
    """The sealer that saw the message pass DMARC, if it and all that sealed after it are trusted: those before may have
    put the seals of another message on this one."""
    chain = verdict.arc
    if not trusted or chain is None or chain.word != "pass" or chain.weaknesses:
        return ""  # with a weakness, as a From field that is not signed, it may be on another message by now
    for sealer, results in zip(reversed(chain.sealers), reversed(chain.results), strict=False):
        if not _is_within(sealer, trusted):
            return ""
        if any(one.method == "dmarc" and one.result == "pass" for one in results.methods):
            return sealer
    return ""


def _proved(verdict: Verdict) -> Iterable[str]:
    """The domains that answer for the message."""
    yield from (one.domain for one in verdict.dkim if one.word == "pass")
    if verdict.mail_from is not None and verdict.mail_from.result == "pass":
        yield verdict.mail_from.domain


def _is_within(domain: str, domains: Iterable[str]) -> bool:
    return any(domain == one or domain.endswith(f".{one}") for one in domains)


def _are_related(one: str, other: str) -> bool:
    return bool(one and other) and (_is_within(one, (other,)) or _is_within(other, (one,)))


def _sender(verdict: Verdict) -> bool | None:
    """Whether the reverse-path is who it says (see `Decision`)."""
    domain = verdict.mail_from.domain if verdict.mail_from is not None else ""
    if not domain:
        return None
    if any(_is_within(domain, (one,)) for one in _proved(verdict)):
        return True
    assert verdict.mail_from is not None
    if verdict.mail_from.result == "fail":
        return False
    judged = verdict.dmarc
    is_forged = judged is not None and judged.word == "fail" and judged.policy in ("quarantine", "reject")
    return False if is_forged and any(_are_related(domain, author) for author in verdict.authors) else None
