"""`posthouse arc`: seals, and verifies with keys from a name server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from posthouse.base.errors import Permanent
from posthouse.cli.main import app
from posthouse.senderauth.dkim import record_of
from tests.senderauth.chains import RELAYS, forwarded
from tests.senderauth.keys import MESSAGE, ed_key, pem, rsa_key
from tests.support.nameserver import Table, in_thread, strings

SEEN = b"Authentication-Results: mx.one.test; spf=pass (yes) smtp.mailfrom=a@example.org;\r\n\tdmarc=pass\r\n"


@pytest.fixture
def dns() -> Iterator[str]:
    table: Table = {
        (f"{name}._domainkey.{domain}.", "TXT"): [strings(record_of(private))]
        for domain in RELAYS
        for name, private in (("rsa", rsa_key()), ("ed", ed_key()))
    }
    with in_thread(table) as port:
        yield f"127.0.0.1:{port}"


def run(*arguments: str, given: bytes = b"") -> Result:
    result = CliRunner().invoke(app, ["arc", *arguments], input=given)
    if result.exception is not None:
        raise result.exception
    return result


def seal(dns: str, folder: Path, message: bytes, *more: str, kind: str = "rsa", domain: str = "one.test") -> Result:
    (folder / "key").write_bytes(pem(rsa_key() if kind == "rsa" else ed_key()))
    options = ["--authserv-id", f"mx.{domain}", "--selector", kind, "--domain", domain, "--key", str(folder / "key")]
    return run("seal", *options, "--resolver", dns, *more, given=message)


def last(dns: str, message: bytes) -> str:
    return run("verify", "--resolver", dns, given=message).stdout.splitlines()[-1]


@pytest.mark.parametrize("kind", ["rsa", "ed"])
def test_seal_and_verify(dns: str, tmp_path: Path, kind: str) -> None:
    assert last(dns, MESSAGE) == "none"
    message = SEEN + MESSAGE
    first = seal(dns, tmp_path, message, kind=kind).stdout_bytes
    assert b"ARC-Authentication-Results: i=1; mx.one.test;\r\n spf=pass (yes) smtp.mailfrom=a@example.org;" in first
    message = first + message
    assert last(dns, message) == "pass"
    message = seal(dns, tmp_path, message, kind="ed", domain="two.test").stdout_bytes + message
    shown = run("verify", "--resolver", dns, given=message).stdout
    assert "one.test" in shown
    assert "spf=pass dmarc=pass" in " ".join(shown.split())
    assert last(dns, message) == "pass"
    assert last(dns, message + b"x") == "fail"
    assert last(dns, message.replace(b"\r\n", b"\n")) == "pass"


def test_headers_and_time(dns: str, tmp_path: Path) -> None:
    options = ["--headers", "from:to", "--time", "12345"]
    made = seal(dns, tmp_path, MESSAGE, *options).stdout_bytes
    assert b"h=from:to;" in made
    assert made.count(b"t=12345\r\n") == 2
    told = json.loads(seal(dns, tmp_path, MESSAGE, *options, "--json").stdout)
    assert told == {"cv": "none", "reason": "", "fields": made.decode()}


def test_json(dns: str, tmp_path: Path) -> None:
    told = json.loads(run("verify", "--json", "--resolver", dns, given=forwarded()).stdout)
    assert (told["result"], told["oldest_pass"], told["sealers"]) == ("pass", 0, RELAYS)
    assert told["sets"][2]["results"]["methods"][0]["properties"] == {"header.from": "example.org"}
    assert json.loads(run("verify", "--json", "--resolver", dns, given=MESSAGE).stdout)["result"] == "none"


def test_a_chain_that_failed(dns: str, tmp_path: Path) -> None:
    broken = forwarded() + b"x"
    marked = seal(dns, tmp_path, broken).stdout_bytes
    assert b"cv=fail" in marked
    again = seal(dns, tmp_path, marked + broken)
    assert again.stdout_bytes == b""
    assert "no more is added" in again.stderr
    shown = run("verify", "--resolver", dns, given=marked + broken).stdout
    assert "not looked at any further" in shown
    assert "cv=fail" in shown


def test_what_cannot_be_sealed(dns: str, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="must not sign"):
        seal(dns, tmp_path, MESSAGE, "--headers", "from:authentication-results")
    (tmp_path / "no-key").write_text("x")
    arguments = ["--authserv-id", "a", "--selector", "b", "--domain", "c.test", "--key", str(tmp_path / "no-key")]
    with pytest.raises(Permanent, match="no-key: no private key"):
        run("seal", *arguments, given=MESSAGE)
