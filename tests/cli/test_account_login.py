"""`posthouse account ...`: app passwords, tokens, certificates, the second factor, senders, the record of logins."""

import time
from pathlib import Path

import pytest

from posthouse.auth import totp
from posthouse.base.errors import PosthouseError
from posthouse.net.tls import self_made
from tests.cli.test_commands import Server, server

ALICE = "alice@example.org"
__all__ = ["server"]


def fails(server: Server, *arguments: str, given: str = "") -> str:
    """What a command that cannot be done says."""
    with pytest.raises(PosthouseError) as raised:
        server.text(*arguments, given=given)
    return str(raised.value)


@pytest.fixture
def alice(server: Server) -> Server:
    server.text("domain", "add", "example.org")
    server.text("account", "add", ALICE, "--generate")
    return server


def test_app_passwords(alice: Server) -> None:
    made = alice.json(
        "account", "app-password", "add", ALICE, "phone", "--scope", "imap", "--scope", "smtp", "--days", "9"
    )
    assert len(made["password"]) == 19
    (row,) = alice.json("account", "app-password", "list", ALICE)
    assert row["name"] == "phone"
    assert row["for"] == "imap smtp"
    assert row["last_used"] == "never"
    assert "phone" in alice.text("account", "app-password", "list", ALICE)
    assert fails(alice, "account", "app-password", "add", ALICE, "phone")
    assert "no scope" in fails(alice, "account", "app-password", "add", ALICE, "x", "--scope", "web")
    assert "not a network" in fails(alice, "account", "app-password", "add", ALICE, "x", "--network", "home")
    alice.text("account", "app-password", "remove", ALICE, "phone")
    assert alice.json("account", "app-password", "list", ALICE) == []
    assert fails(alice, "account", "app-password", "remove", ALICE, "phone")


def test_tokens_and_certificates(alice: Server, tmp_path: Path) -> None:
    assert alice.json("account", "token", "add", ALICE, "script")["token"].startswith("pht_")
    assert [row["name"] for row in alice.json("account", "token", "list", ALICE)] == ["script"]
    alice.text("account", "token", "remove", ALICE, "script")
    _, certificate, key = self_made(tmp_path / "tls", ["client.test"])
    alice.text("account", "certificate", "add", ALICE, "printer", str(certificate))
    again = fails(alice, "account", "certificate", "add", ALICE, "again", str(certificate))
    assert f"logs in as {ALICE} already (name 'printer')" in again
    assert "no PEM certificate" in fails(alice, "account", "certificate", "add", ALICE, "x", str(key))
    assert [row["name"] for row in alice.json("account", "certificate", "list", ALICE)] == ["printer"]


def test_the_second_factor(alice: Server) -> None:
    made = alice.json("account", "totp", "on", ALICE)
    assert made["uri"].startswith("otpauth://totp/")
    assert "does not fit" in fails(alice, "account", "totp", "on", ALICE, "--secret", made["secret"], "--code", "x")
    assert "not the secret" in fails(alice, "account", "totp", "on", ALICE, "--secret", "!", "--code", "1")
    code = totp.code(made["secret"], int(time.time()))
    assert "is on" in alice.text("account", "totp", "on", ALICE, "--secret", made["secret"], "--code", code)
    assert [row["second_factor"] for row in alice.json("account", "list")] == ["on"]
    alice.text("account", "totp", "off", ALICE)
    assert [row["second_factor"] for row in alice.json("account", "list")] == ["off"]
    assert "no second factor" in fails(alice, "account", "totp", "off", ALICE)
    assert "no CRAM-MD5 password" in fails(alice, "account", "cram-md5", "off", ALICE)
    assert "needs --secret" in fails(alice, "account", "totp", "on", ALICE, "--code", "123456")
    lines = alice.text("account", "totp", "on", ALICE).splitlines()
    assert any(line.startswith("otpauth://") for line in lines)
    assert any(line.startswith("posthouse account totp on") and line.endswith("--code CODE") for line in lines)


def test_codes_of_the_rfc() -> None:
    """RFC 6238 appendix B (SHA-1), the last six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for at, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert totp.code(secret, at) == code
        assert totp.matches(secret, f"{code[:3]} {code[3:]}", at + 29)
        assert not totp.matches(secret, code, at + 90)


def test_cram_md5_must_be_offered_first(alice: Server) -> None:
    assert "cram_md5 = true" in fails(alice, "account", "cram-md5", "on", ALICE)


def test_send_as(alice: Server) -> None:
    alice.text("account", "send-as", "add", ALICE, "@lists.example")
    alice.text("account", "send-as", "add", ALICE, "boss@example.net")
    rows = alice.json("account", "send-as", "list", ALICE)
    assert [row["may_send_as"] for row in rows] == ["@lists.example", "boss@example.net"]
    alice.text("account", "send-as", "remove", ALICE, "@lists.example")
    assert len(alice.json("account", "send-as", "list", ALICE)) == 1
    assert fails(alice, "account", "send-as", "add", ALICE, "not an address")


def test_logins_and_weak_passwords(alice: Server) -> None:
    assert alice.json("account", "logins", ALICE) == []
    assert "Nobody has tried yet" in alice.text("account", "logins", ALICE)
    for weak in ("password1", "alice@example.org", "aaaaaaaaaa"):
        assert "the password can be guessed" in fails(
            alice, "account", "password", ALICE, "--password-stdin", given=weak + "\n"
        )
    assert "too short" in fails(alice, "account", "password", ALICE, "--password-stdin", given="x\n")
    alice.text("account", "password", ALICE, "--password-stdin", given="tulip-anchor-42-mosaic\n")
