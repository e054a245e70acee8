"""The configuration file: every setting has a document and a default, every mistake a line and a cure."""

import json
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey
from pydantic import ValidationError

from posthouse import config
from posthouse.base.networks import trusted
from posthouse.base.settings import STANDARD_PORTS, Listen, Settings
from posthouse.config import ConfigError, parse
from posthouse.net import tls

TABLES = Path(__file__).parent / "tables"
MISTAKES = tomllib.loads((TABLES / "config.toml").read_text("utf-8"))["case"]


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "p.toml")
    return [str(problem) for problem in caught.value.problems]


def test_every_setting_has_a_document() -> None:
    for path, model in config.sections():
        assert model.__doc__ is not None
        for name, field in config.keys(model).items():
            where = ".".join((*path, name))
            assert field.description, f"{where} has no document"
            assert field.description.endswith("."), f"{where}: a document is a sentence"


def test_ten_lines_are_enough_and_none_is() -> None:
    settings = parse("")
    assert {one.service: one.port for one in settings.listen} == STANDARD_PORTS
    assert settings.limits.message_size == 50 << 20
    assert settings.limits.recipients == 1000


def test_name_servers_may_have_ports() -> None:
    written = ["9.9.9.9", "127.0.0.1:5353", "[::1]:5353", "2620:fe::fe", "[::1]"]
    settings = parse(f"[dns]\nnameservers = {written}\n[signing]\nnameservers = {written}")
    assert list(settings.dns.nameservers) == list(settings.signing.nameservers) == written


def test_settings_do_not_change() -> None:
    settings = parse("")
    with pytest.raises(ValidationError):
        setattr(settings, "hostname", "other.example")  # noqa: B010


def test_every_kind_of_value() -> None:
    settings = parse(
        """
        hostname = "MAIL.Example.org"
        data = "mail"
        [[listen]]
        service = "imaps"
        [[listen]]
        service = "smtp"
        address = "0:0::1"
        port = 0
        [limits]
        message_size = "1.5 MiB"
        command_timeout = "1 h 30 min"
        imap_timeout = 1800
        [relay]
        networks = ["192.0.2.7/24", "2001:db8::/32"]
        [relay.smarthost]
        host = "smtp.example.net"
        [queue]
        retry = ["5 min", 600]
        [dns.zone."Posthouse.test"]
        mx = ["10 mail.posthouse.test"]
        """,
        folder=Path("/etc/posthouse"),
    )
    assert settings.hostname == "mail.example.org"
    assert settings.data == Path("/etc/posthouse/mail")
    assert settings.listen == (
        Listen(service="imaps", port=993),
        Listen(service="smtp", address="::1", port=0),
    )
    assert settings.limits.message_size == 3 << 19
    assert settings.limits.command_timeout == 5400
    assert settings.relay.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert settings.relay.smarthost is not None
    assert settings.relay.smarthost.tls == "starttls"
    assert list(settings.queue.retry) == [300, 600]
    assert settings.dns.zone == {"posthouse.test": {"MX": ("10 mail.posthouse.test",)}}


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case["said"][:60])
def test_mistakes(case: dict[str, str]) -> None:
    assert case["said"] in problems(case["text"])


def test_all_mistakes_at_once_in_the_order_of_the_file() -> None:
    said = problems("log.level = 'loud'\n[limits]\nerrors = 0\nx = 1\n")
    assert [line.split(":")[1] for line in said] == ["1", "3", "4"]


def test_mistakes_in_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such configuration file.*config example"):
        config.load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"bad\.toml:2: is not UTF-8"):
        config.load(bad)


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(config.ENVIRONMENT, raising=False)
    assert config.find(Path("x.toml")) == Path("x.toml")
    assert config.find().name == "posthouse.toml"
    monkeypatch.setenv(config.ENVIRONMENT, "/y.toml")
    assert config.find() == Path("/y.toml")


def test_check_looks_at_what_is_named(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o644)
    text = (
        "hostname = 'mail'\ndata = 'd'\n[storage]\nkey_file = 'key'\n"
        "[relay]\nnetworks = ['0.0.0.0/0']\n"
        "[relay.smarthost]\nhost = 'a.test'\nuser = 'u'\npassword_file = 'none'\n"
        "[[listen]]\nservice = 'pop3'\nallow_plaintext_auth = true\nnetworks = ['192.0.2.16/28']\n"
        "[[listen]]\nservice = 'imap'\nallow_plaintext_auth = true\n"
    )
    found = config.check(parse(text, "p.toml", tmp_path), "p.toml", text)
    said = {(problem.line, problem.key, problem.warning) for problem in found}
    assert said == {
        (1, "hostname", True),
        (4, "storage.key_file", True),
        (6, "relay.networks", False),
        (10, "relay.smarthost.password_file", False),
        (17, "listen.allow_plaintext_auth", True),  # and not that of pop3, which few may use
    }


def test_check_looks_at_the_secrets_of_webhooks(tmp_path: Path) -> None:
    for name, secret in (("good", "x" * 16), ("short", " short "), ("open", "x" * 16)):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    text = "hostname = 'mail.example.org'\ndata = 'd'\n" + "".join(
        f"[[webhook]]\nname = '{name}'\nurl = 'https://a.test/'\nsecret_file = '{name}'\n"
        for name in ("good", "short", "none", "open")
    )
    found = config.check(parse(text, "p.toml", tmp_path), "p.toml", text)
    assert {(problem.line, problem.key, problem.warning) for problem in found} == {
        (10, "webhook.secret_file", False),
        (14, "webhook.secret_file", False),
        (18, "webhook.secret_file", True),
    }


def test_there_is_an_end_of_webhooks() -> None:
    one = "[[webhook]]\nname = 'a{}'\nurl = 'https://a.test/'\nsecret_file = 's'\n"
    assert len(parse("".join(one.format(n) for n in range(50))).webhook) == 50
    (problem,) = problems("".join(one.format(n) for n in range(51)))
    assert "50 are the most" in problem


def test_check_of_a_good_file(tmp_path: Path) -> None:
    assert config.check(parse("hostname = 'mail.example.org'\ndata = 'd'", folder=tmp_path)) == []


def test_check_of_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # root may write everywhere, but not below a file
    found = config.check(parse("hostname = 'mail.example.org'\ndata = 'file/posthouse'", folder=tmp_path))
    assert [problem.key for problem in found] == ["data"]


def test_trusted_networks() -> None:
    networks = Settings().limits.trusted
    assert trusted("127.0.0.9", networks)
    assert trusted("::1", networks)
    assert trusted("::ffff:127.0.0.1", networks)
    assert not trusted("192.0.2.1", networks)
    assert not trusted("/run/admin.sock", networks)


def test_check_looks_at_the_certificate(tmp_path: Path) -> None:
    _, certificate, key = tls.self_made(tmp_path, ["mail.example.org"])
    text = f"data = 'd'\n[tls]\ncertificate = '{certificate}'\nkey = '{key}'\n"
    assert not config.check(parse("hostname = 'mail.example.org'\n" + text, folder=tmp_path))
    (problem,) = config.check(parse("hostname = 'mx.example.org'\n" + text, folder=tmp_path))
    assert "is for mail.example.org, not for mx.example.org" in problem.text
    by_name = f"data = 'd'\n[[tls.named]]\nnames = ['A.example']\ncertificate = '{certificate}'\nkey = '{key}'\n"
    (problem,) = config.check(parse("hostname = 'mail.example.org'\n" + by_name, folder=tmp_path))
    assert problem.key == "tls.named.certificate"
    assert "not for a.example" in problem.text
    port = f"data = 'd'\n[[listen]]\nservice = 'smtp'\nclient_ca = '{key}'\ncertificate = '{key}'\nkey = '{key}'\n"
    found = config.check(parse("hostname = 'mail.example.org'\n" + port, folder=tmp_path))
    assert [problem.key for problem in found] == ["listen.certificate", "listen.client_ca"]
    key.write_text("damaged")
    (problem,) = config.check(parse("hostname = 'mail.example.org'\n" + text, folder=tmp_path))
    assert "cannot be used" in problem.text


def test_check_looks_at_pools_and_routes(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of some length")
    secret.chmod(0o644)
    text = (
        "hostname = 'mail.example.org'\ndata = 'd'\n"
        "[[pool]]\nname = 'out'\nsources = [\n"
        " { address = '127.0.0.1', helo = 'one.example.org' },\n"
        " { address = '192.0.2.77', helo = 'two.example.org' },\n"
        " { address = '2001:db8::77', helo = 'three.example.org' },\n]\n"
        "[[route]]\nname = 'hook'\nvia = 'webhook'\nurl = 'http://app.example.org/'\nsecret_file = 'secret'\n"
        "[[route]]\nname = 'near'\nvia = 'webhook'\nurl = 'http://app/'\nsecret_file = 'secret'\n"
        "[[route]]\nname = 'smart'\nvia = 'smarthost'\nhost = 'a.test'\nca = 'none.pem'\n"
        "user = 'u'\npassword_file = 'none'\n"
    )
    found = config.check(parse(text, "p.toml", tmp_path), "p.toml", text)
    assert {(problem.line, problem.key, problem.warning) for problem in found} == {
        (7, "pool.sources.address", False),
        (8, "pool.sources.address", False),
        (13, "route.url", True),
        (14, "route.secret_file", True),
        (19, "route.secret_file", True),
        (24, "route.ca", False),
        (26, "route.password_file", False),
    }


def test_the_examples_of_the_documents_are_good() -> None:
    text = (Path(__file__).parents[1] / "docs" / "routes.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    settings = parse(example)
    assert [route.name for route in settings.route] == ["partner", "lists", "news"]
    assert len(settings.pool[0].sources) == 3


@pytest.mark.parametrize(
    ("most", "text"),
    [
        (1000, "".join(f"[[route]]\nname = 'r{n}'\nvia = 'discard'\n" for n in range(1001))),
        (10000, f"[[route]]\nname = 'r'\nvia = 'discard'\nto = {[f'd{n}.test' for n in range(10_001)]}"),
        (10000, f"[[route]]\nname = 'r'\nvia = 'discard'\nfrom = {[f'd{n}.test' for n in range(10_001)]}"),
        (10, f"[[route]]\nname = 'r'\nvia = 'smarthost'\nhost = {[f'd{n}.test' for n in range(11)]}"),
        (100, "".join(f"[[pool]]\nname = 'p{n}'\nsources = [{{address='::1',helo='x'}}]\n" for n in range(101))),
        (
            256,
            "[[pool]]\nname = 'p'\n"
            + "".join(f"[[pool.sources]]\naddress='10.0.{n // 250}.{n % 250}'\nhelo='x'\n" for n in range(257)),
        ),
    ],
)
def test_there_are_not_too_many_routes_and_pools(most: int, text: str) -> None:
    (problem,) = problems(text)
    assert f"has {most + 1} entries. {most} are the most." in problem


@pytest.mark.parametrize(
    ("listens", "good"),
    [
        ("service = 'smtp'\n[[listen]]\nservice = 'smtp'", False),
        ("service = 'smtp'\naddress = '127.0.0.1'\n[[listen]]\nservice = 'smtp'", False),
        ("service = 'smtp'\naddress = '127.0.0.1'\n[[listen]]\nservice = 'smtp'\naddress = '127.0.0.2'", True),
        ("service = 'smtp'\nport = 0\n[[listen]]\nservice = 'smtp'\nport = 0", True),
        ("service = 'lmtp'\npath = 'a'\n[[listen]]\nservice = 'lmtp'\npath = 'a'", False),
        ("service = 'lmtp'\npath = 'a'\n[[listen]]\nservice = 'lmtp'\npath = 'b'", True),
    ],
)
def test_a_port_is_served_once(tmp_path: Path, listens: str, good: bool) -> None:
    text = f"hostname = 'mail.example.org'\ndata = 'd'\n[[listen]]\n{listens}\n"
    found = config.check(parse(text, "p.toml", tmp_path), "p.toml", text)
    assert [problem.key for problem in found] == ([] if good else ["listen"])
    assert all("taken by another [[listen]]" in problem.text for problem in found)


@pytest.mark.parametrize(
    ("keys", "good"),
    [
        ("not JSON", False),
        ("[]", False),
        ('{"keys": []}', False),
        ('{"keys": [{"kty": "X"}]}', False),
        (json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=False)]}), True),
    ],
    ids=["text", "list", "none", "unknown", "good"],
)
def test_check_looks_at_the_keys_of_the_issuer(tmp_path: Path, keys: str, good: bool) -> None:
    (tmp_path / "keys.json").write_text(keys)
    oauth = "[auth.oauth]\nissuer = 'https://i.example'\njwks = 'keys.json'\naudience = 'posthouse'\n"
    found = config.check(parse(f"hostname = 'mail.example.org'\ndata = 'd'\n{oauth}", folder=tmp_path))
    assert [problem.key for problem in found] == ([] if good else ["auth.oauth.jwks"])


def test_a_rule_for_everything_is_told(tmp_path: Path) -> None:
    rule = "hostname = 'mail.example.org'\ndata = 'd'\n[[filter.rule]]\naction = 'reject'\n"
    (problem,) = config.check(parse(rule, folder=tmp_path))
    assert problem.warning
    assert "without conditions" in problem.text
    for more in ("tls = false", "larger = 0", "sender = ['']", "hours = '08:00-09:00'"):
        assert not config.check(parse(f"{rule}{more}\n", folder=tmp_path)), more
