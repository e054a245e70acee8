"""Sign, damage, verify; the RFCs' examples; rules; and what a hostile sender or name server may try."""

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.errors import Permanent
from posthouse.net.dns import NoSuchDomain, Unavailable, ZoneResolver
from posthouse.senderauth import dkim
from posthouse.senderauth.dkim import Result, Signer, Verifier
from posthouse.senderauth.dkim_canon import Canon
from tests.senderauth import example
from tests.senderauth.keys import MESSAGE, NOW, ed_key, key, pem, resolver, rsa_key
from tests.support.growth import assert_linear, cost

CANONS: list[Canon] = ["simple", "relaxed"]
KINDS = ["rsa", "ed"]


def signer(kind: str = "ed", header: Canon = "relaxed", body: Canon = "relaxed", **more: Any) -> Signer:
    return Signer("example.org", kind, key(kind), header, body, **more)


def signed(message: bytes = MESSAGE, *signers: Signer, now: int | None = NOW) -> bytes:
    return dkim.sign(message, signers or [signer()], now)


def results(message: bytes, asked: Any = None, now: int = NOW) -> list[Result]:
    return asyncio.run(dkim.verify(message, (asked or resolver()).txt, now))


def result(message: bytes, asked: Any = None, now: int = NOW) -> Result:
    (one,) = results(message, asked, now)
    return one


# The RFCs' own messages


def test_the_example_of_rfc_8463() -> None:
    found = results(example.MESSAGE, ZoneResolver(example.ZONE))
    assert [(one.word, one.algorithm, one.domain) for one in found] == [
        ("pass", "ed25519-sha256", "football.example.com"),
        ("pass", "rsa-sha256", "football.example.com"),
    ]
    assert found[0].body_hash == "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    assert found[0].identity == "@football.example.com"
    assert found[1].tag == "F45dVWDf"
    assert found[1].weaknesses == ("a key of 1024 bits is short",)
    changed = example.MESSAGE.replace(b"hungry", b"hungrY")
    assert [one.word for one in results(changed, ZoneResolver(example.ZONE))] == ["fail", "fail"]


def test_the_example_is_signed_alike() -> None:
    """The keys of RFC 8463 section A.1: the field that they make is read with the records of section A.2."""
    unsigned = example.MESSAGE[example.MESSAGE.index(b"From:") :]
    rsa_private, ed_private = dkim.private_key(example.RSA), dkim.private_key(example.ED)
    signers = [Signer("football.example.com", "test", rsa_private)]
    signers.append(Signer("football.example.com", "brisbane", ed_private))
    found = results(dkim.sign(unsigned, signers, NOW), ZoneResolver(example.ZONE))
    assert [one.word for one in found] == ["pass", "pass"]
    assert dkim.record_of(ed_private).encode() == example.ZONE["brisbane._domainkey.football.example.com"]["TXT"][0]
    assert dkim.record_of(rsa_private).encode() == example.ZONE["test._domainkey.football.example.com"]["TXT"][0]


# Sign, damage, verify


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("header", CANONS)
@pytest.mark.parametrize("body", CANONS)
def test_what_may_change(kind: str, header: Canon, body: Canon) -> None:
    made = signed(MESSAGE, signer(kind, header, body))
    one = result(made)
    assert (one.word, one.reason, one.weaknesses) == ("pass", "", ())
    assert one.canon == f"{header}/{body}"
    loose_header, loose_body = "pass" if header == "relaxed" else "fail", "pass" if body == "relaxed" else "fail"
    for old, new, word in [
        (b"X-Other: not", b"X-Other: NOT", "pass"),
        (b"\r\n\r\n\r\n", b"\r\n\r\n\r\n\r\n", "pass"),
        (b"Subject:  hello   there ", b"SUBJECT: hello\r\n there", loose_header),
        (b"Hello, \t you.", b"Hello, you. ", loose_body),
        (b"Hello, \t you.", b"Hello,you.", "fail"),
        (b"To: b", b"To: c", "fail"),
        (b"From: ", b"From: x", "fail"),
        (b"t=1800000000", b"t=1800000001", "fail"),
        (b"X-Other: not", b"Subject: not", "fail"),  # oversigned
        (b"X-Other: not", b"Cc: not", "fail"),
        (b"X-Other: not", b"Reply-To: not", "fail"),
        (b"\r\n\r\n  two", b"\r\n  two", "fail"),
    ]:
        assert made.count(old) >= 1
        assert result(made.replace(old, new)).word == word, (old, new)
    assert result(b"From: other\r\n" + made).word == "fail"
    assert result(b"Received: x\r\n" + made).word == "pass"


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    text = st.text("ab \t.,é", max_size=30).map(str.encode)
    names = st.sampled_from([b"To", b"cc", b"SUBJECT", b"Subject", b"X-A", b"List-Id", b"Received", b"Date "])
    fields = draw(st.lists(st.tuples(names, text, st.sampled_from([b"", b"\r\n x", b"\r\n\t"])), max_size=8))
    fields.insert(draw(st.integers(0, len(fields))), (b"From", b"a@example.org", b""))
    body = draw(st.lists(text, max_size=8))
    end = draw(st.sampled_from([b"", b"\r\n", b"x", b"\r\n\r\n"]))
    return b"".join(name + b":" + a + b + b"\r\n" for name, a, b in fields) + b"\r\n" + b"\r\n".join(body) + end


@given(messages(), st.sampled_from(CANONS), st.sampled_from(CANONS), st.integers(0), st.integers(1, 255))
def test_any_message_signed_damaged_verified(
    message: bytes, header: Canon, body: Canon, place: int, change: int
) -> None:
    made = signed(message, signer("ed", header, body))
    assert result(made).word == "pass"
    assert made.endswith(message)
    ours = made[: -len(message)]
    assert max(map(len, ours.split(b"\r\n"))) <= 76
    head, content = dkim.split(message)
    if content.strip():
        at = place % len(content)
        damaged = content[:at] + bytes([content[at] ^ change]) + content[at + 1 :]
        if b"".join(damaged.split()) != b"".join(content.split()):
            assert result(ours + head + damaged).word == "fail"
    assert result(ours + head.replace(b"a@example", b"b@example") + content).word == "fail"


@given(st.integers(0), st.integers(1, 255))
def test_any_damage_of_the_signature_itself(place: int, change: int) -> None:
    made = signed(MESSAGE, signer("ed", "simple"))
    end = made.index(b"From:")
    at = place % end
    damaged = bytearray(made)
    damaged[at] ^= change
    if made[at : at + 1].isspace() or damaged[at : at + 1].isspace():
        return  # blanks within b= mean nothing
    if at == end - 5:
        return  # the last letter of the base64 before "==" has bits that mean nothing
    for one in results(bytes(damaged)):
        assert one.word != "pass"


@given(messages(), st.lists(st.integers(1, 40)), st.sampled_from(CANONS))
def test_pieces_of_any_size(message: bytes, sizes: list[int], canon: Canon) -> None:
    header, body = dkim.split(signed(message, signer("ed", canon, canon)))
    verifier = Verifier(header)
    for size in sizes:
        verifier.feed(body[:size])
        body = body[size:]
    verifier.feed(body)
    (one,) = asyncio.run(verifier.finish(resolver().txt, NOW))
    assert one.word == "pass"


def test_two_signatures_and_one_is_wrong() -> None:
    made = signed(MESSAGE, signer("rsa"), signer("ed", "simple", "simple"))
    assert [one.word for one in results(made)] == ["pass", "pass"]
    assert [one.word for one in results(made.replace(b"Hello, \t you", b"Hello, you"))] == ["pass", "fail"]
    assert [one.word for one in results(made.replace(b"s=rsa", b"s=ed"))] == ["permerror", "pass"]


def test_the_field_that_is_made() -> None:
    made = signed(MESSAGE, signer("ed", lifetime=600, identity="anna@mail.example.org"))
    field = made[: -len(MESSAGE)]
    lines = field.split(b"\r\n")
    assert lines[0] == b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org;"
    assert lines[1].startswith(b" s=ed; i=anna@mail.example.org; t=1800000000; x=1800000600;")
    names = re.search(rb"h=([^;]*)", field)
    assert names is not None
    listed = re.sub(rb"\s", b"", names[1]).split(b":")
    assert [listed.count(name) for name in (b"From", b"Subject", b"Cc", b"Sender", b"X-Other")] == [2, 2, 1, 0, 0]
    assert result(made, now=NOW + 600).word == "pass"
    late = result(made, now=NOW + 601)
    assert (late.word, late.reason) == ("permerror", "expired 1 s ago (x=)")
    assert b"t=" not in signed(now=None)[: -len(MESSAGE)].replace(b"bh=", b"").replace(b"\r\n", b"").split(b"h=")[0]


def test_what_cannot_be_signed() -> None:
    with pytest.raises(Permanent, match="no From field"):
        signed(b"To: x\r\n\r\n")
    with pytest.raises(Permanent, match="has to sign the From"):
        signed(MESSAGE, signer(oversigned=["To"]))
    with pytest.raises(Permanent, match="no name in the DNS"):
        signed(MESSAGE, Signer("a b", "c", ed_key()))
    with pytest.raises(Permanent, match="1024 to 8192"):
        dkim.private_key(_small_pem())
    with pytest.raises(Permanent, match="no private key"):
        dkim.private_key(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(Permanent, match="neither RSA nor Ed25519"):
        dkim.private_key(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    assert isinstance(dkim.private_key(pem(rsa_key())), rsa.RSAPrivateKey)


def _small_pem() -> bytes:
    """512 bits: what `cryptography` does not make any more."""
    p, q, e = _prime(256, 3), _prime(256, 7), 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q))
    return pem(numbers.private_key())


def _prime(bits: int, seed: int) -> int:
    n = (3 << (bits - 2)) + (seed << 100) + 1
    while pow(2, n - 1, n) != 1 or (n - 1) % 65537 == 0:
        n += 2
    return n


# Rules


def unsure(length: int, body: bytes = b"Hello\r\n") -> bytes:
    """Signed with l=, which we never write."""
    digest = b64encode(hashlib.sha256(body[:length]).digest()).decode()
    field = f"DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=ed; h=from:to; l={length}; bh={digest}; b="
    head = b"From: a@example.org\r\n"
    own = hashlib.sha256(head + field.encode()).digest()
    return field.encode() + b64encode(ed_key().sign(own)) + b"\r\n" + head + b"\r\n" + body


def test_l_is_told_as_a_weakness() -> None:
    whole = result(unsure(7))
    assert whole.word == "pass"
    assert whole.weaknesses == ("l= lets anyone add to the body, of which 7 of 7 octets are signed",)
    part = result(unsure(7) + b"buy!\r\n")
    assert (part.word, part.reason) == ("policy", "only 7 of 13 octets of the body are signed (l=)")
    assert result(unsure(0)).word == "policy"
    short = result(unsure(7)[:-4])
    assert (short.word, short.reason) == ("fail", "l= is 7, the body has 5 octets")
    assert result(unsure(7).replace(b"l=7", b"l=6")).word == "fail"


def test_what_is_signed_once_and_there_twice() -> None:
    made = unsure(7)
    assert result(b"Subject: x\r\n" + made).weaknesses[1] == "a Subject field is not signed"
    twice = result(b"From: other@example.com\r\n" + made)
    assert (twice.word, twice.reason) == ("policy", "one From field is signed, and there is another")


@pytest.mark.parametrize("line", [b"Buy this!\r\n", b"\r\r\n", b"From x\r\n", b": y\r\n", b"\xef\xbb\xbf\r\n"])
def test_text_in_the_header(line: bytes) -> None:
    """What is no field is signed by nobody, and shown by some as the beginning of the body."""
    made = signed().replace(b"\r\nX-Other", b"\r\n" + line + b"X-Other")
    assert result(made).word == "policy"
    assert result(line + signed()).word == "policy"
    with pytest.raises(Permanent, match="a line that is no field"):
        signed(line + MESSAGE)


def test_a_header_without_its_end() -> None:
    header = signed().partition(b"\r\n\r\n")[0]
    for ending in (b"", b"\r\n"):
        verifier = Verifier(header + ending)
        verifier.feed(dkim.split(MESSAGE)[1])
        assert [one.word for one in asyncio.run(verifier.finish(resolver().txt, NOW))] == ["pass"]


def test_a_signature_of_tomorrow() -> None:
    made = signed()
    assert result(made, now=NOW - 86_400).word == "pass"
    assert result(made, now=NOW - 86_401).word == "policy"


@pytest.mark.parametrize(
    ("record", "word", "reason"),
    [
        ("v=DKIM1; k=ed25519; p=", "permerror", "the key is revoked"),
        ("v=DKIM1; k=ed25519; p=AAAA", "permerror", "p= is no ed25519 key"),
        ("v=DKIM1; p=AAAA", "permerror", "p= is no rsa key"),
        (dkim.record_of(rsa_key()), "permerror", "the key is for rsa"),
        ("v=spf1 -all", "permerror", "the key record is none of DKIM1"),
        ("é" * 5000, "policy", "the key record is longer than 8192 octets"),
        ("p=" + "A" * 8000, "permerror", "p= is no rsa key"),
    ],
)
def test_key_records(record: str, word: str, reason: str) -> None:
    one = result(signed(), resolver(ed=record))
    assert (one.word, one.reason) == (word, reason)


def test_keys_that_only_test_or_are_strict() -> None:
    strict = resolver(ed=dkim.record_of(ed_key()) + "; t=s")
    assert result(signed(), strict).word == "pass"
    assert result(signed(MESSAGE, signer(identity="@x.example.org")), strict).word == "permerror"
    testing = resolver(ed=dkim.record_of(ed_key()) + "; t=y")
    assert (result(signed(), testing).word, result(signed(), testing).testing) == ("pass", True)
    assert result(signed() + b"x", testing).word == "neutral"


class Says:
    """A resolver with one answer for everything."""

    def __init__(self, answer: list[bytes] | Exception) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def txt(self, name: str) -> list[bytes]:
        self.asked.append(name)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (NoSuchDomain("no such"), "permerror"),
        (Unavailable("down"), "temperror"),
        (TimeoutError(), "temperror"),
        (OSError("unreachable"), "temperror"),
        ([], "permerror"),
        ([dkim.record_of(ed_key()).encode()] * 2, "permerror"),
        ([b"x"] * 11, "permerror"),
        ([b"v=spf1 -all", dkim.record_of(ed_key()).encode()], "pass"),
    ],
)
def test_answers_of_the_dns(answer: list[bytes] | Exception, word: str) -> None:
    assert result(signed(), Says(answer)).word == word


def test_sizes_of_keys() -> None:
    small, e = rsa.RSAPublicNumbers(65537, (1 << 1022) + 1), (1 << 64) + 1
    large = rsa.RSAPublicNumbers(65537, (1 << 8199) + 1)
    for numbers, word, reason in [
        (small, "permerror", "a key of 1023 bits proves nothing"),
        (large, "policy", "a key of 8200 bits is larger than 8192"),
        (rsa.RSAPublicNumbers(e, (1 << 2047) + 1), "policy", "the exponent of the key has more than 64 bits"),
    ]:
        der = numbers.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        one = result(signed(MESSAGE, signer("rsa")), resolver(rsa=f"p={b64encode(der).decode()}"))
        assert one.word == word
        assert reason in one.reason


def test_a_bare_rsa_key() -> None:
    """RFC 6376 section 3.6.1 as it was written: RSAPublicKey."""
    der = rsa_key().public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    assert result(signed(MESSAGE, signer("rsa")), resolver(rsa=f"p={b64encode(der).decode()}")).word == "pass"


# Hostile input


def test_thousands_of_signatures() -> None:
    made = signed()
    field = made[: -len(MESSAGE)]
    asked = Says([dkim.record_of(ed_key()).encode()])
    found = results(field * 25 + b"DKIM-Signature: v=1;\r\n" * 2_000 + MESSAGE, asked)
    assert len(found) == dkim.MAX_SIGNATURES + 1
    assert [one.word for one in found].count("pass") == dkim.MAX_SIGNATURES
    assert found[-1].reason == "not looked at: there are more than 20 signatures"
    assert asked.asked == ["ed._domainkey.example.org"]


def test_thousands_of_fields() -> None:
    """Reading each takes two microseconds of the event loop: not for a signature, and none at all without one."""
    many = b"a:\r\n" * 10_000
    assert results(many + MESSAGE) == []
    (only,) = results(many + signed())
    assert (only.word, only.reason) == ("neutral", "not looked at: the header has more than 3000 fields")


def test_a_large_header() -> None:
    fill = b"X:" + b"x" * (dkim.MAX_HEADER - len(dkim.split(signed())[0]) - 4) + b"\r\n"
    assert result(fill + signed()).word == "pass"
    one = result(b"x" + fill + signed())
    assert (one.word, one.reason) == ("neutral", "not looked at: the header is larger than 262144 octets")
    assert results(fill * 2 + MESSAGE) == []
    with pytest.raises(Permanent, match="header is larger"):
        signed(fill * 2 + MESSAGE)


def test_many_fields_of_one_name() -> None:
    made = signed(b"To: x\r\n" * 2500 + MESSAGE)
    assert result(made).word == "pass"
    assert result(made).weaknesses == ("a To field is not signed",)


def test_costs_grow_with_the_message_alone() -> None:
    field = signed()[: -len(MESSAGE)]

    def work(message: bytes) -> None:
        results(message)

    for piece in (
        b"a:b\r\n",
        b"To: x\r\n",
        b"To:" + b" " * 40 + b"\r\n ",
        b"DKIM-Signature: ;\r\n",
        b"x" * 50 + b"\r\n",
    ):
        assert_linear(work, lambda size, piece=piece: field * 20 + piece * size + MESSAGE)  # type: ignore[misc]


@given(
    st.binary()
    | st.lists(
        st.sampled_from(
            _pieces := [
                b"DKIM-Signature:",
                b"v=1;",
                b"a=rsa-sha256;",
                b"b=AAAA;",
                b"bh=",
                b64encode(bytes(32)) + b";",
                b"h=from;",
                b"d=example.org;",
                b"s=rsa;",
                b"\r\n",
                b" ",
                b"From: x",
                b"\n",
                b"\r",
                b":",
                b"l=3;",
                b"s=ed;",
                b"\xff",
                b"i=@;",
            ]
        )
    ).map(b"".join)
)
def test_whatever_comes(raw: bytes) -> None:
    for one in results(raw):
        assert one.word != "pass"


@given(st.lists(st.binary(max_size=200) | st.sampled_from([b"v=DKIM1", b"p=AAAA", b"k=ed25519;p=" + b"A" * 43 + b"="])))
def test_whatever_the_dns_says(records: Sequence[bytes]) -> None:
    assert result(signed(), Says(list(records))).word in ("permerror", "fail")


def test_a_large_body_with_every_length() -> None:
    field = unsure(7).partition(b"From:")[0]
    rest = b"From: a@example.org\r\n\r\n" + b"x" * (4 << 20)
    many = b"".join(field.replace(b"l=7", b"l=%d" % (n * 1000)) for n in range(20)) + rest
    assert [one.word for one in results(many)] == ["fail"] * 20
    assert cost(lambda: results(many)) < 5 * cost(lambda: results(field + rest)) + 0.1  # one pass, not twenty
