"""SASL machines: PLAIN and LOGIN, both sides, and that no response makes them raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire import sasl
from posthouse.wire.sasl import Challenge, Credentials, Failure


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


@given(st.sampled_from(["PLAIN", "LOGIN"]), st.lists(st.binary(max_size=40), max_size=4))
def test_nothing_raises(name: str, responses: list[bytes]) -> None:
    machine = sasl.server(name)
    assert machine is not None
    for response in responses:
        machine.step(response)
