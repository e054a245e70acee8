"""`posthouse dkim`: signs, and verifies with keys from a name server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from posthouse import config
from posthouse.base.errors import Permanent
from posthouse.cli import dkim
from posthouse.cli.main import app
from posthouse.cli.output import Options
from posthouse.cli.resolver import chosen
from posthouse.config import ConfigError
from posthouse.net.dns import SystemResolver
from posthouse.senderauth.dkim import record_of
from tests.senderauth.keys import MESSAGE, ed_key, pem, rsa_key
from tests.support.nameserver import Table, in_thread, strings


@pytest.fixture
def dns() -> Iterator[str]:
    """A name server with our keys, in a thread: the command has a loop of its own."""
    table: Table = {
        (f"{name}._domainkey.example.org.", "TXT"): [strings(record_of(private))]
        for name, private in (("rsa", rsa_key()), ("ed", ed_key()))
    }
    table["down._domainkey.example.org.", "TXT"] = "SERVFAIL"
    with in_thread(table) as port:
        yield f"127.0.0.1:{port}"


def run(*arguments: str, given: bytes = b"") -> Result:
    result = CliRunner().invoke(app, ["dkim", *arguments], input=given)
    if result.exception is not None:
        raise result.exception
    return result


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "rsa").write_bytes(pem(rsa_key()))
    (tmp_path / "ed").write_bytes(pem(ed_key()))
    return tmp_path


def signed(keys: Path, kind: str, *more: str, given: bytes = MESSAGE) -> bytes:
    options = ["--domain", "example.org", "--selector", kind, "--key", str(keys / kind)]
    return run("sign", *options, *more, given=given).stdout_bytes


def last(*arguments: str, given: bytes) -> str:
    return run("verify", *arguments, given=given).stdout.splitlines()[-1]


def test_signed_and_verified(keys: Path, dns: str) -> None:
    once = signed(keys, "rsa", "--alg", "rsa-sha256")
    assert once.endswith(MESSAGE)
    twice = signed(keys, "ed", "--canon", "simple/simple", given=once)
    assert last("--resolver", dns, given=once) == "pass"
    assert last("-", "--resolver", dns, given=twice) == "pass,pass"
    assert last("--resolver", dns, given=twice.replace(b"Hello", b"Hullo")) == "fail,fail"
    assert last("--resolver", dns, given=once.replace(b"s=rsa", b"s=none")) == "permerror"
    shown = run("verify", "--resolver", dns, given=twice).stdout
    assert "ed25519-sha256 256 simple/simple" in shown
    (keys / "message").write_bytes(once)
    told = json.loads(run("verify", str(keys / "message"), "--resolver", dns, "--json").stdout)
    assert told["result"] == "pass"
    assert told["signatures"][0]["domain"] == "example.org"
    assert told["signatures"][0]["record"] == record_of(rsa_key())


def test_no_answer(keys: Path, dns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dkim, "LOOKUP", 0.3)  # a name server that fails is asked until then
    made = signed(keys, "rsa").replace(b"s=rsa", b"s=down")
    assert last("--resolver", dns, given=made) == "temperror"


def test_lines_of_a_file(keys: Path, dns: str) -> None:
    unix = MESSAGE.replace(b"\r\n", b"\n")
    once = signed(keys, "ed", given=unix)
    assert once.endswith(MESSAGE)
    assert last("--resolver", dns, given=once.replace(b"\r\n", b"\n")) == "pass"
    mailbox = b"From anna@example.org Mon Jan  1 00:00:00 2024\n" + once.replace(b"\r\n", b"\n")
    assert last("--resolver", dns, given=mailbox) == "pass"


def test_without_a_signature() -> None:
    assert last(given=MESSAGE) == last(given=b"") == "none"
    assert json.loads(run("verify", "--json", given=MESSAGE).stdout) == {"result": "none", "signatures": []}


def test_mistakes(keys: Path) -> None:
    with pytest.raises(Permanent, match="is a key for rsa-sha256, not for ed25519-sha256"):
        signed(keys, "rsa", "--alg", "ed25519-sha256")
    with pytest.raises(Permanent, match="cannot be read"):
        signed(keys, "none")
    (keys / "bad").write_text("hello")
    with pytest.raises(Permanent, match="bad: no private key"):
        signed(keys, "bad")
    with pytest.raises(Permanent, match="no From field"):
        signed(keys, "ed", given=b"")
    with pytest.raises(SystemExit):
        signed(keys, "ed", "--canon", "nofws")


def test_what_a_terminal_would_act_upon_is_not_printed(dns: str) -> None:
    raw = b"DKIM-Signature: v=1; a=rsa-sha256; b=AAAA; bh=%s; d=a.b; s=c; i=\x1b[2J@a.b; h=from\r\nFrom: x\r\n\r\n"
    assert "\x1b" not in run("verify", "--resolver", dns, given=raw % (b"A" * 43 + b"=")).stdout


def test_the_settings_say_whom_to_ask_and_need_not_be_there(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = signed(keys, "ed")
    record = json.dumps(record_of(ed_key()))
    zone = f'[dns]\nonly_zone = true\n[dns.zone]\n"ed._domainkey.example.org" = {{ TXT = [{record}] }}\n'
    (tmp_path / "here.toml").write_text(f'hostname = "mail.example.org"\ndata = "data"\n{zone}')
    monkeypatch.setenv("POSTHOUSE_CONFIG", str(tmp_path / "here.toml"))
    assert last(given=made) == "pass"
    monkeypatch.setenv("POSTHOUSE_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigError, match="no such configuration file"):  # somebody named it
        last(given=made)
    monkeypatch.delenv("POSTHOUSE_CONFIG")
    monkeypatch.setattr(config, "DEFAULT_PATHS", (tmp_path / "missing.toml",))
    assert isinstance(chosen(Options(), ""), SystemResolver)
