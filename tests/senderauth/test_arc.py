"""ARC: seal, damage, verify; chains that are none; and what a hostile sender may try."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.base.errors import Permanent
from posthouse.mime import header as headers
from posthouse.net.dns import NoSuchDomain, Unavailable
from posthouse.senderauth import arc_fields, authres, dkim
from posthouse.senderauth.arc import Chain, Sealer, Verifier
from posthouse.senderauth.arc_fields import MAX_SETS
from posthouse.senderauth.dkim_crypto import sha256
from posthouse.senderauth.dkim_header import Header
from tests.senderauth.chains import NOW, RELAYS, SAW, Change, forwarded, resolver, sealed, verified
from tests.senderauth.keys import MESSAGE, ed_key, rsa_key
from tests.senderauth.test_dkim import messages
from tests.support.growth import assert_linear


def footer(message: bytes) -> bytes:
    return message + b"-- \r\nthe list\r\n"


def subject(message: bytes) -> bytes:
    return message.replace(b"Subject:", b"Subject: [list]")


# Chains


@pytest.mark.parametrize("kind", ["rsa", "ed"])
def test_three_relays(kind: str) -> None:
    chain = verified(forwarded(kind=kind))
    assert (chain.word, chain.reason, chain.oldest_pass, chain.weaknesses) == ("pass", "", 0, ())
    assert chain.sealers == tuple(RELAYS)
    assert [results.authserv_id for results in chain.results] == [f"mx.{domain}" for domain in RELAYS]
    assert chain.results[0].methods == tuple(SAW)
    assert [(one.instance, one.cv, one.seal, one.message) for one in chain.sets] == [
        (1, "none", "pass", "pass"),
        (2, "pass", "pass", "pass"),
        (3, "pass", "pass", "pass"),
    ]
    assert chain.sets[0].record.startswith("v=DKIM1")


def test_no_chain() -> None:
    assert verified(MESSAGE) == Chain("none")
    assert verified(b"") == Chain("none")
    assert verified(b"X: arc-seal: " + b"x" * dkim.MAX_HEADER + b"\r\n" + MESSAGE) == Chain("none")
    assert verified(b"Subject: about arc-seal\r\n\r\nARC-Seal: x\r\n") == Chain("none")


def test_a_header_that_is_too_large() -> None:
    chain = verified(b"X: " + b"x" * dkim.MAX_HEADER + b"\r\n" + sealed())
    assert (chain.word, chain.reason) == ("fail", "the header is larger than 262144 octets")


def test_what_a_relay_changes_is_its_own() -> None:
    """A message signature fails from there on back; the chain does not. RFC 8617 section 5.2, step 5."""
    cases: list[tuple[list[Change], int]] = [
        ([], 0),
        ([footer], 0),
        ([bytes, footer], 2),
        ([bytes, footer, subject], 3),
    ]
    for changes, oldest in cases:
        chain = verified(forwarded(MESSAGE, *changes))
        assert (chain.word, chain.oldest_pass) == ("pass", oldest)
        assert [one.message for one in chain.sets].count("fail") <= 1
    late = verified(footer(forwarded()))
    assert (late.word, late.reason) == (
        "fail",
        "i=3: ARC-Message-Signature: the body was changed, its hash is not bh=",
    )
    assert verified(subject(forwarded())).reason == (
        "i=3: ARC-Message-Signature: the header was changed, or the key is another"
    )
    assert verified(b"Received: x\r\n" + forwarded()).word == "pass"
    assert verified(b"Reply-To: x@y.test\r\n" + forwarded()).word == "fail"  # oversigned


def drop(name: bytes, instance: int, message: bytes) -> bytes:
    for field in headers.split(dkim.split(message)[0]):
        if field.name == name and re.search(rb"(?:\A|;)\s*i=%d\b" % instance, field.value):
            return message[: field.start] + message[field.end :]
    raise AssertionError


@pytest.mark.parametrize("instance", [1, 2, 3])
@pytest.mark.parametrize("name", [arc_fields.AAR, arc_fields.AMS, arc_fields.AS])
def test_a_field_is_missing_twice_there_or_changed(name: str, instance: int) -> None:
    message = forwarded()
    less = drop(name.encode(), instance, message)
    assert verified(less).word == "fail"
    assert f"there is no {name} field with i={instance}" == verified(less).reason
    (field,) = [one for one in headers.split(message) if one not in headers.split(less) and one.name == name.encode()][
        :1
    ]
    raw = message[field.start : field.end]
    assert verified(raw + message).reason == f"there are two {name} fields with i={instance}"
    changed = raw.replace(b".test", b".example")
    assert verified(message.replace(raw, changed)).word == "fail"


def replaced(old: bytes, new: bytes, message: bytes) -> bytes:
    assert old in message
    return message.replace(old, new, 1)


WRONG = [
    (b"cv=none", b"cv=pass", "ARC-Seal with i=1 says cv=pass, and not cv=none"),
    (b"cv=pass", b"cv=none", "ARC-Seal with i=3 says cv=none, and not cv=pass"),
    (b"cv=pass", b"cv=fail", "the newest seal says that the chain has failed (cv=fail)"),
    (b"cv=pass", b"cv=maybe", "ARC-Seal with i=3: unknown cv="),
    (b"cv=pass", b"cv=pass; h=from", "ARC-Seal with i=3: it has an h= or bh="),
    (b"cv=pass", b"cv=pass; t=now", "ARC-Seal cannot be read, or its i= is no number from 1 to 50"),  # t= twice
    (
        b"ARC-Seal: a=ed25519-sha256",
        b"ARC-Seal: a=rsa-sha1",
        "ARC-Seal with i=3: rsa-sha1 proves nothing any more (RFC 8301)",
    ),
    (b"i=3; s=", b"i=4; s=", "there is no ARC-Seal field with i=3"),
    (b"i=3; s=", b"i=0; s=", "ARC-Seal cannot be read, or its i= is no number from 1 to 50"),
    (b"i=3; s=", b"i=51; s=", "ARC-Seal cannot be read, or its i= is no number from 1 to 50"),
    (b"i=3; s=", b"s=", "ARC-Seal cannot be read, or its i= is no number from 1 to 50"),
    (b"Results: i=3; ", b"Results: ", "ARC-Authentication-Results cannot be read, or its i= is no number from 1 to 50"),
    (
        b"Results: i=3; ",
        b"Results: i=3 ",
        "ARC-Authentication-Results cannot be read, or its i= is no number from 1 to 50",
    ),
]


@pytest.mark.parametrize(("old", "new", "reason"), WRONG, ids=[repr(new)[2:-1] for _, new, _ in WRONG])
def test_what_is_no_chain(old: bytes, new: bytes, reason: str) -> None:
    chain = verified(replaced(old, new, forwarded()))
    assert (chain.word, chain.reason, chain.sealers) == ("fail", reason, ())


def body_hash(message: bytes) -> bytes:
    found = re.search(rb"bh=[^;]*", message)
    assert found is not None
    return found[0]


def test_a_message_signature_that_proves_nothing() -> None:
    message = sealed()
    for old, new, said in [
        (b"c=relaxed/relaxed", b"l=13; c=relaxed/relaxed", "signs only 13 of 21"),
        (b"c=relaxed/relaxed", b"l=5000; c=relaxed/relaxed", "the body was changed"),
        (b"c=relaxed/relaxed", b"c=loose", "unknown canonical form"),
        (b"h=from", b"h=arc-seal:from", "it signs seals"),
        (b"bh=", b"xh=", "no bh="),
        (b"c=relaxed/relaxed", b"x=1700000001; c=relaxed/relaxed", "has expired"),
        (b"t=1700000000\r\nARC-Auth", b"t=1700999999\r\nARC-Auth", "in the future"),
    ]:
        changed = replaced(old, new, message)
        if b"l=13;" in new:
            changed = replaced(body_hash(message), body_hash(sealed(dkim.split(MESSAGE)[0] + b"Hello, you.")), changed)
        chain = verified(changed, now=NOW + 5)
        assert chain.word == "fail"
        assert said in chain.reason, chain.reason


def test_what_is_left_open_is_told() -> None:
    message = sealed(names=["to", "subject"])
    assert verified(message).weaknesses == ("a From field is not signed",)
    strays = message.replace(b"X-Other", b"this is no field\r\nX-Other")
    assert verified(strays).weaknesses[1:] == ("the header has a line that is no field, which is not signed",)


# Sealing


def test_the_fields_that_are_made() -> None:
    made = sealed(names=["From", "to", "Subject"])[: -len(MESSAGE)]
    fields = headers.split(made)
    assert [field.name.decode() for field in fields] == [arc_fields.AS, arc_fields.AMS, arc_fields.AAR]
    seal, signature, results = (re.sub(rb"b=[^;]{60,}", b"b=B", field.value) for field in fields)
    assert headers.unfold(seal) == b"a=ed25519-sha256; b=B; cv=none; d=one.test; i=1; s=ed; t=1700000000"
    assert re.sub(rb"bh=[^;]*", b"bh=H", headers.unfold(signature)) == (
        b"a=ed25519-sha256; b=B; bh=H; c=relaxed/relaxed; d=one.test; h=from:to:subject; i=1; s=ed; t=1700000000"
    )
    assert headers.unfold(results) == b"i=1; mx.one.test; dmarc=pass header.from=example.org; spf=pass"
    long = sealed(b"DKIM-Signature: x\r\n" + MESSAGE, kind="rsa")
    names = headers.find(long, arc_fields.AMS.encode())
    assert names is not None
    listed = re.sub(rb"\s", b"", names).partition(b";h=")[2].partition(b";")[0].split(b":")
    assert [listed.count(name) for name in (b"from", b"subject", b"cc", b"dkim-signature", b"x-other")] == [
        2,
        2,
        1,
        1,
        0,
    ]
    assert max(map(len, long[: -len(MESSAGE)].split(b"\r\n"))) < 400


def test_a_chain_that_failed_is_sealed_once() -> None:
    """RFC 8617 section 5.1.2: as if the newest set was the only one; and then no more."""
    broken = footer(forwarded())
    marked = sealed(broken, "two.test")
    assert verified(marked).reason == "the newest seal says that the chain has failed (cv=fail)"
    own = marked[: -len(broken)]
    assert b"cv=fail" in own
    assert b"i=4" in own
    # The seal is right if nothing else is looked at: with cv=none and i=1 in place it would be the first of a chain.
    seen = Header(own)
    said = arc_fields._seal(arc_fields._tags(seen.fields[0].value))
    assert isinstance(said, arc_fields.Seal)
    signs = seen.canonical("relaxed", 2) + seen.canonical("relaxed", 1) + seen.canonical_without_own("relaxed", 0)
    ed_key().public_key().verify(said.signature, sha256(signs))
    assert sealed(marked, "three.test") == marked


def test_what_cannot_be_sealed() -> None:
    def seal(message: bytes, cv: Any, domain: str = "one.test", **more: Any) -> bytes:
        return sealed(message, domain, cv=cv, **more)

    for message, cv, said in [
        (forwarded(), "none", "has to be verified before"),
        (MESSAGE, "pass", "there is none"),
        (drop(b"ARC-Seal", 2, forwarded()), "pass", "there is no ARC-Seal field with i=2"),
        (MESSAGE.replace(b"X-Other: ", b""), "none", "a line that is no field"),
        (b"X:" + b"x" * dkim.MAX_HEADER + b"\r\n" + MESSAGE, "none", "larger than"),
        (b"".join(b"ARC-Seal: i=%d\r\n" % n for n in range(1, 51)) + MESSAGE, "fail", "50 ARC sets already"),
        (b"ARC-Seal: i=1\r\n" * 51 + MESSAGE, "fail", "50 ARC sets already"),
    ]:
        with pytest.raises(Permanent, match=said):
            seal(message, cv)
    with pytest.raises(Permanent, match="no name in the DNS"):
        seal(MESSAGE, "none", "a b")
    for name in ("Authentication-Results", "ARC-Seal"):
        with pytest.raises(Permanent, match="must not sign"):
            seal(MESSAGE, "none", names=["From", name])


def test_what_was_seen_is_gathered() -> None:
    header = (
        b"Authentication-Results: MX.one.test (x) 1; spf=pass (why; not) smtp.mailfrom=a@b.test\r\n"
        b"Authentication-Results: other.test; dkim=pass\r\n"
        b'Authentication-Results: mx.one.test;\r\n\tdkim=fail reason="a;b"\r\n\theader.d=b.test;'
        b" rubbish; dmarc=pass\r\n\r\n"
    )
    assert authres.gathered(header, "mx.one.test") == [
        "mx.one.test",
        "spf=pass (why; not) smtp.mailfrom=a@b.test",
        'dkim=fail reason="a;b" header.d=b.test',
        "dmarc=pass",
    ]
    assert authres.gathered(header, "mx.two.test") == ["mx.two.test", "none"]


# Properties


@settings(deadline=None)
@given(messages(), st.sampled_from(["rsa", "ed"]), st.integers(0), st.integers(1, 255))
def test_any_message_sealed_damaged_verified(message: bytes, kind: str, place: int, change: int) -> None:
    made = sealed(sealed(message, "one.test", kind), "two.test", "ed")
    assert verified(made).word == "pass"
    head, content = dkim.split(made)
    assert made.endswith(message)
    if content.strip():
        at = place % len(content)
        damaged = content[:at] + bytes([content[at] ^ change]) + content[at + 1 :]
        if b"".join(damaged.split()) != b"".join(content.split()):
            assert verified(head + damaged).word == "fail"
    assert verified(head.replace(b"a@example", b"b@example") + content).word == "fail"


@settings(deadline=None)
@given(st.integers(0), st.integers(1, 255))
def test_any_damage_of_the_chain(place: int, change: int) -> None:
    made = forwarded()
    at = place % (len(made) - len(MESSAGE))
    damaged = bytearray(made)
    damaged[at] ^= change
    if damaged.lower() == made.lower() or made[at : at + 1].isspace() or damaged[at : at + 1].isspace():
        return  # of names of fields, case means nothing; of blanks, how many
    if re.match(rb"[A-Za-z0-9+/]=+[;\r]", made[at : at + 4]):
        return  # the last letter of base64 has bits that mean nothing
    assert verified(bytes(damaged)).word != "pass"


@settings(deadline=None)
@given(messages(), st.lists(st.integers(1, 40)))
def test_pieces_of_any_size(message: bytes, sizes: list[int]) -> None:
    header, body = dkim.split(sealed(message))
    verifier = Verifier(header)
    for size in sizes:
        verifier.feed(body[:size])
        body = body[size:]
    verifier.feed(body)
    assert asyncio.run(verifier.finish(resolver().txt, NOW)).word == "pass"


_pieces = [
    *(
        b"ARC-Seal:",
        b"ARC-Message-Signature:",
        b"ARC-Authentication-Results:",
        b"i=1;",
        b"i=2;",
        b"cv=none;",
        b"cv=pass;",
    ),
    *(b"a=ed25519-sha256;", b"b=AAAA;", b"bh=", b"A" * 43 + b"=;", b"h=from;", b"d=one.test;", b"s=ed;", b"s=none;"),
    *(b"\r\n", b" ", b"From: x", b"\n", b"\r", b":", b"l=3;", b"\xff", b"(", b'"', b"x;", b"spf=pass"),
]
SET = (
    b"ARC-Seal: i=1; a=ed25519-sha256; cv=none; d=one.test; s=ed; b=AAAA\r\n"
    b"ARC-Authentication-Results: i=1; x; spf=pass\r\n"
    b"ARC-Message-Signature: i=1; a=ed25519-sha256; d=one.test; s=ed; h=from; b=AAAA; bh=" + b"A" * 43 + b"=\r\n"
)


@settings(deadline=None)
@given(st.binary() | st.lists(st.sampled_from([*_pieces, SET])).map(b"".join))
def test_whatever_comes(raw: bytes) -> None:
    assert verified(raw).word in ("none", "fail")
    header, content = dkim.split(raw)
    sealer = Sealer("one.test", "ed", ed_key())
    body = sealer.body()
    body.feed(content)
    try:
        made = sealer.fields(header, body, verified(raw).word, ["mx.one.test", "none"], NOW)
    except Permanent:
        return
    assert verified(made + raw).word == ("pass" if b"cv=none" in made.lower() else "fail")


# The DNS, and limits


class Asked:
    """Answers as the keys of this file, and remembers the questions; or has one answer for everything."""

    def __init__(self, answer: list[bytes] | Exception | None = None) -> None:
        self.answer, self.asked = answer, [""] * 0

    async def txt(self, name: str) -> list[bytes]:
        self.asked.append(name)
        if isinstance(self.answer, Exception):
            raise self.answer
        return await resolver().txt(name) if self.answer is None else self.answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (NoSuchDomain("no such"), "no key: no such"),
        (Unavailable("down"), "could not be looked up: down"),
        (TimeoutError(), "could not be looked up"),
        ([], "has no TXT record"),
        ([b"p="], "the key is revoked"),
        ([dkim.record_of(rsa_key()).encode()], "the key is for rsa"),
        ([b"\xff"], "not a list of tags"),
    ],
)
def test_answers_of_the_dns(answer: list[bytes] | Exception, said: str) -> None:
    chain = verified(sealed(), Asked(answer))
    assert chain.word == "fail"
    assert said in chain.reason


def test_each_key_is_asked_for_once_and_those_of_forgers_not_at_all() -> None:
    asked = Asked()
    assert verified(forwarded(), asked).word == "pass"
    assert asked.asked == [f"ed._domainkey.{name}" for name in ("three.test", "one.test", "two.test")]
    for damaged, questions in [
        (footer(forwarded()), 0),
        (subject(forwarded()), 1),
        (b"ARC-Seal: i=9\r\n" + forwarded(), 0),
    ]:
        asked = Asked()
        assert verified(damaged, asked).word == "fail"
        assert len(asked.asked) == questions


def test_fifty_sets_and_no_more() -> None:
    message = MESSAGE
    for number in range(MAX_SETS):
        message = sealed(message, RELAYS[number % 3], cv="pass" if number else "none", names=["from"])
    chain = verified(message)
    assert (chain.word, len(chain.sets), chain.oldest_pass) == ("pass", MAX_SETS, 0)
    assert verified(SET + message).word == "fail"
    assert verified(SET * 5000).reason in ("there are more than 50 sets", "the header is larger than 262144 octets")


def test_costs_grow_with_the_message_alone() -> None:
    made = forwarded()[: -len(MESSAGE)]

    def work(message: bytes) -> None:
        verified(message)

    for piece in (
        b"a:b\r\n",
        b"To: x\r\n",
        b"ARC-Seal: ;\r\n",
        b"ARC-Authentication-Results: (i=1\r\n",
        b"x" * 50 + b"\r\n",
    ):
        assert_linear(work, lambda size, piece=piece: made + piece * size + MESSAGE)  # type: ignore[misc]
    for start in (b"ARC-Seal: i=1;", b"ARC-Message-Signature: i=1;h=", b"ARC-Authentication-Results: i=1;"):
        for piece in (b"a=b;", b":a", b"(", b" ", b'"'):
            assert_linear(work, lambda size, start=start, piece=piece: start + piece * size + b"\r\n" + MESSAGE)  # type: ignore[misc]
