"""SASL against peers that mean no good: what is malformed, what was changed on the way, and servers that lie.

The mechanisms by the book are in `test_sasl.py`.
"""

import base64
import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire import sasl
from posthouse.wire.sasl import Challenge, Credentials, Failure

NAME, PASSWORD = "älice, =x", "geheim"
BINDINGS = {"tls-exporter": b"32 octets of keying material ..."}
SCRAM = [name for name in sasl.MECHANISMS if name.startswith("SCRAM-")]


@functools.cache
def keys(kind: str, password: str) -> sasl.ScramKeys:
    made = sasl.scram_keys(kind, password, b"0123456789abcdef", 4096)
    assert made is not None
    return made


def secret(want: sasl.WantSecret) -> object:
    password = PASSWORD if want.authcid == NAME else "not guessed"
    return password if want.kind == "CRAM-MD5" else keys(want.kind, password)


def server(name: str, **options: Any) -> sasl.Mechanism:
    machine = sasl.server(name, "server-nonce", **{"bindings": BINDINGS, **options})
    assert machine is not None
    return machine


def client(name: str, **options: Any) -> sasl.ClientMechanism:
    given = {"nonce": "client-nonce", "bindings": BINDINGS, "token": "vF9dft4qmT", **options}
    machine = sasl.client(name, NAME, PASSWORD, **given)
    assert machine is not None
    return machine


def step(machine: sasl.Mechanism, data: bytes | None) -> sasl.Step:
    """One step, the secret included."""
    result = machine.step(data)
    return machine.secret([secret(result)]) if isinstance(result, sasl.WantSecret) else result


def outcome(guest: sasl.ClientMechanism, host: sasl.Mechanism) -> sasl.Step:
    """How it ends between these two."""
    result = step(host, None)
    for _ in range(5):
        if not isinstance(result, Challenge):
            return result
        response = guest.step(result.data)
        if response is None:
            return Failure("the client cancelled")
        result = step(host, response)
    raise AssertionError("it does not end")


# What is malformed

LONG = "ä" * 256
DIGEST = " " + "0" * 32
MALFORMED: dict[str, list[list[bytes | None]]] = {
    "PLAIN": [[b""], [b"a"], [b"\0a"], [b"\0a\0"], [b"\0\0pw"], [b"\0a\0b\0c"], [b"\0\xff\0pw"],
              [f"\0{LONG}\0pw".encode()], [b"\0a\0" + b"p" * 1025]],
    "LOGIN": [[None, b"\xff", b"pw"], [None, LONG.encode(), b"pw"], [None, b"a", b""], [None, b"", b"pw"],
              [None, b"a\0b", b"pw"], [None, b"a", b"p" * 1025], [LONG.encode(), b"pw"]],
    "CRAM-MD5": [[b""], [f"a{DIGEST}".encode()], [None, b""], [None, b"a"], [None, DIGEST.encode()],
                 [None, b"a " + b"g" * 32], [None, f"a{DIGEST}0".encode()], [None, f"a\0b{DIGEST}".encode()],
                 [None, f"{LONG}{DIGEST}".encode()], [None, b"\xff" + DIGEST.encode()]],
    "SCRAM-SHA-256": [
        [b"n,,m=x,n=a,r=x"], [b"n,,n=a,r=x,m=x"], [b"n,,n=a,r=x,n=b"], [b"n,,n=a,r=x,r=y"], [b"n,,n=a,r=x,x"],
        [b"n,a=b=,n=a,r=x"], [b"n,b,n=a,r=x"], [b"N,,n=a,r=x"], [b"p=tls-exporter,,n=a,r=x"], [b"n,,n=a,r=x\x7f"],
        [b"n,,n==2c,r=x"], ["n,,n=\u00ad,r=x".encode()], [f"n,,n={LONG},r=x".encode()], [b"n,,n=a,r=x\n"],
        [b"n,,n=a,r=x", b""], [b"n,,n=a,r=x", None], [b"n,,n=a,r=x", b"c=biws,r=xserver-nonce"],
        [b"n,,n=a,r=x", b"c=biws,r=xserver-nonce,m=y,p=AAAA"], [b"n,,n=a,r=x", b"c=biws,r=xserver-nonce,p=A"],
        [b"n,,n=a,r=x", b"c=biws=,r=xserver-nonce,p=AAAA"], [b"n,,n=a,r=x", b"c=biws,r=xserver-nonce,p=AA=="[:-1]],
        [b"n,,n=a,r=x", b"c=biws,r=xserver-nonce,p=AB=="], [b"n,,n=a,r=x", b"\xff"],
    ],
    "SCRAM-SHA-256-PLUS": [[b"n,,n=a,r=x"], [b"y,,n=a,r=x"], [b"p=tls-unique,,n=a,r=x"], [b"p=,,n=a,r=x"]],
    "OAUTHBEARER": [
        [b""], [b"\x01"], [b"n,,\x01\x01"], [b"n,,\x01auth=Bearer t\x01"], [b"n,,\x01auth=Basic t\x01\x01"],
        [b"n,,\x01auth=Bearer \x01\x01"], [b"n,,\x01auth=Bearer a b\x01\x01"], [b"n,a=x=zz,\x01auth=Bearer t\x01\x01"],
        [b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01"], [b"p=x,,\x01auth=Bearer t\x01\x01"],
        [b"n,a=\xff,\x01auth=Bearer t\x01\x01"], [b"n,,\x01host=h\x01\x01"],
        [b"n,,\x01auth=Bearer " + b"t" * 10_001 + b"\x01\x01"], [f"n,a={LONG},\x01auth=Bearer t\x01\x01".encode()],
    ],
    "XOAUTH2": [[b""], [b"user=a"], [b"user=a\x01auth=Bearer t\x01"], [b"auth=Bearer t\x01\x01"],
                [b"user=a\x01auth=Bearer t\x01\x01\x01"]],
    "EXTERNAL": [[b"\xff"], [b"a\0b"], [LONG.encode()]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "responses"), [(name, responses) for name, cases in MALFORMED.items() for responses in cases]
)
def test_malformed_responses_are_told_from_wrong_ones(name: str, responses: list[bytes | None]) -> None:
    machine = server(name)
    for response in responses[:-1]:
        assert isinstance(step(machine, response), Challenge)
    last = step(machine, responses[-1])
    assert isinstance(last, Failure)
    assert last.malformed


def test_extensions_that_may_be_ignored_are() -> None:
    assert isinstance(step(server("SCRAM-SHA-256"), b"n,,n=a,r=x,z=what is this?"), Challenge)


def test_names_are_read_as_their_mechanism_writes_them() -> None:
    assert server("OAUTHBEARER").step(b"n,a=a=3D2C=2Cb,\x01auth=Bearer t\x01\x01") == sasl.Bearer("a=2C,b", "t")
    assert server("XOAUTH2").step(b"user=a=2Cb\x01auth=bearer t\x01\x01") == sasl.Bearer("a=2Cb", "t")
    assert server("OAUTHBEARER").step(b"n,,\x01auth=Bearer t\x01\x01") == sasl.Bearer("", "t")


def test_a_refused_token_is_told_where_to_get_a_good_one() -> None:
    machine = server("OAUTHBEARER")
    assert isinstance(machine.step(client("OAUTHBEARER").initial), sasl.Bearer)
    error = machine.refuse("invalid_token", "mail imap", "https://id.example/.well-known/openid-configuration")
    assert json.loads(error.data) == {
        "status": "invalid_token",
        "schemes": "bearer",
        "scope": "mail imap",
        "openid-configuration": "https://id.example/.well-known/openid-configuration",
    }
    assert machine.step(b"\x01") == Failure("the token was refused", malformed=False)


def test_asked_out_of_turn() -> None:
    for name in sasl.MECHANISMS:
        assert isinstance(server(name).secret([]), Failure)
        assert isinstance(server(name).refuse(), Challenge)


def test_no_secret_proves_nothing() -> None:
    """Nobody gets in because the caller had none to hand in, or one of another kind."""
    two = [keys("SCRAM-SHA-256", PASSWORD), sasl.ScramKeys("SCRAM-SHA-1", 1, b"", b"", b"")]
    for name in (*SCRAM, "CRAM-MD5"):
        for values in ([], [None], [b""], two):
            guest, host = client(name), server(name)
            result = host.step(None)
            while isinstance(result, Challenge):
                response = guest.step(result.data)
                assert response is not None
                result = host.step(response)
            assert isinstance(result, sasl.WantSecret)
            assert isinstance(host.secret(values), Failure)


@pytest.mark.parametrize("name", [*SCRAM, "CRAM-MD5"])
def test_without_a_nonce_there_is_no_exchange(name: str) -> None:
    with pytest.raises(ValueError, match="nonce"):
        sasl.server(name)
    if name in SCRAM:
        with pytest.raises(ValueError, match="nonce"):
            sasl.client(name, "a", "pw", bindings=BINDINGS)


# What is changed on the way

BOUND = [
    # the client's, the server's, whether they can come together
    (BINDINGS, BINDINGS, True),
    (BINDINGS, {**BINDINGS, "tls-server-end-point": b"x"}, True),
    (BINDINGS, {"tls-exporter": b"of another connection"}, False),
    (BINDINGS, {"tls-server-end-point": BINDINGS["tls-exporter"]}, False),
    (BINDINGS, {}, False),
]


@pytest.mark.parametrize(("theirs", "ours", "good"), BOUND)
@pytest.mark.parametrize("name", [name for name in SCRAM if name.endswith("-PLUS")])
def test_both_must_see_one_connection(name: str, theirs: dict[str, bytes], ours: dict[str, bytes], good: bool) -> None:
    result = outcome(client(name, bindings=theirs), server(name, bindings=ours))
    assert result == sasl.Proved(NAME, "") if good else isinstance(result, Failure)
    assert sasl.client(name, "a", "pw", nonce="x") is None  # nothing to bind to


@pytest.mark.parametrize(
    ("bindings", "seen", "offered", "flag", "good"),
    [
        ({}, ["SCRAM-SHA-256"], ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], b"n", True),  # cannot bind
        (BINDINGS, ["SCRAM-SHA-256"], ["SCRAM-SHA-256"], b"y", True),  # the server cannot
        (BINDINGS, ["SCRAM-SHA-256"], ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], b"y", False),  # somebody hid it
        (BINDINGS, ["scram-sha-256-plus"], ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], b"n", True),  # chose not to
        (BINDINGS, [], ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], b"n", True),  # was not told what there is
    ],
)
def test_a_shortened_list_is_noticed(
    bindings: dict[str, bytes], seen: list[str], offered: list[str], flag: bytes, good: bool
) -> None:
    guest = client("SCRAM-SHA-256", bindings=bindings, offered=seen)
    assert guest.initial is not None
    assert guest.initial[:1] == flag
    assert isinstance(outcome(guest, server("SCRAM-SHA-256", offered=offered)), sasl.Proved if good else Failure)


_changes = st.tuples(st.integers(0, 3), st.integers(0, 400), st.integers(0, 2), st.binary(max_size=3))


@given(st.sampled_from([*SCRAM, "CRAM-MD5"]), _changes)
def test_what_was_changed_on_the_way_proves_nothing(name: str, change: tuple[int, int, int, bytes]) -> None:
    which, at, gone, come = change
    guest, host = client(name), server(name)
    result = host.step(None)
    changed = False
    for number in range(5):
        if isinstance(result, sasl.WantSecret):
            result = host.secret([secret(result)])
        if not isinstance(result, Challenge):
            break
        response = guest.step(result.data)
        if response is None:
            return
        if number == which:
            at %= len(response) + 1
            sent, response = response, response[:at] + come + response[at + gone :]
            # hexadecimal digits of CRAM-MD5 are taken in both cases
            changed = response.lower() != sent.lower() if name == "CRAM-MD5" else response != sent
        result = host.step(response)
    assert isinstance(result, sasl.Proved) != changed


@given(st.sampled_from(SCRAM), _changes)
def test_a_client_believes_no_changed_challenge(name: str, change: tuple[int, int, int, bytes]) -> None:
    which, at, gone, come = change
    guest, host = client(name), server(name)
    result, changed = step(host, None), False
    for number in range(4):
        if not isinstance(result, Challenge):
            break
        challenge = result.data
        if number == which and challenge:
            at %= len(challenge) + 1
            challenge = challenge[:at] + come + challenge[at + gone :]
            # an extension behind the server's proof is not under it: it may come and is passed over
            changed = challenge != result.data and not challenge.startswith(result.data + b",")
        response = guest.step(challenge)
        if response is None:
            assert changed
            assert not guest.finished
            return
        result = step(host, response)
    assert guest.finished != changed


# Servers that lie

FIRST = b"r=client-nonce.x,s=MDEyMw==,i=4096"


@pytest.mark.parametrize(
    "challenge",
    [
        b"x", b"\xff", FIRST + b",m=x", FIRST + b",i=5000", FIRST.replace(b"4096", b"4095"),
        FIRST.replace(b"4096", b"1000001"), FIRST.replace(b"4096", b"99999999"), FIRST.replace(b"==", b"="),
        FIRST.replace(b"MDEyMw==", b"===="), FIRST.replace(b".x", b""), FIRST.replace(b"client", b"other"),
        FIRST + b",x=" + b"y" * 5000, b"v=" + base64.b64encode(b"\0" * 32),
    ],
)  # fmt: skip
def test_a_client_is_not_drawn_into_it(challenge: bytes) -> None:
    guest = client("SCRAM-SHA-256")
    assert guest.step(challenge) is None
    assert not guest.finished


def test_a_client_cannot_be_kept_busy() -> None:
    for name in sasl.MECHANISMS:
        for challenge in (b"", FIRST, b"Username:"):
            guest = client(name)
            answers = [guest.step(challenge) for _ in range(6)]
            assert answers[-1] is None


def test_what_cannot_be_prepared_is_not_sent() -> None:
    for secrets in (("a\u0007", "pw"), ("a", "\ue000"), ("", "pw"), ("a", "")):
        assert sasl.client("SCRAM-SHA-256", *secrets, nonce="x") is None
    assert sasl.client("SCRAM-SHA-256", "a", "pw", authzid="\u0007", nonce="x") is None
    acting = sasl.client("SCRAM-SHA-256", "\u2168", "pw", authzid="b,c", nonce="x")
    assert acting is not None
    assert acting.initial == b"n,a=b=2Cc,n=IX,r=x"


@given(st.sampled_from(sasl.MECHANISMS), st.lists(st.one_of(st.binary(max_size=60), st.just(FIRST)), max_size=4))
def test_nothing_that_a_server_says_raises(name: str, challenges: list[bytes]) -> None:
    guest = client(name)
    for challenge in challenges:
        guest.step(challenge)
    assert not (name in SCRAM and guest.finished)


def test_no_tls_no_certificate_and_no_binding() -> None:
    options: dict[str, Any] = {"secure": False, "plaintext": True, "certificate": True, "bindings": BINDINGS}
    assert sasl.choose(sasl.MECHANISMS, **options) == "SCRAM-SHA-256"
    assert sasl.choose(["EXTERNAL", "SCRAM-SHA-1-PLUS"], **options) is None


# What is kept


@pytest.mark.parametrize(
    "text",
    [
        "", "SCRAM-SHA-256$4096", "SCRAM-SHA-256$1:A$A:A", "SCRAM-SHA-256$1:AAAA$AAAA:AAAA", "SCRAM-MD5$1:AAAA$A:A",
        keys("SCRAM-SHA-256", "a").to_text().replace("256", "1"),
        keys("SCRAM-SHA-1", "a").to_text().replace("4096", "0"),
        keys("SCRAM-SHA-1", "a").to_text() + "\n",
    ],
)  # fmt: skip
def test_keys_that_are_none(text: str) -> None:
    assert sasl.ScramKeys.parse(text) is None


def test_nothing_printed_has_a_secret() -> None:
    hidden = "sesame"
    values = [
        Credentials("a", "", hidden), sasl.Bearer("a", hidden),
        sasl.ScramKeys("SCRAM-SHA-1", 1, hidden.encode(), hidden.encode(), hidden.encode()),
        *(sasl.client(name, "a", hidden, token=hidden, nonce="x", bindings=BINDINGS) for name in sasl.MECHANISMS),
    ]  # fmt: skip
    assert not [value for value in values if hidden in f"{value!r} {value}"]
