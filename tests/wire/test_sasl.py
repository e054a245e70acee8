"""SASL machines, both sides; the examples of the RFCs; and that no response makes them raise."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire import sasl
from posthouse.wire.sasl import Challenge, Credentials, Failure
from posthouse.wire.sasl.prepare import saslprep


def test_plain() -> None:
    machine = sasl.server("plain")
    assert machine is not None
    assert machine.step(None) == Challenge(b"")
    assert machine.step(b"\0alice\0pass word") == Credentials("alice", "", "pass word")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"alice",
        b"alice\0pw",
        b"\0\0pw",
        b"\0alice\0",
        b"\0alice\0p\0w",
        b"\0\xff\0pw",
        b"\0" + b"a" * 300 + b"\0pw",
        b"\0alice\0" + b"p" * 1025,
        b"z" * 256 + b"\0alice\0pw",
    ],
)
def test_plain_refuses(message: bytes) -> None:
    machine = sasl.server("PLAIN")
    assert machine is not None
    assert isinstance(machine.step(message), Failure)


def test_plain_has_an_authorization_identity() -> None:
    machine = sasl.server("PLAIN")
    assert machine is not None
    assert machine.step("bób\0alice\0pw".encode()) == Credentials("alice", "bób", "pw")


def test_login() -> None:
    machine = sasl.server("LOGIN")
    assert machine is not None
    assert machine.step(None) == Challenge(b"Username:")
    assert machine.step(b"alice") == Challenge(b"Password:")
    assert machine.step(b"secret") == Credentials("alice", "", "secret")
    machine = sasl.server("LOGIN")
    assert machine is not None
    assert machine.step(b"alice") == Challenge(b"Password:")
    assert isinstance(machine.step(b"\xff"), Failure)


def test_unknown() -> None:
    assert sasl.server("GSSAPI") is None
    assert sasl.client("GSSAPI", "a", "b") is None


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("with_initial", [True, False])
def test_our_client_convinces_our_server(name: str, with_initial: bool) -> None:
    client, server = sasl.client(name, "älice", "geheim"), sasl.server(name)
    assert client is not None
    assert server is not None
    first = client.initial if with_initial else None
    step = server.step(first)
    while isinstance(step, Challenge):
        response = client.step(step.data)
        assert response is not None
        step = server.step(response)
    assert step == Credentials("älice", "", "geheim")


def test_a_client_does_not_answer_for_ever() -> None:
    for name in ("PLAIN", "LOGIN"):
        client = sasl.client(name, "a", "b")
        assert client is not None
        answers = [client.step(b"") for _ in range(4)]
        assert answers[-1] is None


def test_secrets_stay_out_of_what_is_printed() -> None:
    assert "secret" not in repr(Credentials("alice", "", "secret"))
    assert "secret" not in str(Credentials("alice", "", "secret"))


SALT = b"0123456789abcdef"
BINDINGS = {"tls-server-end-point": b"hash of the certificate"}


def server(name: str, **options: Any) -> sasl.Mechanism:
    machine = sasl.server(name, "server-nonce", **options)
    assert machine is not None
    return machine


def secrets_for(want: sasl.WantSecret, *passwords: str) -> list[object]:
    if want.kind == "CRAM-MD5":
        return list(passwords)
    return [sasl.scram_keys(want.kind, password, SALT, 4096) for password in passwords]


def converse(
    client: sasl.ClientMechanism, machine: sasl.Mechanism, *known: str, with_initial: bool = True
) -> sasl.Step:
    """Hand messages to and fro until the exchange is over."""
    first = client.initial if with_initial else None
    if first is not None:
        client.initial = None
    step = machine.step(first)
    for _ in range(10):
        if isinstance(step, sasl.WantSecret):
            step = machine.secret(secrets_for(step, *known))
        elif isinstance(step, Challenge):
            response = client.step(step.data)
            if response is None:
                return Failure("the client cancelled")
            step = machine.step(response)
        else:
            return step
    raise AssertionError("it does not end")


SCRAM = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"]


@pytest.mark.parametrize("name", [*SCRAM, "CRAM-MD5"])
@pytest.mark.parametrize("with_initial", [True, False])
@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (("geheim",), sasl.Proved("älice, =x", "", 0)),
        (("another", "geheim"), sasl.Proved("älice, =x", "", 1)),
        (("wrong",), Failure("wrong password", "älice, =x", malformed=False)),
    ],
)
def test_a_secret_is_proved_and_not_shown(
    name: str, with_initial: bool, known: tuple[str, ...], expected: sasl.Step
) -> None:
    client = sasl.client(name, "älice, =x", "geheim", nonce="client-nonce", bindings=BINDINGS)
    assert client is not None
    assert not client.finished
    machine = server(name, bindings=BINDINGS)
    assert converse(client, machine, *known, with_initial=with_initial) == expected
    assert client.finished == (isinstance(expected, sasl.Proved) or name == "CRAM-MD5")


def test_the_example_of_rfc_5802() -> None:
    machine = sasl.server("SCRAM-SHA-1", "3rfcNHYJY1ZVvWVs7j")
    assert machine is not None
    first = machine.step(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
    assert first == sasl.WantSecret("user", "", "SCRAM-SHA-1")
    keys = sasl.scram_keys("SCRAM-SHA-1", "pencil", base64.b64decode("QSXCR+Q6sek8bf92"), 4096)
    assert machine.secret([keys]) == Challenge(
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    )
    final = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    assert machine.step(final) == Challenge(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    assert machine.step(b"") == sasl.Proved("user", "")


def test_the_example_of_rfc_7677() -> None:
    client = sasl.client("SCRAM-SHA-256", "user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")
    assert client is not None
    assert client.initial == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert client.step(nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") == (
        b"c=biws," + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert client.step(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert client.finished


def test_the_example_of_rfc_2195() -> None:
    machine = sasl.server("CRAM-MD5", "1896.697170952@postoffice.reston.mci.net")
    assert machine is not None
    assert machine.step(None) == Challenge(b"<1896.697170952@postoffice.reston.mci.net>")
    assert machine.step(b"tim b913a602c7eda7a495b4e6e7334d3890") == sasl.WantSecret("tim", "", "CRAM-MD5")
    assert machine.secret(["tanstaaftanstaaf"]) == sasl.Proved("tim", "")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        (
            "OAUTHBEARER",
            b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmT\x01\x01",
        ),
        ("XOAUTH2", b"user=user@example.com\x01auth=Bearer vF9dft4qmT\x01\x01"),
    ],
)
def test_tokens(name: str, first: bytes) -> None:
    machine = server(name)
    assert machine.step(first) == sasl.Bearer("user@example.com", "vF9dft4qmT")
    error = machine.refuse()
    assert b'"status": "invalid_token"' in error.data
    assert machine.step(b"\x01") == Failure("the token was refused", malformed=False)
    client = sasl.client(name, "user@example.com", token="vF9dft4qmT")
    assert client is not None
    assert converse(client, server(name)) == sasl.Bearer("user@example.com", "vF9dft4qmT")
    assert client.step(error.data) in (b"\x01", b"")


def test_a_certificate() -> None:
    assert server("EXTERNAL").step(b"") == sasl.Certificate("")
    assert server("EXTERNAL").step(b"fred@example.com") == sasl.Certificate("fred@example.com")
    assert server("EXTERNAL").step(None) == Challenge(b"")


def test_somebody_in_the_middle_is_noticed() -> None:
    client = sasl.client("SCRAM-SHA-256-PLUS", "a", "pw", nonce="n", bindings={"tls-server-end-point": b"of the liar"})
    assert client is not None
    step = converse(client, server("SCRAM-SHA-256-PLUS", bindings=BINDINGS), "pw")
    assert step == Failure("the client sees another TLS connection", "a", malformed=False)
    # who hides the -PLUS forms from a client that could use them
    client = sasl.client("SCRAM-SHA-256", "a", "pw", nonce="n", bindings=BINDINGS, offered=["SCRAM-SHA-256"])
    assert client is not None
    machine = server("SCRAM-SHA-256", bindings=BINDINGS, offered=["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
    assert isinstance(converse(client, machine, "pw"), Failure)


def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    client = sasl.client("SCRAM-SHA-256", "a", "pw", nonce="n")
    assert client is not None
    assert client.step(b"r=nx,s=MDEyMw==,i=4096") is not None
    assert client.step(b"v=AAAA") is None
    assert not client.finished
    for first in (
        b"r=other,s=MDEyMw==,i=4096",
        b"r=n,s=MDEyMw==,i=4096",
        b"r=nx,s=MDEyMw==,i=9999999",
        b"e=other-error",
    ):
        client = sasl.client("SCRAM-SHA-256", "a", "pw", nonce="n")
        assert client is not None
        assert client.step(first) is None


@pytest.mark.parametrize(
    "first",
    [
        b"", b"n", b"n,,", b"n,,n=,r=x", b"n,,n=a", b"n,,n=a,r=", b"n,,m=x,n=a,r=x", b"p=,,n=a,r=x", b"x,,n=a,r=x",
        b"p=tls-unique,,n=a,r=x", b"n,,n=a=2X,r=x", b"n,,n=a\0,r=x", b"n,,n=a,r=" + b"x" * 300, b"\xff",
        b"n,,n=a,r=x" + b" " * 5000,
        "n,,n=a\u0007b,r=x".encode(), b"n,a=,n=a,r=x",
    ],
)  # fmt: skip
def test_scram_that_makes_no_sense(first: bytes) -> None:
    assert isinstance(server("SCRAM-SHA-256", bindings=BINDINGS).step(first), Failure)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("\u0007", None),
        ("\u0627\u0031", None), ("a\u00a0b", "a b"), ("\u0627\u0628", "\u0627\u0628"), ("\u0627a\u0628", None),
    ],
)  # fmt: skip
def test_names_are_prepared(text: str, prepared: str | None) -> None:
    """RFC 4013 section 3, and directions."""
    assert saslprep(text) == prepared


def test_keys_survive_storage() -> None:
    keys = sasl.scram_keys("SCRAM-SHA-256", "pw", SALT, 4096)
    assert keys is not None
    assert sasl.ScramKeys.parse(keys.to_text()) == keys
    assert sasl.ScramKeys.parse("SCRAM-SHA-256$nonsense") is None
    assert sasl.scram_keys("SCRAM-SHA-256", "\u0007", SALT, 4096) is None
    assert "stored" not in repr(keys)


@pytest.mark.parametrize(
    ("offered", "options", "chosen"),
    [
        (sasl.MECHANISMS, {"secure": True, "bindings": BINDINGS}, "SCRAM-SHA-256-PLUS"),
        (sasl.MECHANISMS, {"secure": True}, "SCRAM-SHA-256"),
        (["plain", "LOGIN"], {"secure": True}, "PLAIN"),
        (["PLAIN", "LOGIN"], {"secure": False}, None),
        (["PLAIN", "LOGIN"], {"secure": False, "plaintext": True}, "PLAIN"),
        (["PLAIN", "CRAM-MD5"], {"secure": False}, "CRAM-MD5"),
        (sasl.MECHANISMS, {"secure": True, "password": False, "token": True}, "OAUTHBEARER"),
        (sasl.MECHANISMS, {"secure": True, "password": False, "certificate": True}, "EXTERNAL"),
        (["GSSAPI"], {"secure": True}, None),
    ],
)
def test_the_best_of_what_is_offered(offered: list[str], options: dict[str, Any], chosen: str | None) -> None:
    assert sasl.choose(offered, **options) == chosen


_parts = st.sampled_from(
    [b"n,,", b"y,,", b"p=tls-server-end-point,,", b"n=a,", b"r=x", b"r=xserver-nonce,", b"c=biws,", b"p=AAAA", b"\0",
     b"a", b"user=x\x01", b"auth=Bearer t\x01", b"\x01", b"=2C", b"0" * 32, b" ", b"v=", b"m=x,"]
)  # fmt: skip
_message = st.one_of(st.none(), st.binary(max_size=40), st.lists(_parts, max_size=6).map(b"".join))


@given(st.sampled_from(sasl.MECHANISMS), st.lists(_message, max_size=5))
def test_nothing_raises_and_nobody_gets_in(name: str, responses: list[bytes | None]) -> None:
    machine = server(name, bindings=BINDINGS)
    for response in responses:
        step = machine.step(response)
        if isinstance(step, sasl.WantSecret):
            step = machine.secret(secrets_for(step, "not guessed"))
        assert not isinstance(step, sasl.Proved)
