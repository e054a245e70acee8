"""DMARC aggregate reports: what we write is read back, what others write is read, and what is hostile is refused."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.reports import dmarc_aggregate
from posthouse.reports.dmarc_aggregate import NAMESPACE, Aggregate, Published, Record, parse, write
from posthouse.reports.unpack import Unreadable

_text = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=30)
_domain = st.from_regex(r"[a-z]{1,10}\.test", fullmatch=True)
_label = st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True)
_word = st.sampled_from(["pass", "fail"])
_result = st.sampled_from(["none", "pass", "fail", "neutral", "policy", "temperror", "permerror"])
_records = st.builds(
    Record,
    source_ip=st.ip_addresses().filter(lambda ip: getattr(ip, "ipv4_mapped", None) is None).map(str),
    messages=st.integers(1, 10**9),
    disposition=st.sampled_from(["none", "pass", "quarantine", "reject"]),
    dkim=_word,
    spf=_word,
    header_from=_domain,
    envelope_from=_domain | st.just(""),
    envelope_to=_domain | st.just(""),
    reasons=st.lists(st.tuples(st.just("local_policy"), _text | st.just("")), max_size=3).map(tuple),
    dkim_results=st.lists(st.tuples(_domain, _label, _result), max_size=3).map(tuple),
    spf_results=st.lists(st.tuples(_domain, st.just("mfrom"), _result), max_size=1).map(tuple),
)
_policies = st.builds(
    Published,
    domain=_domain,
    p=st.sampled_from(["none", "quarantine", "reject"]),
    sp=st.sampled_from(["", "none"]),
    np=st.sampled_from(["", "reject"]),
    adkim=st.sampled_from(["", "r", "s"]),
    aspf=st.sampled_from(["", "r"]),
    fo=st.sampled_from(["", "0:1:d"]),
    testing=st.sampled_from(["", "y"]),
    discovery=st.sampled_from(["", "treewalk"]),
    pct=st.just(""),
)
reports = st.builds(
    Aggregate,
    organization=_text,
    email=_text,
    report_id=st.from_regex(r"[0-9a-z]{1,24}(@[a-z]{1,9}\.test)?", fullmatch=True),
    begin=st.just(1_700_000_000),
    end=st.just(1_700_086_399),
    policy=_policies,
    records=st.lists(_records, min_size=1, max_size=4).map(tuple),
    extra_contact=_text | st.just(""),
    errors=st.lists(_text, max_size=1).map(tuple),
    generator=_text | st.just(""),
)


@given(reports)
def test_what_is_written_is_read_back(report: Aggregate) -> None:
    assert parse(write(report)) == report


ROW = (
    "<row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>none</disposition>"
    "<dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>"
)
META = (
    "<report_metadata><org_name>There</org_name><email>r@there.test</email><report_id>r1</report_id>"
    "<date_range><begin>1700000000</begin><end>1700086399</end></date_range></report_metadata>"
)
POLICY = "<policy_published><domain>example.org</domain><p>none</p></policy_published>"
IDS = "<identifiers><header_from>example.org</header_from></identifiers>"
AUTH = "<auth_results><spf><domain>example.org</domain><result>fail</result></spf></auth_results>"


def feedback(*, meta: str = META, policy: str = POLICY, row: str = ROW, ids: str = IDS, auth: str = AUTH) -> str:
    return f"<feedback>{meta}{policy}<record>{row}{ids}{auth}</record></feedback>"


def test_the_order_of_elements_is_that_of_the_schema() -> None:
    record = Record(
        "192.0.2.1",
        1,
        "none",
        "fail",
        "fail",
        "example.org",
        "",
        reasons=(("other", "<a&b>\x00"),),
        dkim_results=(("example.org", "s", "pass"),) * 200,
        spf_results=(("mx.example.org", "helo", "pass"), ("second.test", "mfrom", "pass")),
    )
    text = write(Aggregate("O", "o@o.test", "1", 1, 2, Published("example.org", pct="50"), (record,)))
    root = ElementTree.fromstring(text)
    assert root.tag == f"{{{NAMESPACE}}}feedback"
    names = [element.tag.partition("}")[2] for element in root.iter()]
    assert names[:4] == ["feedback", "version", "report_metadata", "org_name"]
    told = root.find(f"{{{NAMESPACE}}}record")
    assert told is not None
    assert [element.tag.partition("}")[2] for element in told] == ["row", "identifiers", "auth_results"]
    results = told[2]
    assert len(results) == dmarc_aggregate.MAX_RESULTS + 1  # RFC 9990 section 3.1.3, and one SPF result
    assert [element.tag.partition("}")[2] for element in results[-1]] == ["domain", "result"]  # helo is no scope
    assert "pct" not in names
    [reason] = told.iter(f"{{{NAMESPACE}}}comment")
    assert reason.text == "<a&b>"


# What reporters do, and what of it is expected in the record or report.
DEVIATIONS: list[tuple[str, str | bytes, dict[str, object]]] = [
    ("a namespace", feedback().replace("<feedback", '<feedback xmlns="http://dmarc.org/dmarc-xml/0.1"'), {}),
    (
        "a prefix",
        re.sub(r"<(/?)", r"<\1ns1:", feedback()).replace("<ns1:feedback", '<ns1:feedback xmlns:ns1="urn:x"'),
        {},
    ),
    ("blank lines and a mark before it", "\ufeff\r\n\n<?xml version='1.0'?>" + feedback(), {}),
    ("another encoding", b'<?xml version="1.0" encoding="windows-1252"?>' + feedback().encode(), {}),
    ("UTF-16", feedback().encode("utf-16"), {}),
    (
        "wrong octets in a name",
        b'<?xml version="1.0" encoding="UTF-8"?>' + feedback().replace("There", "Th\x02\xe9re").encode("latin-1"),
        {"organization": "Th\ufffdre"},
    ),
    ("no name of the organization", feedback(meta=META.replace("There", "")), {"organization": "there.test"}),
    (
        "brackets around the id",
        feedback(meta=META.replace("r1", "&lt;r1@there.test&gt;")),
        {"report_id": "r1@there.test"},
    ),
    ("milliseconds", feedback(meta=META.replace("1700086399", "1700086399000")), {"end": 1_700_086_399}),
    ("fractions", feedback(meta=META.replace("1700086399", "1700086399.5")), {"end": 1_700_086_399}),
    ("a range the wrong way round", feedback(meta=META.replace("<begin>17", "<begin>18")), {"begin": 1_700_086_399}),
    ("a domain with a dot and capitals", feedback(policy=POLICY.replace("example.org", "Example.ORG.")), {}),
    ("two policies", feedback(policy=POLICY * 2), {}),
    ("no policy but a domain", feedback(policy=POLICY.replace("<p>none</p>", "")), {}),
    ("results in capitals", feedback(row=ROW.replace("pass", "Pass")), {"dkim": "pass"}),
    ("no results", feedback(row=ROW.replace("<dkim>pass</dkim><spf>fail</spf>", "")), {"dkim": "fail", "spf": "fail"}),
    ("an odd disposition", feedback(row=ROW.replace("none", "Temporary error")), {"disposition": "none"}),
    ("no count", feedback(row=ROW.replace("<count>2</count>", "")), {"messages": 1}),
    ("a count below zero", feedback(row=ROW.replace(">2<", ">-7<")), {"messages": 0}),
    ("a count out of this world", feedback(row=ROW.replace(">2<", f">{'9' * 400}<")), {"messages": 10**12}),
    ("blanks", feedback(row=ROW.replace("192.0.2.1", "\n 192.0.2.1 \n")), {"source_ip": "192.0.2.1"}),
    ("an address in the other's clothes", feedback(row=ROW.replace("192", "::ffff:192")), {"source_ip": "192.0.2.1"}),
    ("no address", feedback(row=ROW.replace("192.0.2.1", "unknown")), {"source_ip": "unknown"}),
    ("no identifiers", feedback(ids=""), {"header_from": ""}),
    ("identities", feedback(ids=IDS.replace("identifiers", "identities")), {"header_from": "example.org"}),
    (
        "an address for a domain",
        feedback(ids=IDS.replace("</i", "<envelope_from>&lt;a@B.test&gt;</envelope_from></i")),
        {"envelope_from": "b.test"},
    ),
    ("no results of checks", feedback(auth=""), {"spf_results": ()}),
    (
        "several signatures without selectors, several SPF results, words of nobody",
        feedback(
            auth="<auth_results><dkim><domain>a.test</domain><result>PASS</result></dkim>"
            "<dkim><domain>b.test</domain><result>hardfail</result><selector>s</selector></dkim>"
            "<spf><domain>c.test</domain><result>unknown</result></spf><spf><domain>d.test</domain></spf></auth_results>"
        ),
        {
            "dkim_results": (("a.test", "", "pass"), ("b.test", "s", "fail")),
            "spf_results": (("c.test", "", "permerror"), ("d.test", "", "none")),
        },
    ),
    (
        "extensions",
        feedback(auth=AUTH + '<x:arc xmlns:x="urn:x"><x:row><x:count>9</x:count></x:row></x:arc>'),
        {"messages": 2},
    ),
    ("a comment and CDATA", feedback().replace("There", "<!-- x --><![CDATA[Th&ere]]>"), {"organization": "Th&ere"}),
]


@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in DEVIATIONS], ids=[case[0] for case in DEVIATIONS])
def test_deviations_of_real_reporters(data: str | bytes, expected: dict[str, object]) -> None:
    report = parse(data.encode() if isinstance(data, str) else data)
    [record] = report.records
    found = {**report._asdict(), **record._asdict(), "domain": report.policy.domain}
    expected = {"domain": "example.org", "source_ip": "192.0.2.1", "messages": 2, **expected}
    assert {name: found[name] for name in expected} == expected


BAD: list[tuple[str, str | bytes, str]] = [
    ("nothing", b"", "damaged"),
    ("no XML", b"hello", "damaged"),
    ("another kind", b"<html><body/></html>", "no DMARC report"),
    ("no records", f"<feedback>{META}{POLICY}</feedback>", "no record"),
    ("no domain", feedback(policy=""), "about which domain"),
    ("cut", feedback()[:-20], "damaged"),
    ("wrong nesting", feedback().replace("</row>", ""), "damaged"),
    ("an encoding of nobody", '<?xml version="1.0" encoding="klingon"?>' + feedback(), "cannot be read|damaged"),
    (
        "entities",
        '<!DOCTYPE f [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + feedback().replace("There", "&b;"),
        "declares",
    ),
    ("an outer entity", '<!DOCTYPE f [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + feedback(), "declares"),
    ("a document type", '<!DOCTYPE feedback SYSTEM "http://there.test/x.dtd">' + feedback(), "declares"),
    ("deep", "<feedback>" + "<a>" * 100_000, "deeper"),
    ("an unknown entity", feedback().replace("There", "&lol;"), "damaged"),
]


@pytest.mark.parametrize(("data", "why"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_refused(data: str | bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parse(data.encode() if isinstance(data, str) else data)


def test_there_is_an_end_to_records_elements_and_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dmarc_aggregate, "MAX_RECORDS", 5)
    record = f"<record>{ROW}{IDS}</record>"
    head = f"<feedback>{META.replace('There', 'x' * 100_000)}{POLICY}"
    assert len(parse(f"{head}{record * 5}</feedback>".encode()).organization) == 1000
    with pytest.raises(Unreadable, match="more than 5 records"):
        parse(f"{head}{record * 6}</feedback>".encode())
    monkeypatch.setattr(dmarc_aggregate, "MAX_ELEMENTS", 50)
    with pytest.raises(Unreadable, match="elements"):
        parse(f"{head}{'<extension/>' * 60}{record}</feedback>".encode())
    many = f"<auth_results>{'<dkim><domain>a.test</domain></dkim>' * 40}</auth_results>"
    monkeypatch.setattr(dmarc_aggregate, "MAX_ELEMENTS", 1000)
    monkeypatch.setattr(dmarc_aggregate, "MAX_RESULTS", 7)
    assert len(parse(feedback(auth=many).encode()).records[0].dkim_results) == 7


@given(st.binary(max_size=300), st.integers(0, len(feedback())), st.integers(0, 60))
def test_nothing_but_unreadable_is_raised(noise: bytes, at: int, length: int) -> None:
    whole = feedback().encode()
    try:
        parse(whole[:at] + noise + whole[at + length :])
    except Unreadable:
        pass
