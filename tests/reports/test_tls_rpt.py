"""TLS reports: what we write is read back, what others write is read, and what is hostile is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.reports import tls_rpt
from posthouse.reports.tls_rpt import Detail, PolicyResult, TlsReport, parse, write
from posthouse.reports.unpack import Unreadable

REPORT = TlsReport(
    "Example Ltd",
    "tls@there.test",
    "r1@there.test",
    1_700_000_000,
    1_700_086_399,
    (
        PolicyResult(
            "sts",
            "example.org",
            ("version: STSv1", "mode: enforce", "mx: *.example.org", "max_age: 86400"),
            ("*.example.org",),
            5326,
            303,
            (
                Detail("certificate-expired", 100, "2001:db8::1", "mx1.example.org"),
                Detail(
                    "validation-failure", 203, "198.51.100.62", "mx2.example.org", "mx2", "203.0.113.58", "why", "X"
                ),
            ),
        ),
        PolicyResult("no-policy-found", "example.org", successes=1),
    ),
)


def test_what_is_written_is_read_back_and_named_as_the_rfc_has_it() -> None:
    assert parse(write(REPORT)) == REPORT
    found = json.loads(write(REPORT))
    assert found["date-range"] == {"start-datetime": "2023-11-14T22:13:20Z", "end-datetime": "2023-11-15T22:13:19Z"}
    first, second = found["policies"]
    assert first["policy"]["mx-host"] == ["*.example.org"]
    assert first["summary"] == {"total-successful-session-count": 5326, "total-failure-session-count": 303}
    assert first["failure-details"][1]["failure-reason-code"] == "X"
    assert "failure-details" not in second


def _changed(**changes: Any) -> bytes:
    found = json.loads(write(REPORT))
    for path, value in changes.items():
        *way, last = path.split("__")
        place = found
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step.replace("_", "-")]
        place[last.replace("_", "-")] = value
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_changed(organization_name=None), {"organization": "there.test"}),
        (_changed(report_id="<x>"), {"report_id": "x"}),
        (_changed(report_id=7), {"report_id": "7"}),
        (_changed(date_range__start_datetime="2023-11-14T22:13:20"), {"begin": 1_700_000_000}),
        (_changed(date_range__start_datetime="2023-11-14T23:13:20+01:00"), {"begin": 1_700_000_000}),
        (_changed(date_range__start_datetime="2023-11-14T22:13:20.123Z"), {"begin": 1_700_000_000}),
        (_changed(date_range="yesterday"), {"begin": 0, "end": 0}),
        (_changed(policies__0__policy__policy_string="version: STSv1"), {"strings": ("version: STSv1",)}),
        (_changed(policies__0__policy__mx_host="mx.test"), {"mx": ("mx.test",)}),
        (_changed(policies__0__policy__policy_domain="Example.ORG."), {"domain": "example.org"}),
        (_changed(policies__0__summary__total_failure_session_count="303"), {"failures": 303}),
        (_changed(policies__0__summary__total_failure_session_count=-1), {"failures": 0}),
        (_changed(policies__0__summary__total_failure_session_count=1e400), {"failures": 0}),
        (_changed(policies__0__failure_details=None), {"details": ()}),
        (_changed(policies__0__failure_details={"result-type": "X\nY"}), {"details": (Detail("xy", 1),)}),
        (_changed(policies__0__failure_details=[1, [], {}]), {"details": (Detail("validation-failure", 1),)}),
    ],
)
def test_deviations_of_real_reporters(data: bytes, expected: dict[str, object]) -> None:
    report = parse(data)
    found = {**report._asdict(), **report.policies[0]._asdict()}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"policies": {}}',
        b'{"policies": []}',
        b'{"policies": [{}, 1, null]}',
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b'{"policies": ' + b"[" * 200_000,
        b'{"policies": [' + b"1" * 100_000 + b"]}",
        b'{"policies": [' + b"{}," * 1001 + b"{}]}",
        b'{"policies": [' + b"{}," * 2_000_000 + b"{}]}",
        b'{"policies": [' + b"0," * 2_000_000 + b"0]}",
        b'{"policies": [], "a": "' + b"x" * 9_000_000 + b'"}',
        _changed(policies__0__failure_details=[{}] * (tls_rpt.MAX_DETAILS + 1)),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(_json, st.sampled_from(["policies", "policies__0", "policies__0__policy", "policies__0__summary"]), _json)
def test_nothing_but_unreadable_is_raised(one: Any, where: str, other: Any) -> None:
    if where.endswith("0"):
        data = json.loads(write(REPORT)) | {"policies": [one, other], "date-range": other}
        text = json.dumps(data).encode()
    else:
        text = _changed(**{where: one, "contact_info": other})
    try:
        parse(text)
    except Unreadable:
        pass
