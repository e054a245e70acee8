"""i;unicode-casemap, against the words of RFC 5051."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime import collation
from posthouse.mime.collation import casemap


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("straße", "STRAßE"),  # there is no simple titlecase of ß
        ("Ärger", "a\u0308rger"),
        ("ǆ", "Ǆ"),
        ("ﬁ", "ﬁ"),
        ("Ωmega", "Ωmega"),  # OHM SIGN
        ("½", "1⁄2"),
    ],
)
def test_equal(one: str, other: str) -> None:
    assert casemap(one) == casemap(other)


def test_order() -> None:
    words = ["", "10", "9", "apple", "Banana", "cherry", "Éclair", "zebra", "Ωmega", "가", "나"]
    assert sorted(words, key=casemap) == [
        "",
        "10",
        "9",
        "apple",
        "Banana",
        "cherry",
        "Éclair",
        "zebra",
        "Ωmega",
        "가",
        "나",
    ]
    assert casemap("é").startswith(b"E")
    assert casemap("가") == "가".encode()  # no decomposition in UnicodeData.txt


def slowly(text: str) -> bytes:
    """Character by character, with the properties of UnicodeData.txt."""
    out = ""
    for char in text:
        title = char.title() if len(char.title()) == 1 else char
        waiting = [title]
        while waiting:
            one = waiting.pop(0)
            decomposition = unicodedata.decomposition(one).split()
            if decomposition:
                codes = [code for code in decomposition if not code.startswith("<")]
                waiting = [chr(int(code, 16)) for code in codes] + waiting
            else:
                out += one
    return out.encode("utf-8", "replace")


@given(st.text())
def test_as_the_rfc_says(text: str) -> None:
    assert casemap(text) == slowly(text)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = collation._Mapping()
    monkeypatch.setattr(collation, "_mapping", mapping)
    monkeypatch.setattr(collation, "MAX_KNOWN", 10)
    text = "".join(map(chr, range(0x100, 0x180)))
    assert casemap(text) == slowly(text)
    assert len(mapping) == 10
