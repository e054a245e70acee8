"""The base subject of RFC 5256 section 2.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import threads
from posthouse.mime.threads import base_subject, message_id_hash
from tests.support.growth import assert_linear


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("a subject", ("a subject", False)),
        ("Re: a subject", ("a subject", True)),
        ("RE:a", ("a", True)),
        ("fw: FWD : re: a", ("a", True)),
        ("Re[2]: a", ("a", True)),
        ("Re [list] : a", ("a", True)),
        ("[list] Re: a", ("a", True)),
        ("[list] [more] a", ("a", False)),
        ("[list] Re: [list] a", ("a", True)),
        ("[only a blob]", ("[only a blob]", False)),
        ("[a] [b]", ("[b]", False)),
        ("Re: [b]", ("[b]", True)),
        ("a (fwd)", ("a", True)),
        ("a (FWD) (fwd)  ", ("a", True)),
        ("[fwd: a subject]", ("a subject", True)),
        ("[Fwd: Re: [x] a (fwd)]", ("a", True)),
        ("[fwd:]", ("", True)),
        ("[fwd: not closed", ("[fwd: not closed", False)),
        ("Regarding: a", ("Regarding: a", False)),
        ("re a", ("re a", False)),
        ("  a \t b\n c ", ("a b c", False)),
        ("Re:", ("", True)),
        ("(fwd)", ("", True)),
        ("", ("", False)),
        ("Re: Re: Re:", ("", True)),
        ("Re: ÄÖ (fwd) ü", ("ÄÖ (fwd) ü", True)),
    ],
)
def test_base_subject(subject: str, expected: tuple[str, bool]) -> None:
    assert base_subject(subject) == expected


@given(
    st.lists(st.sampled_from(["re", "fwd", "fw", ":", "[", "]", "(fwd)", "[fwd:", " ", "a", "[x]", "Re: "])).map(
        "".join
    )
)
def test_it_is_stable(subject: str) -> None:
    base, _ = base_subject(subject)
    assert base_subject(base) == (base, False)
    assert base_subject("Re: " + subject)[0] == base


@pytest.mark.parametrize("piece", ["[", "[a]", "re:", "[fwd:", "(fwd)", " ", "[a", "]", "re[a]", "[fwd:[a]"])
def test_linear_time(piece: str) -> None:
    assert_linear(base_subject, lambda n: piece * n + "x")
    assert_linear(base_subject, lambda n: piece * n + "x" + "]" * n)


@given(
    st.lists(
        st.sampled_from(["re", "Fwd", "Re: ", ":", " ", "  ", "[", "]", "(fwd)", "a", "(", "\xa0", "\t", "Ä"]),
        max_size=8,
    )
)
def test_the_short_way_leads_to_the_same_place(pieces: list[str]) -> None:
    subject = "".join(pieces)
    assert base_subject(subject) == threads._any_base_subject(subject)


def test_message_ids_are_the_same_however_they_are_quoted() -> None:
    # RFC 5256 section 3
    assert message_id_hash('"01KF8JCEOCBS0045PS"@xxx.yyy.com') == message_id_hash("01KF8JCEOCBS0045PS@xxx.yyy.com")
    assert message_id_hash('"a\\"b"@x') == message_id_hash('a"b@x')
    assert message_id_hash("A@x") != message_id_hash("a@x")
    assert all(map(message_id_hash, ('"', '"a', '"a"')))
