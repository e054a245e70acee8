"""What is asked of a server, and what is said of one after a real handshake."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from posthouse.net.dial import dial
from posthouse.net.dns import Answer, Unavailable, ZoneResolver
from posthouse.net.http import HttpFailed, Response
from posthouse.net.stream import Stream, TlsFailed
from posthouse.queue import tls_counts
from posthouse.queue.certificates import public_roots
from posthouse.queue.client_tls import ClientContexts
from posthouse.queue.mta_sts import Policies
from posthouse.queue.tls_counts import Count, Counts, Failure
from posthouse.queue.transport_security import (
    Deferral,
    Finding,
    Guard,
    Security,
    handshake_failed,
    raised,
    verdict,
    without_tls,
)
from posthouse.smtp.replies import Reply
from tests.net.test_tls_sessions import server
from tests.queue.test_dane import CHAIN, LEAF, MIDDLE, TA, record
from tests.support.certificates import NOW, Pair, context_of, issue, root, root_file
from tests.support.clock import FakeClock
from tests.support.loop import on_both_loops, on_loop
from tests.support.policies import policy
from tests.support.store import opened

EE = record(LEAF)
WHERE = "_25._tcp.mx.a.test"
ZONE: dict[str, Any] = {
    "a.test": {"MX": [(10, "mx.a.test")]},
    "mx.a.test": {"A": ["127.0.0.1"]},
    WHERE: {"TLSA": [EE]},
}
SECURE = {"a.test", "mx.a.test", WHERE}


class Resolver(ZoneResolver):
    """Counts questions; some of them fail."""

    def __init__(self, zone: dict[str, Any], secure: Any = SECURE, failing: set[tuple[str, str]] | None = None) -> None:
        super().__init__(zone, secure=secure)
        self.failing = failing or set()
        self.asked: list[tuple[str, str]] = []

    async def answer(self, name: str, kind: str) -> Answer:
        self.asked.append((name, kind))
        if (name, kind) in self.failing:
            raise Unavailable(f"no answer from the DNS for {name} {kind}: SERVFAIL")
        return await super().answer(name, kind)


@asynccontextmanager
async def guard(
    resolver: Resolver, body: bytes | Exception | None = None, domain: str = "a.test"
) -> AsyncIterator[Guard]:
    """With the MTA-STS policy `body` of a domain, if given."""

    async def fetch(_: str) -> Response:
        if isinstance(body, Exception):
            raise body
        return Response(200, "text/plain", body or b"")

    if body is not None:
        resolver.zone = dict(resolver.zone) | {f"_mta-sts.{domain}": {"TXT": [b"v=STSv1; id=7;"]}}
    async with opened() as database:
        policies = Policies(database, resolver, FakeClock(), fetch)
        try:
            yield Guard(resolver, policies)
        finally:
            await policies.close()


async def asked(resolver: Resolver, body: bytes | Exception | None = None, **options: Any) -> Security | Reply:
    async with guard(resolver, body) as made:
        return await made.of("A.test", "MX.a.test.", **options)


# DANE


@on_both_loops
async def test_dane() -> None:
    found = await asked(Resolver(ZONE), mx_is_secure=True)
    assert found == Security(
        "dane", f"DANE: TLSA records of {WHERE}: 3 1 1", (EE,), "mx.a.test", ("mx.a.test", "a.test")
    )
    assert isinstance(found, Security)
    assert found.mandatory
    assert found.policy_type == "tlsa"
    assert await asked(Resolver(ZONE)) == found  # it finds out by itself whether the MX records are signed


@on_loop
async def test_dane_on_another_port() -> None:
    zone = ZONE | {"_2525._tcp.mx.a.test": {"TLSA": [EE._replace(usage=2)]}}
    found = await asked(Resolver(zone, True), port=2525)
    assert isinstance(found, Security)
    assert found.tlsa == (EE._replace(usage=2),)


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("a.test", "the mail servers of a.test are not signed, or not validated"),
        ("mx.a.test", "the addresses of mx.a.test are not signed, or not validated"),
        (WHERE, "no TLSA records of mx.a.test"),
    ],
)
@on_loop
async def test_dane_needs_every_answer_to_be_secure(missing: str, why: str) -> None:
    found = await asked(Resolver(ZONE, SECURE - {missing}))
    assert isinstance(found, Security)
    assert (found.level, found.tlsa, found.result) == ("opportunistic", (), "")
    assert why in found.reason
    assert "no MTA-STS policy" in found.reason


@on_loop
async def test_nothing_more_is_asked_when_the_mx_records_are_not_secure() -> None:
    resolver = Resolver(ZONE)
    found = await asked(resolver, mx_is_secure=False)
    assert isinstance(found, Security)
    assert found.level == "opportunistic"
    assert [kind for _, kind in resolver.asked] == ["TXT"]


@pytest.mark.parametrize(
    "question",
    [{(WHERE, "TLSA")}, {("mx.a.test", "A"), ("mx.a.test", "AAAA")}, {("a.test", "MX")}],
)
@pytest.mark.parametrize("body", [None, policy(), policy("testing")])
@on_loop
async def test_what_the_dns_does_not_say_puts_the_host_off(question: set[tuple[str, str]], body: bytes | None) -> None:
    """SERVFAIL is what a validating resolver says of wrong signatures: it never means "no TLSA"."""
    async with guard(Resolver(ZONE, failing=question), body) as made:
        found = await made.of("a.test", "mx.a.test")
        assert isinstance(found, Deferral)
        assert isinstance(found, Reply)
        assert found[:2] == (451, "4.7.5")
        assert found.temporary
        assert "SERVFAIL" in found.text
        assert found.result == "dnssec-invalid"
        assert made.counts.take() == {
            ("a.test", "tlsa"): Count(0, {Failure("dnssec-invalid", "mx.a.test"): 1}),
        }


@on_loop
async def test_one_kind_of_address_is_enough() -> None:
    for failing in ({("mx.a.test", "A")}, {("mx.a.test", "AAAA")}):
        found = await asked(Resolver(ZONE, failing=failing))
        assert isinstance(found, Security)
        assert found.level == "dane"


@on_loop
async def test_mx_records_that_were_secure_stay_so() -> None:
    found = await asked(Resolver(ZONE, failing={("a.test", "MX")}), mx_is_secure=True)
    assert isinstance(found, Security)
    assert found.level == "dane"


@on_loop
async def test_a_host_that_does_not_exist() -> None:
    found = await asked(Resolver({"a.test": {"MX": [(10, "mx.a.test")]}}, True))
    assert isinstance(found, Security)
    assert (found.level, found.result) == ("opportunistic", "")


@on_loop
async def test_a_domain_without_mx_records() -> None:
    zone = {"a.test": {"A": ["127.0.0.1"]}, "_25._tcp.a.test": {"TLSA": [EE]}}
    async with guard(Resolver(zone, True)) as made:
        found = await made.of("a.test", "a.test")
    assert isinstance(found, Security)
    assert (found.level, found.base, found.names) == ("dane", "a.test", ("a.test",))


def _aliased(**records: Any) -> dict[str, Any]:
    return {
        "a.test": {"MX": [(10, "mx.a.test")]},
        "mx.a.test": {"CNAME": ["h.b.test"]},
        "h.b.test": {"A": ["127.0.0.1"]},
    } | {f"_25._tcp.{name.replace('_', '.')}": {"TLSA": [record]} for name, record in records.items()}


@pytest.mark.parametrize(
    ("zone", "insecure", "base"),
    [
        (_aliased(h_b_test=EE), (), "h.b.test"),
        (_aliased(h_b_test=EE, mx_a_test=EE), (), "h.b.test"),  # what the alias leads to goes first
        (_aliased(mx_a_test=EE), (), "mx.a.test"),
        (_aliased(h_b_test=EE, mx_a_test=EE), ("h.b.test",), "mx.a.test"),  # only the alias is signed
        (_aliased(h_b_test=EE), ("h.b.test",), ""),
        (_aliased(h_b_test=EE, mx_a_test=EE), ("mx.a.test",), ""),
    ],
)
@on_loop
async def test_aliases(zone: dict[str, Any], insecure: tuple[str, ...], base: str) -> None:
    found = await asked(Resolver(zone, zone.keys() - set(insecure)))
    assert isinstance(found, Security)
    assert (found.level, found.base) == ("dane" if base else "opportunistic", base)
    if base:
        assert found.names == (base, "a.test")


@on_loop
async def test_an_alias_that_cannot_be_asked_for_puts_the_host_off() -> None:
    zone = _aliased(mx_a_test=EE)
    found = await asked(Resolver(zone, zone.keys() - {"h.b.test"}, failing={("mx.a.test", "CNAME")}))
    assert isinstance(found, Deferral)


@on_loop
async def test_an_alias_of_the_next_hop_is_a_name_of_its_servers_too() -> None:
    zone = ZONE | {"alias.test": {"CNAME": ["a.test"]}}
    async with guard(Resolver(zone, True)) as made:
        found = await made.of("alias.test", "mx.a.test")
    assert isinstance(found, Security)
    assert found.names == ("mx.a.test", "alias.test", "a.test")


@on_loop
async def test_records_that_nobody_can_use_ask_for_tls_alone() -> None:
    zone = ZONE | {WHERE: {"TLSA": [EE._replace(usage=1), EE._replace(data=b"short")]}}
    found = await asked(Resolver(zone))
    assert isinstance(found, Security)
    assert (found.level, found.tlsa, found.base, found.result) == ("dane", (), "mx.a.test", "tlsa-invalid")
    assert found.mandatory
    accepted = verdict(found, [TA.der], "mx.a.test", now=NOW)
    assert (accepted.ok, accepted.result) == (True, "tlsa-invalid")
    assert not without_tls(found).ok
    # A policy of MTA-STS asks for more.
    for body, level in ((policy(), "sts-enforce"), (policy("testing"), "dane"), (policy("none", ()), "dane")):
        both = await asked(Resolver(zone), body)
        assert isinstance(both, Security)
        assert (both.level, both.result) == (level, "tlsa-invalid")
    assert isinstance(await asked(Resolver(zone), policy(mx=("other.test",))), Deferral)


# MTA-STS


@on_loop
async def test_dane_goes_before_mta_sts() -> None:
    resolver = Resolver(ZONE)
    found = await asked(resolver, policy(mx=("other.test",)))
    assert isinstance(found, Security)
    assert found.level == "dane"
    assert ("_mta-sts.a.test", "TXT") not in resolver.asked


@pytest.mark.parametrize(
    ("body", "level", "result", "why"),
    [
        (policy(), "sts-enforce", "", "MTA-STS policy 7 of a.test (enforce)"),
        (policy(mx=("*.a.test",)), "sts-enforce", "", "(enforce)"),
        (policy("testing"), "sts-testing", "", "(testing)"),
        (
            policy("testing", ("*.mx.a.test",)),
            "sts-testing",
            "validation-failure",
            "does not name the server mx.a.test",
        ),
        (policy("none", ()), "opportunistic", "", "(none)"),
        (HttpFailed("it is down"), "opportunistic", "sts-policy-fetch-error", "it is down"),
        (b"", "opportunistic", "sts-policy-invalid", "version"),
        (None, "opportunistic", "", "no MTA-STS policy"),
    ],
)
@on_loop
async def test_mta_sts(body: bytes | Exception | None, level: str, result: str, why: str) -> None:
    found = await asked(Resolver(ZONE, ()), body)
    assert isinstance(found, Security)
    assert (found.level, found.result) == (level, result)
    assert why in found.reason
    assert found.policy_id == ("7" if level.startswith("sts") else "")
    assert found.mandatory is (level == "sts-enforce")


@on_loop
async def test_a_host_that_the_policy_does_not_name_is_put_off() -> None:
    async with guard(Resolver(ZONE, ()), policy(mx=("other.a.test",))) as made:
        found = await made.of("a.test", "mx.a.test")
        assert isinstance(found, Deferral)
        assert found.code == 451
        assert (found.result, found.policy) == ("validation-failure", "sts")
        assert "does not name the server mx.a.test" in found.text
        assert ("a.test", "sts") in made.counts.take()
        assert isinstance(await made.of("a.test", "other.a.test"), Security)


@pytest.mark.parametrize(("destination", "host"), [("[127.0.0.1]", "127.0.0.1"), ("a.test", "192.0.2.1")])
@on_loop
async def test_addresses_have_no_policy(destination: str, host: str) -> None:
    resolver = Resolver(ZONE)
    async with guard(resolver, policy()) as made:
        assert await made.of(destination, host) == Security("opportunistic", "an address has no policy")
    assert not resolver.asked


@on_loop
async def test_without_policies() -> None:
    found = await Guard(Resolver(ZONE, ()), None).of("a.test", "mx.a.test")
    assert isinstance(found, Security)
    assert found.level == "opportunistic"


# After the handshake

OPPORTUNISTIC = Security("opportunistic", "nothing is asked")
DANE = Security("dane", "DANE", (EE,), "mx.a.test", ("mx.a.test", "a.test"))
DANE_TA = DANE._replace(tlsa=(record(TA, 2),))
UNUSABLE = Security("dane", "DANE", (), "mx.a.test", result="tlsa-invalid")
ENFORCE = Security("sts-enforce", "policy", policy_id="7")
TESTING = Security("sts-testing", "policy", policy_id="7")
PKIX = Security("pkix", "REQUIRETLS")
TRUSTED = issue("mx.a.test", root())
EXPIRED = issue("mx.a.test", root(), expired=True)
OTHER = issue("x.test", root())
STRANGER = issue("mx.a.test", issue("Nobody", None))


async def shaken(security: Security, *chain: Pair, contexts: ClientContexts | None = None) -> Finding:
    """What is said of a server with this chain, by a real handshake."""
    contexts = contexts or ClientContexts(root_file())
    async with server(context_of(*chain), starttls=True) as port:
        stream = await dial(["127.0.0.1"], port)
        stream.write(b"s")
        assert await stream.read() == b"go ahead"
        tls = contexts.of(security, "mx.a.test", NOW)
        try:
            await stream.start_tls(tls.context, tls.name)
        except TlsFailed as error:
            return handshake_failed(security, error)
        assert stream.tls is not None
        verified = stream.tls.verified
        finding = verdict(security, stream.chain(), "mx.a.test", now=NOW, verified=verified, roots=contexts.roots())
        await stream.close()
        return finding


@pytest.mark.parametrize(
    ("security", "chain", "ok", "result", "words"),
    [
        (DANE, CHAIN, True, "", "DANE-EE matched 3 1 1"),
        (DANE, (STRANGER,), False, "validation-failure", "no TLSA record (3 1 1) fits"),
        (DANE_TA, CHAIN, True, "", "DANE-TA matched 2 1 1"),
        (
            DANE_TA,
            (issue("x.test", MIDDLE), MIDDLE, TA),
            False,
            "certificate-host-mismatch",
            "certificate is for x.test, wanted is mx.a.test or a.test",
        ),
        (DANE_TA, (issue("mx.a.test", MIDDLE, expired=True), MIDDLE, TA), False, "certificate-expired", "ended on"),
        (UNUSABLE, (STRANGER,), True, "tlsa-invalid", "without authentication"),
        (ENFORCE, (TRUSTED,), True, "", "as MTA-STS wants"),
        (ENFORCE, (EXPIRED,), False, "certificate-expired", "certificate has expired"),
        (ENFORCE, (OTHER,), False, "certificate-host-mismatch", "Hostname mismatch"),
        (ENFORCE, (STRANGER,), False, "certificate-not-trusted", "unable to get local issuer"),
        (TESTING, (TRUSTED,), True, "", "as MTA-STS wants"),
        (TESTING, (EXPIRED,), True, "certificate-expired", "MTA-STS (testing): the certificate of CN=mx.a.test ended"),
        (TESTING, (OTHER,), True, "certificate-host-mismatch", "the certificate is for x.test, wanted is mx.a.test"),
        (TESTING, (STRANGER,), True, "certificate-not-trusted", "does not lead to a trusted root"),
        (TESTING._replace(result="validation-failure"), (TRUSTED,), True, "validation-failure", "as MTA-STS wants"),
        (PKIX, (TRUSTED,), True, "", "the certificate is for mx.a.test"),
        (PKIX, (EXPIRED,), False, "certificate-expired", "certificate has expired"),
        (PKIX, (OTHER,), False, "certificate-host-mismatch", "Hostname mismatch"),
        (PKIX, (STRANGER,), False, "certificate-not-trusted", "unable to get local issuer"),
        (OPPORTUNISTIC, (STRANGER,), True, "", "without authentication"),
        (
            OPPORTUNISTIC._replace(result="sts-policy-fetch-error"),
            (STRANGER,),
            True,
            "sts-policy-fetch-error",
            "without authentication",
        ),
    ],
)
@on_both_loops
async def test_handshakes(security: Security, chain: tuple[Pair, ...], ok: bool, result: str, words: str) -> None:
    finding = await shaken(security, *chain)
    assert (finding.ok, finding.result) == (ok, result), finding.text
    assert words in finding.text
    assert finding.policy == security.policy_type


def test_enforcing_without_a_verified_handshake_fails_closed() -> None:
    """A caller that took the wrong context does not get mail out by it."""
    roots = public_roots(root_file())
    assert not verdict(ENFORCE, [STRANGER.der], "mx.a.test", now=NOW, roots=roots).ok
    assert not verdict(ENFORCE, [TRUSTED.der], "mx.a.test", now=NOW).ok  # no roots
    assert not verdict(ENFORCE, [], "mx.a.test", now=NOW, roots=roots).ok
    assert not verdict(ENFORCE, [b"nonsense"], "mx.a.test", now=NOW, roots=roots).ok
    assert verdict(ENFORCE, [TRUSTED.der], "MX.a.test.", now=NOW, roots=roots).ok


def test_names_may_be_given() -> None:
    leaf = issue("third.test", MIDDLE)
    chain = [one.der for one in (leaf, MIDDLE, TA)]
    assert not verdict(DANE_TA, chain, "mx.a.test", now=NOW).ok
    assert verdict(DANE_TA, chain, "mx.a.test", ("third.test",), now=NOW).ok


def test_what_a_message_that_requires_tls_asks_for() -> None:
    for enough in (DANE, ENFORCE, PKIX):
        assert raised(enough, certain=False, why="x") == enough
    for less in (UNUSABLE, TESTING, OPPORTUNISTIC):
        assert raised(less, certain=False, why="x") is None
        more = raised(less, certain=True, why="x")
        assert more is not None
        assert (more.level, more.mandatory) == ("pkix", True)
    assert raised(None, certain=True, why="x") is None
    assert not verdict(PKIX, [STRANGER.der], "mx.a.test", now=NOW, roots=public_roots(root_file())).ok


@pytest.mark.parametrize("security", [DANE, UNUSABLE, ENFORCE, TESTING, PKIX, OPPORTUNISTIC])
def test_servers_without_tls(security: Security) -> None:
    finding = without_tls(security)
    assert finding.ok is not security.mandatory
    assert finding.result == "starttls-not-supported"
    broken = handshake_failed(security, TlsFailed("reset"))
    assert (broken.ok, broken.result) == (not security.mandatory, "validation-failure")


def test_every_code_of_openssl_has_a_result() -> None:
    error = ssl.SSLCertVerificationError("x")
    for code, result in (
        (10, "certificate-expired"),
        (62, "certificate-host-mismatch"),
        (18, "certificate-not-trusted"),
    ):
        error.verify_code = code
        assert handshake_failed(ENFORCE, error).result == result
        failed = TlsFailed("x")
        failed.__cause__ = error
        assert handshake_failed(ENFORCE, failed).result == result


# Contexts and sessions


def test_which_context_belongs_to_which_level() -> None:
    contexts = ClientContexts(root_file())
    dane, enforce, testing, plain = (
        contexts.of(one, "mx.x.test", NOW) for one in (DANE, ENFORCE, TESTING, OPPORTUNISTIC)
    )
    assert len({id(one.context) for one in (dane, enforce, testing, plain)}) == 4
    assert [one.name for one in (dane, enforce, testing, plain)] == ["mx.a.test", *["mx.x.test"] * 3]  # base as SNI
    assert enforce.context.verify_mode == ssl.CERT_REQUIRED
    assert enforce.context.check_hostname
    for one in (dane, testing, plain):
        assert one.context.verify_mode == ssl.CERT_NONE
    assert contexts.of(DANE, "mx.x.test", NOW).context is dane.context


async def _visited(contexts: ClientContexts, security: Security, port: int) -> Stream:
    stream = await dial(["127.0.0.1"], port, tls=contexts.of(security, "mx.a.test", NOW))
    assert await stream.read() == b"hello"
    stream.keep_session()
    await stream.close()
    return stream


@on_both_loops
async def test_sessions_are_resumed_while_the_records_fit() -> None:
    contexts = ClientContexts(root_file())
    async with server(context_of(*CHAIN)) as port:
        resumed = []
        for security in (
            DANE,
            DANE,
            DANE_TA,
            DANE._replace(tlsa=(record(STRANGER),)),
            DANE,
            OPPORTUNISTIC,
            OPPORTUNISTIC,
        ):
            stream = await _visited(contexts, security, port)
            assert stream.tls is not None
            resumed.append(stream.tls.resumed)
            fits = verdict(security, stream.chain(), "mx.a.test", now=NOW)
            assert fits.ok is (security.tlsa != (record(STRANGER),))
        # Records that the kept certificates do not fit ask for a whole handshake; levels share nothing.
        assert resumed == [False, True, True, False, True, False, True]
        contexts.forget(OPPORTUNISTIC, "mx.a.test")
        contexts.forget(TESTING, "mx.a.test")
        stream = await _visited(contexts, OPPORTUNISTIC, port)
        assert stream.tls is not None
        assert not stream.tls.resumed


@on_loop
async def test_a_resumed_session_of_mta_sts_is_verified() -> None:
    contexts = ClientContexts(root_file())
    async with server(context_of(TRUSTED)) as port:
        for _ in range(2):
            stream = await _visited(contexts, ENFORCE, port)
        assert stream.tls is not None
        assert (stream.tls.resumed, stream.tls.verified) == (True, True)
        assert stream.chain() == (TRUSTED.der,)


# Counts


def test_counts() -> None:
    counts = Counts()
    good = Finding(True, "fine", "", "tlsa")
    bad = Finding(False, "no", "certificate-expired", "tlsa")
    odd = Finding(True, "let through", "certificate-expired", "sts")
    for finding in (good, good, bad, odd):
        counts.note("a.test", "mx.a.test", finding)
    assert counts.take() == {
        ("a.test", "tlsa"): Count(2, {Failure("certificate-expired", "mx.a.test"): 1}),
        ("a.test", "sts"): Count(0, {Failure("certificate-expired", "mx.a.test"): 1}),
    }
    assert counts.take() == {}


def test_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_counts, "MOST_DOMAINS", 2)
    monkeypatch.setattr(tls_counts, "MOST_KINDS", 2)
    counts = Counts()
    for number in range(4):
        counts.note("a.test", f"mx{number}.a.test", Finding(False, "no", "validation-failure", "tlsa"))
        counts.note(f"d{number}.test", "mx", Finding(True, "fine"))
    assert counts.lost == 2 + 3
    assert len(counts.take()) == 2
    assert counts.lost == 0


def test_the_roots_of_the_system_are_read() -> None:
    assert public_roots(root_file()) is not None
    assert public_roots(root_file().with_name("none.pem")) is None
    asyncio.run(asyncio.to_thread(public_roots))  # whatever is there, it raises nothing
