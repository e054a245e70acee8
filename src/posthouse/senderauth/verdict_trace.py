"""Everything that a verdict rests on, as values for the trace (docs/explain.md lists them): results with their records,
keys and hashes, how they are aligned, what was decided and why, and each answer of the DNS. Pure.

Every message pays for it with disk, so what is empty is left out and everything has a limit.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from posthouse.net.dns import Answer
from posthouse.senderauth import arc, dkim, dmarc, spf
from posthouse.senderauth.policy import Decision
from posthouse.senderauth.verify import Verdict

MOST_ANSWERS = 40  # of the DNS
MOST_VALUES = 10  # of one answer
MOST_SIGNATURES = 10
MOST_SENTENCES = 20
MOST_CHARACTERS = 500  # of one text: the record of a key of 2048 bits has 410


def trace(verdict: Verdict, decision: Decision) -> dict[str, Any]:
    """The values, ready for JSON."""
    told: dict[str, Any] = {
        "spf": [_spf(one) for one in verdict.spf],
        "dkim": [_dkim(one, verdict) for one in verdict.dkim[:MOST_SIGNATURES]],
        "dkim_more": max(0, len(verdict.dkim) - MOST_SIGNATURES),
    }
    if verdict.iprev is not None:
        found = verdict.iprev
        told["iprev"] = _given(result=found.result, name=found.name, reason=found.reason)
    chain = verdict.arc
    if chain is not None and chain.word != "none":
        told["arc"] = _given(
            result=chain.word,
            reason=chain.reason,
            sealers=list(chain.sealers[-MOST_SIGNATURES:]),  # the newest are the last
            sets=[_seal(one) for one in chain.sets[-MOST_SIGNATURES:]],
            body_hash=chain.body_hash,
            weak=[_cut(one) for one in chain.weaknesses[:MOST_VALUES]],
        )
    if verdict.dmarc is not None:
        judged = verdict.dmarc
        told["dmarc"] = _given(
            result=judged.word,
            author=judged.domain or ", ".join(verdict.authors[:3]),
            policy=judged.policy,
            policy_domain=judged.policy_domain,
            organization=judged.organization,
            record=judged.record,
            aligned=[name for name, is_so in (("spf", judged.aligned_spf), ("dkim", judged.aligned_dkim)) if is_so],
            because=[_cut(one) for one in judged.because[:MOST_SENTENCES]],
        )
    indicator = verdict.bimi
    if indicator is not None and indicator.word not in ("none", "skipped"):
        told["bimi"] = _given(
            result=indicator.word,
            domain=indicator.domain,
            selector=indicator.selector,
            location=indicator.location,
            evidence=indicator.evidence,
            because=indicator.because,
        )
    told |= _given(done=decision.disposition, override=decision.override, because=decision.because)
    if decision.sender is not None:
        told["sender"] = decision.sender
    told["dns"] = _answers(verdict.seen.items())
    told["dns_more"] = max(0, len(verdict.seen) - MOST_ANSWERS)
    return {key: value for key, value in told.items() if value not in ([], 0, "", {}) or value is False}


def _spf(said: spf.Result) -> dict[str, Any]:
    return _given(
        result=said.result,
        identity=said.identity,
        domain=said.domain,
        record=said.record,
        mechanism=said.mechanism,
        problem=said.problem,
        explanation=said.explanation,
    )


def _dkim(said: dkim.Result, verdict: Verdict) -> dict[str, Any]:
    judged = verdict.dmarc
    return _given(
        result=said.word,
        reason=said.reason,
        domain=said.domain,
        selector=said.selector,
        identity=said.identity if said.identity != f"@{said.domain}" else "",
        algorithm=said.algorithm,
        bits=said.bits,
        canon=said.canon,
        signed=" ".join(said.signed),
        body_hash=said.body_hash,
        header_hash=said.header_hash,
        weak=[_cut(one) for one in said.weaknesses[:MOST_VALUES]],
        testing=said.testing,
        tag=said.tag,
    ) | ({"aligned": True} if judged is not None and _is_aligned(said, judged) else {})


def _seal(said: arc.Seen) -> dict[str, Any]:
    """One set of a chain. What its sealer saw is told, as a trusted one may decide."""
    return _given(
        instance=said.instance,
        sealer=said.sealer,
        selector=said.selector,
        algorithm=said.algorithm,
        bits=said.bits,
        cv=said.cv,
        seal=said.seal,
        seal_hash=said.seal_hash,
        signer=said.signer if said.signer != said.sealer else "",
        message=said.message,
        header_hash=said.header_hash,
        reason=said.reason,
        saw=" ".join(f"{one.method}={one.result}" for one in said.results.methods[:MOST_VALUES]),
    )


def _is_aligned(said: dkim.Result, judged: dmarc.Result) -> bool:
    """Whether a signature proves the author. What `dmarc.evaluate` looked up is used, nothing is looked up again."""
    if not judged.aligned_dkim or said.word != "pass" or said.domain == judged.domain:
        return judged.aligned_dkim and said.word == "pass"
    strict = judged.published is not None and judged.published.strict_dkim
    return not strict and f".{said.domain}".endswith(f".{judged.organization}")


def _answers(seen: Iterable[tuple[tuple[str, str], Answer | str]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for (name, kind), said in seen:
        if len(found) == MOST_ANSWERS:
            break
        one: dict[str, Any] = {"name": _cut(name), "kind": kind}
        if isinstance(said, str):
            one["failure"] = said
        elif said.values:
            one["values"] = [_cut(_text(value)) for value in said.values[:MOST_VALUES]]
            if len(said.values) > MOST_VALUES:
                one["more"] = len(said.values) - MOST_VALUES
        if isinstance(said, Answer) and said.secure:
            one["secure"] = True
        found.append(one)
    return found


def _text(value: Any) -> str:
    match value:
        case bytes():
            return value[:MOST_CHARACTERS].decode("utf-8", "replace")
        case (preference, host):
            return f"{preference} {host or '.'}"
        case _:
            return str(value)


def _given(**values: Any) -> dict[str, Any]:
    """What there is of some values, cut."""
    found: Mapping[str, Any] = {name: _cut(one) if isinstance(one, str) else one for name, one in values.items()}
    return {name: one for name, one in found.items() if one not in ("", None, [], 0, False)}


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
