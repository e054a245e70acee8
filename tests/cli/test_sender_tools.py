"""The tools that anybody may use for mail that has a problem: all take --json, and --resolver by UDP and TCP, and their
last lines are what programs read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from posthouse.cli.main import app
from posthouse.senderauth.dkim import record_of
from tests.senderauth.keys import MESSAGE, ed_key, pem, rsa_key
from tests.support.nameserver import Table, in_thread, strings


def table(*first: str) -> Table:
    texts = {
        "rsa._domainkey.example.org.": record_of(rsa_key()),
        "other._domainkey.example.org.": record_of(ed_key()),
        "example.org.": "v=spf1 ip4:192.0.2.1 exp=why.example.org -all",
        "why.example.org.": "%{i} is not one of ours",
        "_dmarc.example.org.": "v=DMARC1; p=reject",
    }
    return {(name, "TXT"): [*first, strings(text)] for name, text in texts.items()}


@pytest.fixture(params=["127.0.0.1 by UDP", "127.0.0.1 by TCP", "localhost by UDP"])
def dns(request: pytest.FixtureRequest) -> Iterator[str]:
    host, _, way = request.param.split()
    with in_thread(table(*["TRUNCATE"] * (way == "TCP"))) as port:
        yield f"{host}:{port}"


class Tools:
    def __init__(self, folder: Path, resolver: str) -> None:
        self.key = folder / "key"
        self.key.write_bytes(pem(rsa_key()))
        self.resolver = resolver

    def run(self, text: str, given: bytes = b"", *more: str) -> Any:
        """`posthouse TEXT`, with KEY for a file with a key."""
        arguments = [str(self.key) if word == "KEY" else word for word in text.split()]
        result = CliRunner().invoke(app, [*arguments, *more, "--resolver", self.resolver], input=given)
        assert result.exception is None, (result.output, result.exception)
        return result

    def last(self, text: str, given: bytes = b"") -> str:
        return str(self.run(text, given).stdout.splitlines()[-1])

    def json(self, text: str, given: bytes = b"") -> Any:
        return json.loads(self.run(text, given, "--json").stdout)


SIGN = "dkim sign --domain example.org --selector rsa --key KEY"
SEAL = "arc seal --authserv-id mx.example.org --domain example.org --selector rsa --key KEY"


def test_all_of_them(tmp_path: Path, dns: str) -> None:
    tools = Tools(tmp_path, dns)
    # spf check: the result; a tab and the explanation, if there is one.
    check = "spf check --helo mx.example.org --mail-from joe@example.org --ip"
    assert tools.last(f"{check} 192.0.2.1") == "pass"
    assert tools.last(f"{check} 192.0.2.9") == "fail\t192.0.2.9 is not one of ours"
    assert tools.json(f"{check} 192.0.2.9")["result"] == "fail"
    asked = {"ip": "192.0.2.9", "helo": "mx.example.org", "mailfrom": "joe@example.org"}
    other = json.dumps(asked | {"ip": "192.0.2.1", "resolver": dns})
    answers = tools.run("spf check --batch", f"{json.dumps(asked)}\n{other}\n".encode()).stdout.splitlines()
    assert [json.loads(one) for one in answers] == [
        {"result": "fail", "explanation": "192.0.2.9 is not one of ours"},
        {"result": "pass", "explanation": ""},
    ]
    # dkim sign and verify: the message; one result a signature.
    signed = tools.run(f"{SIGN} --canon simple/relaxed --alg rsa-sha256", MESSAGE).stdout_bytes
    assert signed.endswith(MESSAGE)
    assert tools.last("dkim verify", MESSAGE) == "none"
    assert tools.last("dkim verify -", signed) == "pass"
    twice = tools.run(SIGN, signed).stdout_bytes
    assert tools.last("dkim verify", twice) == "pass,pass"
    assert tools.last("dkim verify", twice + b"more\r\n") == "fail,fail"
    assert tools.json("dkim verify", twice)["result"] == "pass,pass"
    told = tools.json(SIGN, MESSAGE)
    assert tools.last("dkim verify", told["fields"].encode() + MESSAGE) == "pass"
    assert (told["name"], told["in_dns"]) == ("rsa._domainkey.example.org", True)
    # arc seal and verify: three fields; pass, fail or none.
    assert tools.last("arc verify", MESSAGE) == "none"
    fields = tools.run(f"{SEAL} --headers from:to:subject --time 1700000000", MESSAGE).stdout_bytes
    names = [line.partition(b":")[0] for line in fields.splitlines() if line[:1] not in b" \t"]
    assert names == [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]
    assert b"t=1700000000" in fields
    assert b"h=from:to:subject" in fields
    assert tools.last("arc verify", fields + MESSAGE) == "pass"
    assert tools.last("arc verify -", fields + MESSAGE + b"more\r\n") == "fail"
    assert tools.json("arc verify", fields + MESSAGE)["result"] == "pass"
    assert tools.json(SEAL, MESSAGE)["cv"] == "none"
    # dmarc check: SPF, DKIM, alignment and policy as a table.
    (tmp_path / "message").write_bytes(signed)
    check = f"dmarc check --ip 192.0.2.1 --helo mx.example.org --mail-from joe@example.org {tmp_path / 'message'}"
    shown = tools.run(check).stdout
    for words in ("SPF MAIL FROM", "DKIM", "and it is the domain of From", "asks for reject"):
        assert words in " ".join(shown.split()), words
    assert shown.splitlines()[-1] == "pass"
    assert tools.json(check)["dmarc"]["word"] == "pass"
    assert tools.last("dmarc check --ip 192.0.2.9 -", MESSAGE) == "fail"


@pytest.mark.parametrize(
    ("selector", "says"), [("other", "the record holds another key"), ("none", "the name has no TXT record")]
)
def test_a_key_that_others_do_not_find(tmp_path: Path, selector: str, says: str) -> None:
    with in_thread(table()) as port:
        tools = Tools(tmp_path, f"127.0.0.1:{port}")
        made = tools.run(SIGN.replace(" rsa ", f" {selector} "), MESSAGE)
        assert made.stdout_bytes.endswith(MESSAGE)  # signed all the same, and nothing else on standard output
        assert made.stdout_bytes.startswith(b"DKIM-Signature:")
        assert says in made.stderr
        assert tools.json(SIGN.replace(" rsa ", f" {selector} "), MESSAGE)["in_dns"] is False


@pytest.mark.parametrize("text", ["", ":53", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x", "no..host:53"])
def test_what_is_no_resolver(text: str) -> None:
    result = CliRunner().invoke(app, ["dkim", "verify", f"--resolver={text}"], input=MESSAGE)
    assert result.exit_code == (0 if not text else 2)
