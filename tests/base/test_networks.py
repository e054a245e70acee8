"""Which addresses everybody can reach: a stranger's choice must not lead to an inner network, by no way round. And how
name servers are written."""

import pytest

from posthouse.base.networks import host_and_port, name_server, public

INNER = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:db8::1",
    "nothing",
    "/run/socket",
]


@pytest.mark.parametrize("address", INNER)
def test_what_leads_inside(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_what_everybody_can_reach(address: str) -> None:
    assert public(address)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("9.9.9.9:5353", ("9.9.9.9", 5353)),
        ("9.9.9.9:1", ("9.9.9.9", 1)),
        ("9.9.9.9:65535", ("9.9.9.9", 65535)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[2620:FE::9]:5353", ("2620:fe::9", 5353)),
        ("::1:5353", ("::1:5353", 53)),  # an address itself
    ],
)
def test_how_a_name_server_is_written(text: str, found: tuple[str, int]) -> None:
    assert name_server(text) == found
    assert name_server(text, 54)[1] == (54 if found[1] == 53 else found[1])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":",
            ":53",
            "[]:53",
            "9.9.9.9:",
            "9.9.9.9:0",
            "9.9.9.9:65536",
            "9.9.9.9:-1",
            "9.9.9.9:+53",
            "9.9.9.9:5 3",
        ),
        *(
            "9.9.9.9:0000053",
            "9.9.9.9:00005312345",
            "9.9.9.9:\u0665",
            "[::1",
            "::1]",
            "[::1]x:53",
            "[::1]:",
            "[[::1]]:53",
        ),
        *(
            "ns.test",
            "ns.test:53",
            "9.9.9.9/32",
            "9.9.9.9:53:53",
            "https://9.9.9.9",
            "9.9.9",
            "x" * 100_000,
            ":" * 100_000,
        ),
    ],
)
def test_what_is_no_name_server(text: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a name server") as raised:
        name_server(text)
    assert len(str(raised.value)) < 250


def test_a_host_may_have_a_name_elsewhere() -> None:
    assert host_and_port("ns.test:53", 1) == ("ns.test", 53)
    assert host_and_port("ns.test", 1) == ("ns.test", 1)
    assert host_and_port("ns.test:x", 1) is None
