"""What was found of who sent a message, for its story: a line for each thing that a decision rested on. Pure: values
of `senderauth/verdict_trace.py` in, lines out.

What domains wrote is hostile and long: `timeline.py` shows what does not print as escapes, and long lists are cut here
(the JSON of the command has all).
"""

from collections.abc import Mapping
from typing import Any

from posthouse.cli.timeline import Line, Part

MOST = 10  # of a list
MOST_ANSWERS = 40  # of the DNS: all that the trace has
MOST_CHARACTERS = 300  # of what a domain wrote
_STYLES = {
    "pass": "good",
    "fail": "bad",
    "softfail": "wait",
    "temperror": "wait",
    "permerror": "wait",
    "policy": "wait",
}
_WHO = {"mailfrom": "the sender", "helo": "the greeting"}
_DONE = {
    "quarantine": ("put into the mailbox for junk, as its domain asks", "wait"),
    "reject": ("refused, as its domain asks", "bad"),
    "defer": ("put off, as the DNS did not answer", "wait"),
}
_OVERRIDES = {
    "trusted_forwarder": "not done what its domain asks, by a forwarder that is trusted",
    "mailing_list": "not done what its domain asks, by a mailing list that is known",
    "local_policy": "not done what its domain asks, by the settings",
    "policy_test_mode": "done less than the policy says",
    "sampled_out": "done less than the policy says",
}


def authentication(found: Mapping[str, Any]) -> list[Line]:
    """The lines; none if nothing was looked at."""
    if not found:
        return []
    lines = [_line("Who sent it", depth=1)]
    lines += [_said("SPF", one, _spf(one)) for one in found.get("spf", ())]
    lines += [_said("DKIM", one, _dkim(one)) for one in found.get("dkim", ())]
    if not found.get("dkim"):
        lines.append(_line("DKIM: no signature"))
    lines += _more(found.get("dkim_more", 0))
    if chain := found.get("arc"):
        sealers = f"sealed by {', '.join(chain.get('sealers', ()))}" if chain.get("sealers") else ""
        body = f"body {chain['body_hash']}" if chain.get("body_hash") else ""
        lines.append(_said("ARC", chain, _joined(sealers, chain.get("reason", ""), body)))
        lines += [_line((_seal(one), "dim"), depth=3) for one in chain.get("sets", ())[-MOST:]]
    if name := found.get("iprev"):
        lines.append(_said("Name of the client", name, name.get("name") or name.get("reason", "")))
    if judged := found.get("dmarc"):
        lines.append(_said("DMARC", judged, _dmarc(judged)))
        lines += [_line((text, "dim"), depth=3) for text in judged.get("because", ())[:MOST]]
    if indicator := found.get("bimi"):
        lines.append(_said("Indicator (BIMI)", indicator, _joined(*_rest(indicator))))
    text, style = _DONE.get(found.get("done", ""), ("", ""))
    if found.get("done") == "reject" and "because" in found:
        text = "refused"  # not for a policy, but for what it is
    text = text or _OVERRIDES.get(found.get("override", ""), "")
    if text:
        lines.append(_line((text[0].upper() + text[1:], style), f": {found['because']}" if "because" in found else ""))
    return lines + _dns(found)


def _line(*parts: Part | str, depth: int = 2) -> Line:
    return Line(0, tuple((part, "") if isinstance(part, str) else part for part in parts), depth)


def _more(count: int) -> list[Line]:
    return [_line((f"and {count} more", "dim"))] if count > 0 else []


def _said(what: str, said: Mapping[str, Any], text: str) -> Line:
    word = str(said.get("result", "?"))
    return _line(f"{what}: ", (word, _STYLES.get(word, "")), f": {text}" if text else "")


def _joined(*texts: str) -> str:
    return ", ".join(text for text in texts if text)


def _rest(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} {_cut(str(value))}" for name, value in values.items() if name != "result"]


def _spf(said: Mapping[str, Any]) -> str:
    whom = f"{said.get('domain', '?')} ({_WHO.get(said.get('identity', ''), '?')})"
    if said.get("problem"):
        return f"{whom}: {said['problem']}"
    by = f"matched by {said['mechanism']}" if said.get("mechanism") else "nothing in it matched"
    return f"{whom}, {by} of: {_cut(said.get('record', ''))}"


def _dkim(said: Mapping[str, Any]) -> str:
    if not said.get("domain"):
        return str(said.get("reason", ""))
    bits = f" {said['bits']}" if said.get("bits") else ""
    return _joined(
        str(said["domain"]),
        f"key {said.get('selector', '')} ({said.get('algorithm', '')}{bits})",
        str(said.get("canon", "")),
        "of the author's organization" if said.get("aligned") else "",
        str(said.get("reason", "")),
        *map(str, said.get("weak", ())),
        f"body {said['body_hash']}" if said.get("body_hash") else "",
        f"header {said['header_hash']}" if said.get("header_hash") else "",
    )


def _seal(said: Mapping[str, Any]) -> str:
    how = " ".join(str(said[name]) for name in ("algorithm", "bits") if said.get(name))
    return _joined(
        f"{said.get('instance', '?')}: {said.get('sealer', '?')}, key {said.get('selector', '')} ({how})",
        f"cv={said['cv']}" if said.get("cv") else "",
        _checked("seal", said.get("seal"), said.get("seal_hash")),
        _checked("message", said.get("message"), said.get("header_hash")),
        str(said.get("reason", "")),
        f"saw {_cut(said['saw'])}" if said.get("saw") else "",
    )


def _checked(what: str, word: str | None, digest: str | None) -> str:
    if not word:
        return ""
    return f"{what} {word} for {digest}" if digest else f"{what} {word}"


def _dmarc(judged: Mapping[str, Any]) -> str:
    author = judged.get("author") or "no author"
    if not judged.get("policy_domain"):
        return author
    asks = f"asks for {judged['policy']}" if judged.get("policy") else "asks for nothing"
    return f"{author}, {judged['policy_domain']} {asks}: {_cut(judged.get('record', ''))}"


def _dns(found: Mapping[str, Any]) -> list[Line]:
    answers = found.get("dns", ())
    lines = [_line("The DNS said")] if answers else []
    for one in answers[:MOST_ANSWERS]:
        values = _cut(", ".join(one.get("values", ())))
        said = one.get("failure") or values or "no such record"
        secure = " (DNSSEC)" if one.get("secure") else ""
        lines.append(_line((f"{one.get('name', '')} {one.get('kind', '')}{secure}: {said}", "dim"), depth=3))
    return lines + _more(max(0, len(answers) - MOST_ANSWERS) + found.get("dns_more", 0))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
