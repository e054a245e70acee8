"""Another reader of DMARC reports understands ours, and we understand the same of what it reads."""

from typing import Any

import pytest
from hypothesis import given

from posthouse.reports import letters
from posthouse.reports.dmarc_aggregate import Aggregate, parse, write
from posthouse.reports.unpack import Unreadable
from tests.reports.test_dmarc_aggregate import DEVIATIONS, reports
from tests.support.clients import package

parser = package("dmarc_report.parser")
exceptions = package("dmarc_report.exceptions")


def _theirs(data: bytes) -> dict[str, Any]:
    found = parser.DMARCParser.parse_bytes(data)
    meta, policy = found.report_metadata, found.policy_published
    return {
        "organization": meta.org_name,
        "id": meta.report_id.strip("<>"),
        "range": (meta.date_range.begin, meta.date_range.end),
        "domain": policy.domain.lower().rstrip("."),
        "p": str(policy.p),
        "records": [
            (
                str(one.source_ip),
                one.count,
                str(one.policy_evaluated.disposition),
                str(one.policy_evaluated.dkim),
                str(one.policy_evaluated.spf),
                one.identifiers.header_from,
                [(each.domain, each.selector or "", str(each.result)) for each in one.auth_results.dkim],
                [(each.domain, str(each.result)) for each in one.auth_results.spf],
            )
            for one in found.records
        ],
    }


def _ours(report: Aggregate) -> dict[str, Any]:
    return {
        "organization": report.organization,
        "id": report.report_id,
        "range": (report.begin, report.end),
        "domain": report.policy.domain,
        "p": report.policy.p,
        "records": [
            (
                one.source_ip,
                one.messages,
                one.disposition,
                one.dkim,
                one.spf,
                one.header_from,
                list(one.dkim_results),
                [(domain, result) for domain, _, result in one.spf_results],
            )
            for one in report.records
        ],
    }


@given(reports)
def test_it_reads_what_we_write(report: Aggregate) -> None:
    assert _theirs(letters.packed(write(report))) == _ours(report)


def test_of_real_deviations_we_read_what_it_reads_and_more() -> None:
    both = 0
    for name, data, _ in DEVIATIONS:
        if name == "an address in the other's clothes":  # it leaves them on
            continue
        raw = data.encode() if isinstance(data, str) else data
        try:
            theirs = _theirs(raw)
        except exceptions.DMARCParseError:  # it is stricter
            continue
        both += 1
        assert _ours(parse(raw)) == theirs, name
    assert both >= 5


def test_both_refuse_entities() -> None:
    bomb = b'<!DOCTYPE f [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><feedback><record>&b;</record></feedback>'
    with pytest.raises(exceptions.DMARCParseError):
        parser.DMARCParser.parse_bytes(bomb)
    with pytest.raises(Unreadable):
        parse(bomb)
