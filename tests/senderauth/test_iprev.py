"""The name of an address, confirmed."""

import asyncio
from typing import Any

import pytest

from posthouse.net.dns import Answer, ZoneResolver
from posthouse.senderauth import iprev
from posthouse.senderauth.spf import Lookup

V4 = "1.2.0.192.in-addr.arpa"


def zone(*names: str, **more: Any) -> ZoneResolver:
    table: dict[str, Any] = {
        V4: {"PTR": list(names)},
        "mail.test": {"A": ["192.0.2.9", "192.0.2.1"], "AAAA": ["2001:db8::1"]},
        "other.test": {"A": ["192.0.2.9"]},
        "broken.test": None,
    }
    return ZoneResolver(table | more)


def check(resolver: ZoneResolver, ip: str = "192.0.2.1", **more: Any) -> iprev.Iprev:
    return asyncio.run(iprev.check(resolver, ip, **more))


@pytest.mark.parametrize(
    ("names", "result", "name", "reason"),
    [
        (["mail.test"], "pass", "mail.test", ""),
        (["other.test", "gone.test", "broken.test", "mail.test"], "pass", "mail.test", ""),
        (["other.test"], "fail", "", "other.test has not the address 192.0.2.1"),
        (["gone.test"], "fail", "", "gone.test has not the address 192.0.2.1"),
        (
            ["other.test", "broken.test"],
            "temperror",
            "",
            "no answer from the DNS for the addresses of other.test, broken.test",
        ),
        ([], "permerror", "", "192.0.2.1 has no name in the DNS"),
        ([""], "permerror", "", "192.0.2.1 has no name in the DNS"),
        (["x"] * 5 + ["mail.test"], "fail", "", "x has not the address 192.0.2.1"),  # too far behind
    ],
)
def test_results(names: list[str], result: str, name: str, reason: str) -> None:
    found = check(zone(*names))
    assert (found.result, found.name, found.reason) == (result, name, reason)


def test_addresses_of_both_kinds() -> None:
    reverse = "1.0.0.0." + "0.0.0.0." * 5 + "8.b.d.0.1.0.0.2.ip6.arpa"
    six = zone(**{reverse: {"PTR": ["mail.test"]}})
    assert check(six, "2001:DB8:0::1").result == "pass"
    found = check(zone("mail.test"), "::ffff:192.0.2.1")
    assert found == iprev.Iprev(
        "pass",
        "mail.test",
        names=("mail.test",),
        lookups=(Lookup(V4, "PTR", ("mail.test",)), Lookup("mail.test", "A", ("192.0.2.9", "192.0.2.1"))),
    )
    with pytest.raises(ValueError, match="unix"):
        check(zone(), "unix")


def test_the_dns_fails() -> None:
    gone = check(zone(), "192.0.2.2")
    assert (gone.result, gone.lookups[0].failure) == ("permerror", "no such domain")
    down = check(zone(**{V4: None}))
    assert (down.result, down.lookups) == ("temperror", (Lookup(V4, "PTR", failure="no answer"),))


class Silent(ZoneResolver):
    async def answer(self, name: str, kind: str) -> Answer:
        if kind == "A":
            await asyncio.Event().wait()
        return await super().answer(name, kind)


def test_there_is_a_time_for_everything() -> None:
    found = check(Silent(zone("mail.test").zone), patience=0.01)
    assert (found.result, found.reason, found.names) == ("temperror", "the DNS took longer than 0.01 s", ("mail.test",))
