"""The verdict on a message: the same however it was cut, bounded whatever it holds, not waited for without end."""

import asyncio
import gc
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.clock import SystemClock
from posthouse.base.settings import Settings
from posthouse.net.dns import Answer, Questions, Resolver, SystemResolver, Unavailable, ZoneResolver
from posthouse.senderauth import dkim, dmarc, policy, questions, verdict_fields, verdict_trace, verify
from posthouse.senderauth.dkim import Signer, record_of
from posthouse.senderauth.verify import Authenticator, Check, Client, Verdict
from posthouse.servers.smtp.authentication import Passage
from tests.senderauth.keys import MESSAGE, rsa_key
from tests.support.clock import turns
from tests.support.loop import on_loop
from tests.support.nameserver import NameServer

HERE = Client("192.0.2.1", "mx.example.org", "anna@example.org")
ZONE: dict[str, Mapping[str, Any] | None] = {
    "example.org": {"TXT": [b"v=spf1 ip4:192.0.2.1 -all"]},
    "_dmarc.example.org": {"TXT": [b"v=DMARC1; p=reject"]},
    "rsa._domainkey.example.org": {"TXT": [record_of(rsa_key()).encode()]},
}
SIGNED = dkim.sign(MESSAGE, [Signer("example.org", "rsa", rsa_key())], None)


def authenticator(resolver: Resolver, **chosen: Any) -> Authenticator:
    made = Authenticator(Settings.model_validate({"hostname": "mx.example.net"}), resolver, SystemClock(), lambda: 0.5)
    made.settings = made.settings.model_copy(update=chosen)
    return made


async def judged(message: bytes, resolver: Resolver, client: Client = HERE, cuts: list[int] | None = None) -> Verdict:
    check = Check()
    at = 0
    for cut in [*sorted(cuts or ()), len(message)]:
        check.feed(message[at:cut])
        at = cut
    return await authenticator(resolver).verify(check, client)


def words(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.spf_word, verdict.dkim_word, verdict.dmarc_word


@given(st.lists(st.integers(0, len(SIGNED)), max_size=8), st.integers(0, len(SIGNED) - 1))
def test_how_a_message_was_cut_makes_no_difference(cuts: list[int], damaged: int) -> None:
    async def test() -> None:
        assert words(await judged(SIGNED, ZoneResolver(ZONE), cuts=cuts)) == ("pass", "pass", "pass")
        other = SIGNED[:damaged] + bytes([SIGNED[damaged] ^ 1]) + SIGNED[damaged + 1 :]
        whole, pieces = await judged(other, ZoneResolver(ZONE)), await judged(other, ZoneResolver(ZONE), cuts=cuts)
        assert whole == pieces
        header, body = dkim.split(other)
        verifier = dkim.Verifier(header)
        verifier.feed(body)
        now = SystemClock().now() // 1_000_000
        assert list(whole.dkim) == await verifier.finish(ZoneResolver(ZONE).txt, now)

    asyncio.run(test())


@on_loop
async def test_everything_the_dns_said_is_remembered() -> None:
    verdict = await judged(SIGNED, ZoneResolver(ZONE))
    assert verdict.seen["rsa._domainkey.example.org", "TXT"] == Answer(
        (record_of(rsa_key()).encode(),), False, ANY_NAME
    )
    assert verdict.seen["mx.example.org", "TXT"] == questions.NO_SUCH_DOMAIN
    told = verdict_trace.trace(verdict, policy.decide(verdict, Settings().authentication))
    asked = {(one["name"], one["kind"]): one for one in told["dns"]}
    assert asked["_dmarc.example.org", "TXT"]["values"] == ["v=DMARC1; p=reject"]
    assert asked["1.2.0.192.in-addr.arpa", "PTR"]["failure"] == "no such domain"
    assert told["dkim"][0]["aligned"]


ANY_NAME = "rsa._domainkey.example.org"


class Silent(Questions):
    """A name server that never answers, and how many wait for it."""

    def __init__(self) -> None:
        self.asking = self.most = 0
        self.answers: Resolver | None = None

    async def answer(self, name: str, kind: str) -> Answer:
        if self.answers is not None:
            return await self.answers.answer(name, kind)
        self.asking += 1
        self.most = max(self.most, self.asking)
        try:
            await asyncio.Event().wait()
        finally:
            self.asking -= 1
        raise AssertionError


@on_loop
async def test_a_dns_that_is_silent_costs_a_bounded_time_and_little_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MOST", 5)
    monkeypatch.setattr(verify, "HURRIED", 0.1)
    monkeypatch.setattr(verify, "LEAST", 0.01)
    server = Silent()
    asks = authenticator(server, patience=0.3)

    async def one() -> Verdict:
        check = Check()
        check.feed(SIGNED)
        return await asks.verify(check, HERE)

    verdicts = await asyncio.gather(*[one() for _ in range(200)])
    assert {words(one) for one in verdicts} == {("temperror", "temperror", "temperror")}
    # Five at one time, each with a question for SPF twice, the key, the policy and the name; the others asked nobody.
    assert server.most <= 5 * 6
    assert server.asking == 0
    assert sum(not one.seen or set(one.seen.values()) == {questions.NO_ANSWER} for one in verdicts) == 200
    # Those that had no turn are to come again: who makes us wait must not get mail through by that.
    done = [policy.decide(one, Settings().authentication).disposition for one in verdicts]
    assert done == ["none" if one.had_turn else "defer" for one in verdicts]
    assert done.count("none") >= 5
    gc.collect()
    assert not asks._shares
    # After so many it is hurried, and with the first answer it is not.
    assert asks._silent >= 5
    server.answers = ZoneResolver(ZONE)
    assert words(await one()) == ("pass", "pass", "pass")
    assert asks._silent == 0


@on_loop
async def test_one_client_does_not_take_the_turns_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MOST", 4)
    monkeypatch.setattr(verify, "SHARE", 3)
    server = Silent()
    asks = authenticator(server, patience=60)

    async def one(client: Client) -> Verdict:
        check = Check()
        check.feed(SIGNED)
        return await asks.verify(check, client)

    waiting = [asyncio.ensure_future(one(HERE._replace(ip="192.0.2.66"))) for _ in range(50)]
    while server.asking < 3:
        await turns()
    server.answers = ZoneResolver(ZONE)
    assert words(await one(HERE)) == ("pass", "pass", "pass")
    assert not any(task.done() for task in waiting[:3])
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert words(await one(HERE)) == ("pass", "pass", "pass")


@on_loop
async def test_name_servers_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "LEAST", 0.05)
    table: dict[tuple[str, str], list[str] | str] = {
        ("example.org.", "TXT"): "SILENCE",
        ("_dmarc.example.org.", "TXT"): "SERVFAIL",
        ("rsa._domainkey.example.org.", "TXT"): "SERVFAIL",
    }
    server = NameServer(table)
    port = await server.start()
    try:
        resolver = SystemResolver(SystemClock(), ["127.0.0.1"], port=port, timeout=0.2)
        check = Check()
        check.feed(SIGNED)
        verdict = await authenticator(resolver, patience=0.5).verify(check, HERE)
        assert words(verdict) == ("temperror", "temperror", "temperror")
        assert policy.decide(verdict, Settings().authentication).disposition == "none"
        strict = Settings.model_validate({"authentication": {"trouble": "defer"}}).authentication
        assert policy.decide(verdict, strict).disposition == "defer"
        # One that answers the policy alone: SPF might have made it pass.
        table["_dmarc.example.org.", "TXT"] = ['"v=DMARC1; p=reject"']
        check = Check()
        check.feed(MESSAGE)
        assert words(await authenticator(resolver, patience=0.5).verify(check, HERE)) == (
            "temperror",
            "none",
            "temperror",
        )
    finally:
        await server.stop()


HUGE = b"v=DKIM1; k=rsa; p=" + b"A" * 60_000
SIGNATURE = SIGNED.partition(b"From: ")[0]
TERMS = b"v=spf1 " + b"ip4:192.0.2.2 a:x.test " * 10_000 + b"-all"
HOSTILE: dict[str, tuple[bytes, dict[str, Any], tuple[str, str, str]]] = {
    "thousands of signatures": (SIGNATURE * 400 + MESSAGE, {}, ("pass", "pass", "pass")),
    "a header without end": (b"X: y\r\n" * 60_000 + SIGNED, {}, ("pass", "none", "permerror")),
    "one line without end": (b"From: a@example.org " + b"x" * 400_000, {}, ("pass", "none", "permerror")),
    "no header": (b"\r\n" + SIGNED, {}, ("pass", "none", "permerror")),
    "nothing": (b"", {}, ("pass", "none", "permerror")),
    "a huge key": (SIGNED, {"rsa._domainkey.example.org": {"TXT": [HUGE]}}, ("pass", "policy", "pass")),
    "many keys": (
        SIGNED,
        {"rsa._domainkey.example.org": {"TXT": [record_of(rsa_key()).encode()] * 1000}},
        ("pass", "permerror", "pass"),
    ),
    "aliases in a circle": (
        SIGNED,
        {name: {"CNAME": [name]} for name in ("example.org", "_dmarc.example.org", "rsa._domainkey.example.org")},
        ("temperror", "temperror", "temperror"),
    ),
    "ten thousand terms": (SIGNED, {"example.org": {"TXT": [TERMS]}}, ("permerror", "pass", "pass")),
    "a record for itself": (
        SIGNED,
        {"example.org": {"TXT": [b"v=spf1 include:example.org -all"]}},
        ("permerror", "pass", "pass"),
    ),
    "many authors": (
        MESSAGE.replace(b"<anna@example.org>", b",".join(b"a@d%d.test" % n for n in range(5000))),
        {},
        ("pass", "none", "permerror"),
    ),
    "a policy without end": (
        SIGNED,
        {"_dmarc.example.org": {"TXT": [b"v=DMARC1; p=reject; " + b"x=y; " * 20_000]}},
        ("pass", "pass", ""),
    ),
    "octets of every kind": (bytes(range(256)) * 300, {}, ("pass", "none", "permerror")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_and_records(name: str) -> None:
    message, records, expected = HOSTILE[name]

    async def test() -> None:
        passage = Passage("mx.example.net", "mx.example.net", verify=True)
        stored = b"".join([passage.feed(message[at : at + 50_000]) for at in range(0, len(message), 50_000)])
        assert stored + passage.finish() == message
        assert passage.check is not None
        verdict = await authenticator(ZoneResolver(ZONE | records)).verify(passage.check, HERE)
        found = words(verdict)
        assert found[:2] == expected[:2]
        assert not expected[2] or found[2] == expected[2]
        decision = policy.decide(verdict, Settings().authentication)
        fields = verdict_fields.fields(verdict, decision, "mx.example.net", "mx.example.net")
        assert len(fields) < 16_000
        assert all(len(line) < 998 for line in fields.split(b"\r\n"))
        assert len(repr(verdict_trace.trace(verdict, decision))) < 40_000
        assert len(verdict.seen) <= questions.MOST

    asyncio.run(test())


@on_loop
async def test_names_of_the_client_that_would_forge_fields() -> None:
    client = Client("192.0.2.1", "x\r\nAuthentication-Results: mx.example.net; dmarc=pass", 'a"\r\nX: "@example.org')
    verdict = await judged(SIGNED, ZoneResolver(ZONE), client)
    fields = verdict_fields.fields(verdict, policy.Decision(), "mx.example.net", "mx.example.net")
    names = [line.partition(b":")[0] for line in fields.split(b"\r\n") if line[:1] not in (b" ", b"\t", b"")]
    assert names == [b"Authentication-Results", b"Received-SPF"]


def test_of_a_large_message_little_is_kept() -> None:
    passage = Passage("mx.example.net", "mx.example.net", verify=True)
    piece = b"The quick brown fox jumps over the lazy dog\r\n" * 1456
    passage.feed(SIGNED)
    tracemalloc.start()
    try:
        for _ in range(50 * 1024 * 1024 // len(piece)):
            assert len(passage.feed(piece)) == len(piece)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@on_loop
async def test_a_client_whose_address_is_not_known() -> None:
    for ip in ("0.0.0.0", "/run/lmtp.sock", ""):
        verdict = await judged(MESSAGE, ZoneResolver(ZONE), HERE._replace(ip=ip))
        assert verdict.spf == ()
        assert verdict.dmarc_word == "fail"
        decision = policy.decide(verdict, Settings().authentication)
        assert (decision.disposition, decision.override) == ("none", "local_policy")


def test_what_the_sender_has_asked_for_leaves_room_for_the_policy() -> None:
    """SPF, signatures and chains ask for names that he chose: a policy must not go unread for it."""

    class Endless(ZoneResolver):
        async def answer(self, name: str, kind: str) -> Answer:
            return Answer((), False, name) if name.endswith("evil.test") else await super().answer(name, kind)

    async def test() -> None:
        asked = questions.Asked(Endless({"_dmarc.bank.test": {"TXT": [b"v=DMARC1; p=reject"]}}), 1e9)
        for number in range(questions.MOST):
            await asked.answer(f"{number}.evil.test", "A")
        with pytest.raises(Unavailable):
            await asked.answer("one-more.evil.test", "A")
        asked.extend(1e9)
        found = await dmarc.evaluate(asked, ["a.b.bank.test"], [], [], dice=0.5)
        assert (found.word, found.disposition) == ("fail", "reject")

    asyncio.run(test())


class Slow(dict[tuple[str, str], Any]):
    """The table of name servers of which those for evil.test never answer who the host of an MX record is."""

    def get(self, question: tuple[str, str], _default: Any = None) -> Any:
        name, kind = question
        if name.endswith(".evil.test.") and kind == "A":
            return "SILENCE"
        if name.endswith(".evil.test.") and kind == "TXT" and name.count(".") == 3:
            return [f'"v=spf1 {" ".join(f"mx:{number}.{name}" for number in range(10))} -all"']
        if name.endswith(".evil.test.") and kind == "MX":
            return [f"{number} {number}.{name}" for number in range(10)]
        return {
            ("example.org.", "TXT"): ['"v=spf1 ip4:192.0.2.1 -all"'],
            ("_dmarc.example.org.", "TXT"): ['"v=DMARC1; p=reject"'],
        }.get(question, "NXDOMAIN")


class Waited(NameServer):
    """It tells when it was asked for nearly as many hosts as one client may ask for at one time."""

    def __init__(self, table: Any) -> None:
        super().__init__(table)
        self.asked = asyncio.Event()

    def _reply(self, data: bytes, transport: str) -> bytes | None:
        reply = super()._reply(data, transport)
        if len({name for _, name, kind in self.questions if kind == "A"}) >= verify.QUESTIONS_SHARE - 10:
            self.asked.set()
        return reply


def test_one_client_whose_name_servers_are_silent_keeps_nobody_from_asking() -> None:
    async def test() -> None:
        server = Waited(Slow())
        resolver = SystemResolver(SystemClock(), ["127.0.0.1"], port=await server.start(), timeout=30)
        judge = authenticator(resolver)
        try:
            evil = [
                asyncio.ensure_future(
                    judge.verify(Check(), Client("192.0.2.66", "mx.test", f"a@{number}.evil.test")),
                )
                for number in range(5)  # of 100 questions each
            ]
            await server.asked.wait()
            check = Check()
            check.feed(MESSAGE)
            async with asyncio.timeout(15):
                good = await judge.verify(check, HERE)
            assert words(good) == ("pass", "none", "pass")
            assert not any(one.done() for one in evil)
            hosts = {name for _, name, kind in server.questions if kind == "A" and name.endswith(".evil.test.")}
            assert len(hosts) <= verify.QUESTIONS_SHARE
            for one in evil:
                one.cancel()
            await asyncio.gather(*evil, return_exceptions=True)
        finally:
            await server.stop()

    asyncio.run(test())


def test_what_never_found_a_place_is_told_apart_from_silence() -> None:
    async def test() -> None:
        place = asyncio.Semaphore(1)
        late = asyncio.get_running_loop().time()
        asked = questions.Asked(ZoneResolver({}), late, (place,))
        async with place:
            with pytest.raises(Unavailable):
                await asked.answer("example.org", "TXT")
        assert not asked.had_turn
        assert not place.locked()

    asyncio.run(test())
