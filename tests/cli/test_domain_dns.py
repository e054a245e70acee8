"""`posthouse domain add` and `dns`, `posthouse dkim keys`, `rotate` and `dns`: what people publish, programs read."""

import asyncio
import json
from pathlib import Path
from typing import Any

import dns.rdataset
import dns.zone
import pytest
from typer.testing import CliRunner

from posthouse.cli import output
from posthouse.cli.dkim_keys import _says, takes_over
from posthouse.cli.main import app
from posthouse.senderauth import dkim_tags
from posthouse.senderauth.domain_records import DomainRecord, Sending, wanted
from posthouse.senderauth.own_keys import Look
from posthouse.servers.rotation import KEPT, SETTLED
from posthouse.store import dkim_keys
from posthouse.store.dkim_keys import DkimKey
from posthouse.store.sqlite import SqliteDatabase
from tests.support.clock import START
from tests.support.signing import new_keys

HOST = "mail.example.org"


class Shell:
    """A configuration whose zone answers, and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publish({})

    def publish(self, records: dict[str, dict[str, list[str]]]) -> None:
        lines = [f'hostname = "{HOST}"', 'data = "data"', "[dns]", "only_zone = true", "[dns.zone]"]
        lines += [
            f"{json.dumps(name)} = {{ {', '.join(f'{kind} = {json.dumps(texts)}' for kind, texts in some.items())} }}"
            for name, some in records.items()
        ]
        (self.folder / "posthouse.toml").write_text("\n".join(lines) + "\n")

    def run(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["--config", str(self.folder / "posthouse.toml"), *arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


def zone_of(text: str, origin: str = "example.org") -> dict[tuple[str, str], list[bytes]]:
    """What a name server makes of the lines: the strings of each TXT record joined, everything else as text."""
    zone: Any = dns.zone.from_text(text, origin=origin, relativize=False, check_origin=False)
    return {
        (name.to_text(), dns.rdatatype.to_text(data.rdtype)): [
            b"".join(record.strings) if hasattr(record, "strings") else record.to_text().encode() for record in data
        ]
        for name, node in zone.items()
        for data in node
    }


def test_what_is_printed_is_a_zone_file(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    told = shell.run("domain", "add", "example.org")
    lines = told[told.index(";") :]
    zone = zone_of(lines)
    rsa, ed = sorted((name for name, _ in zone if "_domainkey" in name), reverse=True)
    for name, kind in ((rsa, "rsa"), (ed, "ed25519")):
        record = dkim_tags.record(zone[name, "TXT"][0])
        assert isinstance(record, dkim_tags.Record)
        assert record.kind == kind
    assert zone["example.org.", "MX"] == [b"10 mail.example.org."]
    assert {name.removesuffix("example.org.") for name, _ in zone} == {
        "", "mail.", "_dmarc.", "_mta-sts.", "_smtp._tls.",
        rsa.removesuffix("example.org."), ed.removesuffix("example.org."),
    }  # fmt: skip
    # Nobody has published anything yet; what is shown later is the same.
    again = shell.run("domain", "dns", "example.org")
    assert zone_of(again) == zone
    assert again.count("NOT in the DNS") == 8
    assert "mode: testing" in again
    assert zone_of(shell.run("dkim", "dns", "example.org")) == {
        key: value for key, value in zone.items() if "_domainkey" in key[0]
    }
    # What it prints, published, is what it wants.
    published: dict[str, dict[str, list[str]]] = {}
    for (name, kind), values in zone.items():
        published.setdefault(name.rstrip("."), {})[kind] = [value.decode() for value in values]
    shell.publish(published)
    assert "NOT" not in shell.run("domain", "dns", "example.org")
    found = shell.json("domain", "dns", "example.org")
    assert [one["in_dns"] for one in found["records"]] == [True] * 8
    assert found["mta_sts_policy"].startswith("version: STSv1")
    keys = shell.json("dkim", "keys", "example.org")
    assert [(key["state"], key["in_dns"]) for key in keys] == [("announced", True)] * 2


def test_records_that_say_something_else(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.run("domain", "add", "example.org")
    shell.publish(
        {
            "example.org": {"MX": ["5 other.test"], "TXT": ["v=spf1 include:other.test -all", "hello"]},
            "_dmarc.example.org": {"TXT": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]},
        }
    )
    seen = {
        one["purpose"]: (one["in_dns"], one["seen"]) for one in shell.json("domain", "dns", "example.org")["records"]
    }
    assert seen["MX"] == (False, "the DNS has 5 other.test")
    assert seen["SPF"] == (True, "it says v=spf1 include:other.test -all")
    assert seen["DMARC"][0] is False
    assert "2" in seen["DMARC"][1]


@pytest.mark.parametrize(
    ("addresses", "to", "also"),
    [
        ((), "postmaster@example.org", []),
        (("d@else.test", "d@example.org"), "d@example.org", []),
        (("d@else.test",), "d@else.test", ["example.org._report._dmarc.else.test"]),
    ],
)
def test_who_gets_reports(addresses: tuple[str, ...], to: str, also: list[str]) -> None:
    records = wanted("example.org", HOST, [], addresses)
    texts = {one.name: one.value for one in records}
    assert texts["_dmarc.example.org"] == f"v=DMARC1; p=none; rua=mailto:{to}"
    assert texts["_smtp._tls.example.org"] == f"v=TLSRPTv1; rua=mailto:{to}"
    assert [name for name in texts if "_report" in name] == also
    # Where nobody takes them in, it says how.
    how = f'addresses = ["{to}"]'
    told = {one.purpose for one in records if how in one.why}
    assert told == (set() if addresses else {"DMARC", "TLSRPT"})


def test_the_address_for_reports_is_one_that_takes_them_in(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    said = shell.run("domain", "add", "example.org")
    assert '[reports] has addresses = ["postmaster@example.org"]' in said
    zone_of(said[said.index(";") :])  # still a zone file
    with (tmp_path / "posthouse.toml").open("a") as file:
        file.write('[reports]\naddresses = ["r@example.org"]\n')
    said = shell.run("domain", "dns", "example.org")
    assert "rua=mailto:r@example.org" in said
    assert "postmaster" not in said
    assert "has addresses" not in said


POOL = (("192.0.2.25", "out1.example.org"), ("2001:db8::25", "out1.example.org"), ("192.0.2.26", "out.test"))


@pytest.mark.parametrize(
    ("host", "sending", "records"),
    [
        (HOST, Sending(), {"example.org": "v=spf1 mx -all", HOST: "v=spf1 a -all"}),
        ("example.org", Sending(), {"example.org": "v=spf1 mx -all"}),
        ("mail.example.net", Sending(), {"example.org": "v=spf1 mx -all"}),
        (HOST, Sending(smarthost="smart.test"), {"example.org": "v=spf1 mx ~all", HOST: "v=spf1 a ~all"}),
        (
            HOST,
            Sending(POOL, forwards="fwd.example.org"),
            {
                "example.org": "v=spf1 mx ip4:192.0.2.25 ip6:2001:db8::25 ip4:192.0.2.26 -all",
                HOST: "v=spf1 a ip4:192.0.2.25 ip6:2001:db8::25 ip4:192.0.2.26 -all",
                "fwd.example.org": "v=spf1 mx ip4:192.0.2.25 ip6:2001:db8::25 ip4:192.0.2.26 -all",
                "out1.example.org": "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 -all",
            },
        ),
    ],
)
def test_spf_names_every_way_out(host: str, sending: Sending, records: dict[str, str]) -> None:
    made = wanted("example.org", host, [], sending=sending)
    assert {one.name: one.value for one in made if one.value.startswith("v=spf1")} == records


def test_the_settings_say_where_mail_leaves(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    more = '[[pool]]\nname = "out"\nsources = [{ address = "192.0.2.25", helo = "OUT.example.org" }]\n'
    more += '[relay]\nsrs_domain = "fwd.example.org"\n[relay.smarthost]\nhost = "smart.test"\n'
    (tmp_path / "posthouse.toml").write_text(f'hostname = "{HOST}"\ndata = "data"\n{more}')
    records = shell.json("domain", "add", "example.org")["records"]
    values = {one["name"]: one["value"] for one in records if one["purpose"].startswith("SPF")}
    assert values["out.example.org"] == "v=spf1 ip4:192.0.2.25 ~all"
    assert set(values) == {"example.org", "out.example.org", "fwd.example.org", HOST}


def test_rotation_by_hand(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    first = [one["name"] for one in shell.json("domain", "add", "example.org")["records"] if one["purpose"] == "DKIM"]
    # They wait already: nothing is made anew, unless one says so.
    again = shell.json("dkim", "rotate", "example.org")
    assert (again["made"], [one["name"] for one in again["records"]]) == (0, first)
    other = shell.json("dkim", "rotate", "example.org", "--anew")
    assert other["made"] == 2
    assert not {one["name"] for one in other["records"]} & set(first)

    async def use() -> None:
        database = await SqliteDatabase.open(tmp_path / "data", START)
        for key in await database.read(dkim_keys.all_keys):
            await database.write(dkim_keys.use, key.id, START)
        await database.close()

    asyncio.run(use())
    assert shell.json("dkim", "rotate", "example.org")["made"] == 2
    asyncio.run(use())
    told = shell.run("dkim", "keys")
    assert told.count("retiring") == 2
    for command in ("domain", "dkim"):
        assert shell.run(command, "dns", "example.org").count("2026-09-28") == 2  # a week after they were replaced


def test_when_a_key_takes_over() -> None:
    """The one before signs until the DNS has had the record of the new one for an hour (servers/rotation.py)."""
    old = DkimKey(1, "example.org", "a", "rsa-sha256", b"", "", "used", 1, 1, seen=START)
    new = old._replace(id=2, selector="b", state="announced")
    other = new._replace(domain="example.net", seen=START)
    unseen = new._replace(seen=0)
    assert takes_over(new, [old, new]) == START + SETTLED
    assert [takes_over(unseen, [old, unseen]), takes_over(other, [old, other])] == [0, 0]
    assert takes_over(new, [old._replace(seen=0), new]) == 0  # it does not sign: nothing is to be waited for
    says = _says(new, Look(True), "published", START, takes_over(new, [old, new]))
    assert says.startswith(f"signs in the first round after {output.when(START + SETTLED)[:16]} UTC")
    gone, there = Look(False, "the DNS has no such name"), Look(True)
    retiring = old._replace(state="retiring", changed=START)
    for now, look, says in (
        (START, there, "may be withdrawn after 2026-09-28"),
        (START, gone, "may be withdrawn after 2026-09-28"),
        (START + KEPT, there, "withdraw its record: nothing needs it since 2026-09-28"),
        (START + KEPT, gone, "is forgotten within an hour"),
    ):
        assert _says(retiring, look, "published", now) == says


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("dkim", "dns", "else.test"), "is not one of ours"),
        (("dkim", "rotate", "else.test"), "is not one of ours"),
        (("domain", "dns", "no domain"), "is not a domain name"),
        (("domain", "add", "example.org"), "posthouse domain dns example.org"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    shell = Shell(tmp_path)
    shell.run("domain", "add", "example.org")
    result = CliRunner().invoke(app, ["--config", str(tmp_path / "posthouse.toml"), *arguments])
    assert says in str(result.exception)


def test_removing_a_domain_and_signing_never(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.run("domain", "add", "example.org")
    shell.run("domain", "remove", "example.org")
    assert "There are no keys" in shell.run("dkim", "keys")
    with (tmp_path / "posthouse.toml").open("a") as file:
        file.write('[signing]\nsign = "never"\n')
    assert "DKIM" not in shell.run("domain", "add", "example.org")


@pytest.mark.parametrize("length", [10, 255, 256, 600])
def test_long_records_are_cut_into_strings(length: int) -> None:
    value = "v=DKIM1; p=" + "A" * (length - 11) if length > 11 else "x" * length
    record = DomainRecord("DKIM", "s._domainkey.example.org", "TXT", value, "")
    assert all(0 < len(text) <= 255 for text in record.strings)
    assert zone_of(record.line + "\n")["s._domainkey.example.org.", "TXT"] == [value.encode()]


def test_keys_show_no_secrets() -> None:
    (key, _) = new_keys()
    kept = DkimKey(1, "example.org", key.selector, key.algorithm, key.private, key.record, "used", 1, 1)
    for shown in (repr(key), repr(kept), str(kept), str([kept])):
        assert "..." in shown
        assert key.private.hex()[:20] not in shown
        assert repr(key.private)[2:20] not in shown
    assert all(key.private not in record.value.encode() for record in wanted("example.org", HOST, [kept]))
