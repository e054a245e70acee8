"""Address lists, sound and broken."""

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime.addresses import Address, Group, _Parser, address_list, addresses


def show(found: list[Address | Group]) -> list[object]:
    """Addresses as (name, address) and groups as (name, [members])."""

    def one(address: Address) -> tuple[str, str]:
        return address.name.decode("latin-1"), (address.local + b"@" + address.domain).decode("latin-1")

    return [(x.name.decode(), [one(m) for m in x.members]) if isinstance(x, Group) else one(x) for x in found]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 5322 appendix A.1.2, A.1.3, A.5, A.6.1, A.6.3
        ('"Joe Q. Public" <john.q.public@example.com>', [("Joe Q. Public", "john.q.public@example.com")]),
        (
            "Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
            [("Mary Smith", "mary@x.test"), ("", "jdoe@example.org"), ("Who?", "one@y.test")],
        ),
        (
            '<boss@nil.test>, "Giant; \\"Big\\" Box" <sysservices@example.net>',
            [("", "boss@nil.test"), ('Giant; "Big" Box', "sysservices@example.net")],
        ),
        (
            "A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
            [("A Group", [("Ed Jones", "c@a.test"), ("", "joe@where.test"), ("John", "jdoe@one.test")])],
        ),
        ("Undisclosed recipients:;", [("Undisclosed recipients", [])]),
        ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [("Pete", "pete@silly.test")]),
        (
            "A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n"
            "         joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of the group)",
            [("A Group", [("Chris Jones", "c@public.example"), ("", "joe@example.org"), ("John", "jdoe@one.test")])],
        ),
        ("(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", [("Hidden recipients", [])]),
        (
            "Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
            [("Mary Smith", "mary@example.net"), ("", "jdoe@test.example")],
        ),
        ("Joe Q. Public <john.q.public@example.com>", [("Joe Q. Public", "john.q.public@example.com")]),
        ("From: <john @ example . com>", [("From", [("", "john@example.com")])]),
        # What is met
        ("", []),
        (" , ;, ", []),
        ("a@b", [("", "a@b")]),
        ("a@b (Ann)", [("Ann", "a@b")]),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("<a@b>", [("", "a@b")]),
        ("Ann <a@b", [("Ann", "a@b")]),
        ("Ann a@b>", [("Ann", "a@b")]),
        ("Ann a@b", [("Ann", "a@b")]),
        ("<a@b> Ann", [("Ann", "a@b")]),
        ("a@b c@d", [("", "a@b"), ("", "c@d")]),
        ("A <a@b> B <c@d>", [("A", "a@b"), ("B", "c@d")]),
        ("a@b; c@d", [("", "a@b"), ("", "c@d")]),
        ("A <a@b>; B <c@d>;", [("A", "a@b"), ("B", "c@d")]),
        ("Doe, John <j@x>", [("", "Doe@"), ("John", "j@x")]),
        ("'Ann' <a@b>", [("'Ann'", "a@b")]),
        ('"Ann" "Lee" <a@b>', [("Ann Lee", "a@b")]),
        ('Ann "the" Lee <a@b>', [("Ann the Lee", "a@b")]),
        ("Ann   Lee <a@b>", [("Ann Lee", "a@b")]),
        ('"a@b" <c@d>', [("a@b", "c@d")]),
        ("a@b <c@d>", [("a@b", "c@d")]),
        ('"odd local"@x', [("", "odd local@x")]),
        ("a@b@c", [("", "a@b@c")]),
        ("@x", [("", "@x")]),
        ("a@", [("", "a@")]),
        ("Ann <>", [("Ann", "@")]),
        ("<>", []),
        ("root", [("", "root@")]),
        ("no address here", [("no address here", "@")]),
        ("(only a comment)", []),
        ("g: a@b, c@d", [("g", [("", "a@b"), ("", "c@d")])]),
        ("g: h: a@b;;, c@d", [("g", [("h", "a@b")]), ("", "c@d")]),
        (":a@b;", [("", [("", "a@b")])]),
        ("=?utf-8?q?a=2Cb?= <a@b>", [("=?utf-8?q?a=2Cb?=", "a@b")]),
        ("J\xfcrgen <j@\xe4.de>", [("J\xfcrgen", "j@\xe4.de")]),
        ("a@b\r\n ,\r\n c@d", [("", "a@b"), ("", "c@d")]),
        ('"never closed <a@b>, c@d', [("never closed", "a@b"), ("", "c@d")]),
        ('"a, b" <c@d>, "never \\" closed <e@f>', [("a, b", "c@d"), ("never \\ closed", "e@f")]),
        ("(never closed a@b", []),
        ("mailto:a@b", [("mailto", [("", "a@b")])]),
        ("a\\@b <c@d>", [("a\\@b", "c@d")]),
    ],
)
def test_address_list(value: str, expected: list[object]) -> None:
    assert show(address_list(value.encode("latin-1"))) == expected


@pytest.mark.parametrize(
    ("value", "route"),
    [
        ("<@one.test:a@b>", "@one.test"),
        ("Ann <@one.test , @ two.test: a@b>", "@one.test,@two.test"),
        ("<@one.test,,@[192.0.2.1]:a@b>", "@one.test,@[192.0.2.1]"),
        ("<one.test:a@b>", ""),
        ("Ann <@one.test:>", ""),
        ("<@one.test:a@b>, c@d", "@one.test"),
    ],
)
def test_source_routes(value: str, route: str) -> None:
    first, *more = addresses(value.encode())
    assert first.route == route.encode()
    assert not any(address.route for address in more)


def test_addresses_flattens_groups() -> None:
    assert [a.local for a in addresses(b"a@x, g: b@x, c@x;, d@x")] == [b"a", b"b", b"c", b"d"]


def test_the_number_is_limited() -> None:
    for value in (b"a@b," * 20_000, b"<a@b>" * 20_000, b"g:a@b;" * 20_000, b"g:" + b"a@b," * 20_000):
        assert 9_999 <= len(addresses(value)) + sum(isinstance(x, Group) for x in address_list(value)) <= 10_001


_atoms = st.text(alphabet="abcXYZ019-+", min_size=1, max_size=6)
_sound = st.tuples(
    st.sampled_from(["", "Ann", "Ann Lee", '"Lee, Ann"', '"A \\" B"']), _atoms, st.lists(_atoms, min_size=1, max_size=3)
)


@given(st.lists(_sound, min_size=1, max_size=4))
def test_like_cpython_where_the_list_is_right(people: list[tuple[str, str, list[str]]]) -> None:
    value = ", ".join([f"{name} <{local}@{'.'.join(domain)}>".strip() for name, local, domain in people])
    ours = [(a.name.decode(), (a.local + b"@" + a.domain).decode()) for a in addresses(value.encode())]
    assert ours == email.utils.getaddresses([value])


_pieces = [
    "a",
    "B",
    "@",
    "<",
    ">",
    ",",
    ";",
    ":",
    '"',
    "(",
    ")",
    "\\",
    " ",
    ".",
    "[",
    "]",
    "\r\n ",
    "\xfc",
    "g: ",
    "a@b",
]
_pieces += ["A <a@b>, ", '"C" <c@d>,', "  ", "\0", "\t"]


@given(st.lists(st.sampled_from(_pieces), max_size=15).map("".join))
def test_the_fast_way_is_the_slow_way(text: str) -> None:
    value = text.encode("latin-1")
    assert address_list(value) == _Parser(10_000).read(value)
