"""Makes reports of what was counted: rows of `store/report_counts.py` to the values of `reports`. Pure.

The forms of facts and policies are those that `senderauth/tally.py` and `queue/tls_counts.py` write. Rows that are not
of that form (another version wrote them) are left out.
"""

from collections.abc import Iterable
from typing import Any

from posthouse.reports.dmarc_aggregate import Aggregate, Published, Record
from posthouse.reports.letters import From
from posthouse.reports.tls_rpt import Detail, PolicyResult, TlsReport
from posthouse.senderauth import dmarc_record
from posthouse.store.report_counts import Period
from posthouse.store.sts import StoredPolicy

_REASONS = ("local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder")  # RFC 9990 section 3.1.6

Counts = Iterable[tuple[list[Any], int]]


def dmarc(period: Period, counts: Counts, who: From, unique: str, begin: int, end: int, generator: str) -> Aggregate:
    """The DMARC report about a period. Times are seconds."""
    text, discovery = (*period.policy, "", "")[:2]
    policy = _published(period.domain, str(text), str(discovery))
    errors = [f"{period.lost} messages are not in this report"] if period.lost else []
    errors += dmarc_record.parse(str(text).encode("ascii", "replace")).mistakes
    records = [one for facts, number in counts if (one := _record(facts, number, policy)) is not None]
    return Aggregate(
        organization=who.organization,
        email=who.contact,
        report_id=unique,
        begin=begin,
        end=end,
        policy=policy,
        records=tuple(records),
        errors=tuple(errors[:10]),
        generator=generator,
    )


def _published(domain: str, text: str, discovery: str) -> Published:
    """What the record asks for; what it does not say has its default (RFC 9990 section 3.1.1.5)."""
    record = dmarc_record.parse(text.encode("ascii", "replace"))
    return Published(
        domain,
        p=record.policy(inherited=False),  # none if a policy cannot be read, as nothing is applied then
        sp=record.policy(inherited=True),
        np=record.policy(inherited=True, exists=False),
        adkim=record.adkim,
        aspf=record.aspf,
        fo=":".join(record.fo),
        testing="y" if record.testing else "n",
        discovery=discovery,
    )


def _record(facts: list[Any], number: int, published: Published) -> Record | None:
    try:
        ip, header_from, envelope_from, spf, dkim, aligned_spf, aligned_dkim, disposition, reasons = facts
        passes = "pass" in (aligned_spf, aligned_dkim)
        # Of a name below, whose existence (np) is not among the facts, it is the policy for those that are there.
        policy = published.p if header_from == published.domain else published.sp
        return Record(
            source_ip=ip,
            messages=number,
            # "pass": there was a policy to apply, and no need for it.
            disposition="pass" if passes and policy != "none" and disposition == "none" else disposition,
            dkim=aligned_dkim,
            spf=aligned_spf,
            header_from=header_from,
            envelope_from=envelope_from,
            reasons=tuple(
                (kind, comment) if kind in _REASONS else ("other", comment or kind) for kind, comment in reasons
            ),
            dkim_results=tuple((domain, selector, result) for domain, selector, result in dkim),
            spf_results=((spf[0], spf[1], spf[2]),) if spf[0] else (),
        )
    except (ValueError, TypeError, IndexError):
        return None


def tls(
    period: Period, counts: Counts, who: From, unique: str, begin: int, end: int, policy: StoredPolicy | None
) -> TlsReport:
    """The TLS report about a period. `policy` is that of MTA-STS, if one is known. Times are seconds."""
    found: dict[str, tuple[int, list[Detail]]] = {}
    for facts, number in counts:
        try:
            kind, result, host, ip = map(str, facts)
        except ValueError:
            continue
        good, details = found.get(kind, (0, []))
        if result:
            details.append(Detail(result, number, host=host, receiving_ip=ip))
        found[kind] = (good if result else good + number, details)
    return TlsReport(
        organization=who.organization,
        contact=who.contact,
        report_id=f"{unique}@{who.domain}",
        begin=begin,
        end=end,
        policies=tuple(
            PolicyResult(
                kind,
                period.domain,
                strings=_strings(kind, period, policy),
                mx=policy.mx if policy is not None and kind == "sts" else (),
                successes=good,
                failures=sum(one.sessions for one in details),
                details=tuple(details),
            )
            for kind, (good, details) in sorted(found.items())
        ),
    )


def _strings(kind: str, period: Period, policy: StoredPolicy | None) -> tuple[str, ...]:
    if kind == "tlsa":
        return tuple(map(str, period.policy))
    if kind == "sts" and policy is not None:
        return (
            "version: STSv1",
            f"mode: {policy.mode}",
            *(f"mx: {one}" for one in policy.mx),
            f"max_age: {policy.max_age}",
        )
    return ()
