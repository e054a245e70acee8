"""SRS: our addresses are read by another implementation (srslib) and theirs by us; nothing forged or old comes back."""

import srslib
from hypothesis import given
from hypothesis import strategies as st

from posthouse.delivery import srs
from posthouse.delivery.srs import DAY, DAYS, Fault
from posthouse.wire.address import NULL, Address
from tests.support.clock import START

KEY, OLD = b"a key of ours", b"the key before"
ALICE = Address("alice", "origin.example")


def theirs(key: bytes = KEY, now: int = START) -> srslib.SRS:
    other = srslib.SRS(key)
    other._time_fn = lambda: now / 1e6
    return other


def made(sender: Address, domain: str = "us.example", key: bytes = KEY, now: int = START) -> Address:
    found = srs.forward(sender, domain, key, now)
    assert isinstance(found, Address), found
    return found


def test_the_form_is_the_usual_one() -> None:
    address = made(ALICE)
    tag, _, rest = address.local_part.partition("=")
    said, day, host, local = rest.split("=")
    assert (tag, len(said), len(day), host, local, address.domain) == (
        "SRS0", 4, 2, "origin.example", "alice", "us.example",
    )  # fmt: skip
    assert srs.is_srs(address)
    assert not srs.is_srs(ALICE)
    again = made(address, "next.example", b"their key")
    assert again.local_part.startswith("SRS1=")
    assert again.local_part.endswith(f"=us.example=={rest}")
    assert made(again, "last.example", b"x").local_part.endswith(f"=us.example=={rest}"), "it does not grow"


locals_ = st.text(min_size=1, max_size=40, alphabet=st.sampled_from("abcXYZ019.+-=_/!#"))
hosts = st.sampled_from(["origin.example", "a.b.c.example", "x-1.test"])
days = st.integers(0, 1500).map(lambda n: START + n * DAY)


@given(locals_, hosts, days)
def test_both_implementations_write_the_same(local: str, host: str, now: int) -> None:
    sender = f"{local}@{host}"
    ours = made(Address(local, host), now=now)
    assert f"{ours.local_part}@us.example" == theirs(now=now).forward(sender, "us.example")
    second = made(ours, "next.example", OLD, now)
    assert f"{second.local_part}@next.example" == theirs(OLD, now).forward(
        f"{ours.local_part}@us.example", "next.example"
    )
    third = made(second, "last.example", KEY, now)
    assert f"{third.local_part}@last.example" == theirs(KEY, now).forward(
        f"{second.local_part}@next.example", "last.example"
    )


@given(locals_, hosts, days, st.integers(0, 20))
def test_each_turns_back_what_the_other_wrote(local: str, host: str, now: int, age: int) -> None:
    if srs.is_srs(Address(local, host)):
        return
    sender, later = f"{local}@{host}", now + age * DAY
    written, _, domain = theirs(now=now).forward(sender, "us.example").rpartition("@")
    assert srs.reverse(Address(written, domain), [KEY], later) == Address(local, host)
    ours = made(Address(local, host), now=now)
    assert theirs(now=later).reverse(f"{ours.local_part}@us.example") == sender
    second = made(ours, "next.example", OLD, now)
    assert theirs(OLD, later).reverse(f"{second.local_part}@next.example") == f"{ours.local_part}@us.example"
    assert srs.reverse(second, [OLD], later) == ours


def test_case_may_be_lost_on_the_way() -> None:
    for change in (str.lower, str.upper):
        address = made(ALICE)._replace(local_part=change(made(ALICE).local_part))
        found = srs.reverse(address, [KEY], START)
        assert isinstance(found, Address)
        assert str(found).lower() == "alice@origin.example"


def test_the_key_before_is_believed() -> None:
    address = made(ALICE, key=OLD)
    assert srs.reverse(address, [KEY, OLD], START) == ALICE
    assert srs.reverse(address, [KEY], START) is Fault.FORGED


def test_an_address_ends_after_three_weeks() -> None:
    address = made(ALICE)
    assert srs.reverse(address, [KEY], START + DAYS * DAY) == ALICE
    assert srs.reverse(address, [KEY], START + (DAYS + 1) * DAY) is Fault.EXPIRED
    assert srs.reverse(address, [KEY], START - DAY) is Fault.EXPIRED, "from the future"
    # Days are counted modulo 1024: the week in which they begin anew is like any other.
    turn = 1024 * 20 * DAY
    assert srs.reverse(made(ALICE, now=turn - DAY), [KEY], turn + DAY) == ALICE


def test_what_was_changed_is_forged() -> None:
    address = made(ALICE)
    for old, new in (("alice", "carol"), ("origin", "other"), ("SRS0=", "SRS0=A")):
        assert srs.reverse(address._replace(local_part=address.local_part.replace(old, new)), [KEY], START) in (
            Fault.FORGED,
            Fault.NOT_SRS,
        )
    short = address.local_part.split("=", 2)
    assert srs.reverse(Address(f"SRS0={short[1][:1]}={short[2]}", "us.example"), [KEY], START) is Fault.FORGED


def test_what_is_not_srs() -> None:
    for local in ("alice", "SRS0", "SRS0=", "SRS0=a=b=c", "SRS0====", "SRS1=x", "SRS1=h=host=nosep", "SRS2=a=b=c=d"):
        assert srs.reverse(Address(local, "us.example"), [KEY], START) is Fault.NOT_SRS, local


@given(st.text(max_size=80))
def test_no_address_breaks_it(text: str) -> None:
    for tag in ("SRS0=", "SRS1=", "srs0+", ""):
        assert isinstance(srs.reverse(Address(tag + text, "us.example"), [KEY], START), (Address, Fault))
        assert isinstance(srs.forward(Address(tag + text, "x.example"), "us.example", KEY, START), (Address, Fault))


def test_long_and_quoted_senders() -> None:
    bulk = Address("bounces+12345-ab12-bob=there.example", "em1234.mailings.example")
    address = made(bulk)
    assert len(address.local_part) > 64
    assert Address.parse(str(address)) == address, "what we write we take back"
    assert srs.reverse(address, [KEY], START) == bulk
    quoted = Address("a b", "[192.0.2.1]")
    parsed = Address.parse(str(made(quoted)))
    assert parsed is not None
    assert srs.reverse(parsed, [KEY], START) == quoted
    assert srs.forward(Address("a" * 64, "b" * 60 + "." + "c" * 60 + "." + "d" * 60), "us.example", KEY, START) is (
        Fault.TOO_LONG
    )
    assert srs.forward(NULL, "us.example", KEY, START) == NULL
