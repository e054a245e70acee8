"""dkimpy, another implementation: it verifies what we sign, and we verify what it signs."""

import asyncio
from base64 import b64encode
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.senderauth import dkim
from posthouse.senderauth.dkim import Signer
from posthouse.senderauth.dkim_canon import Canon
from tests.senderauth.keys import MESSAGE, NOW, ed_key, key, pem, resolver
from tests.support.clients import package

dkimpy = package("dkim")
package("nacl")  # its Ed25519

CANONS: list[Canon] = ["simple", "relaxed"]
ALL = list(product(("rsa", "ed"), CANONS, CANONS))
text = st.text("ab \t.,é", max_size=20).map(str.encode)
folded = st.sampled_from([b"", b"\r\n x", b"\r\n\t y "])
names = st.sampled_from([b"To", b"cc", b"SUBJECT", b"Subject", b"X-A", b"List-Id"])
messages = st.builds(
    lambda fields, body, end: (
        b"From: a@example.org\r\n"
        + b"".join(name + b": v" + a + b + b"\r\n" for name, a, b in fields)
        + b"\r\n"
        + b"".join(line + b"\r\n" for line in body)
        + end
    ),
    st.lists(st.tuples(names, text, folded), max_size=6),
    st.lists(text, max_size=6),
    st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
)


def judge(message: bytes) -> bool:
    def txt(name: bytes, timeout: float = 5) -> bytes:
        records: list[bytes] = asyncio.run(resolver().txt(name.decode()))
        return records[0]

    said: Any = dkimpy.verify(message, dnsfunc=txt)
    return bool(said)


def their_sign(message: bytes, kind: str, header: str, body: str) -> bytes:
    private = b64encode(ed_key().private_bytes_raw()) if kind == "ed" else pem(key("rsa"))
    algorithm = b"ed25519-sha256" if kind == "ed" else b"rsa-sha256"
    field: bytes = dkimpy.sign(
        message,
        kind.encode(),
        b"example.org",
        private,
        canonicalize=(header.encode(), body.encode()),
        signature_algorithm=algorithm,
    )
    return field + message


def word(message: bytes) -> str:
    (one,) = asyncio.run(dkim.verify(message, resolver().txt, NOW))
    return one.word


@pytest.mark.parametrize(("kind", "header", "body"), ALL)
def test_both_ways(kind: str, header: Canon, body: Canon) -> None:
    ours = dkim.sign(MESSAGE, [Signer("example.org", kind, key(kind), header, body)], NOW - 10**8)
    assert judge(ours)
    assert not judge(ours + b"x")
    theirs = their_sign(MESSAGE, kind, header, body)
    assert word(theirs) == "pass"
    assert word(theirs + b"x") == "fail"


@given(messages, st.sampled_from(CANONS), st.sampled_from(CANONS))
def test_any_message_both_ways(message: bytes, header: Canon, body: Canon) -> None:
    assert judge(dkim.sign(message, [Signer("example.org", "ed", ed_key(), header, body)], NOW - 10**8))
    assert word(their_sign(message, "ed", header, body)) == "pass"
