"""Folding: what compares as equal, and that long texts fold as short ones do."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime.folding import PIECE, fold, fold_wanted


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("", ""),
        (" \r\n\t ", ""),
        ("Two\r\n  Words", "two words"),
        ("STRASSE straße", "strasse strasse"),
        ("ﬁn ＡＢＣ ｶﾞ", "fin abc ガ"),
        ("a\u00a0b\u3000c\u2028d", "a b c d"),
        ("a\0b", "a b"),
        ("half \ud800 pair", "half \ufffd pair"),
        ("e\u0301", "é"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_what_is_looked_for_keeps_the_blanks_at_its_ends() -> None:
    assert fold_wanted(" A ") == " a "
    assert fold_wanted("\r\n") == " "
    assert fold_wanted("") == ""
    assert fold_wanted("x") == "x"


@given(st.text(max_size=60))
def test_a_folded_text_has_single_blanks_and_says_something_to_utf_8(text: str) -> None:
    folded = fold(text)
    folded.encode()
    assert "  " not in folded
    assert folded == folded.strip()
    assert not any(c.isspace() and c != " " for c in folded)
    assert fold_wanted(text).strip() == folded


@pytest.mark.parametrize("between", [" ", "\r\n", "\u3000 "])
def test_a_long_text_folds_as_its_words_do(between: str) -> None:
    dice = random.Random(3)
    words = ["x" + "".join(dice.choices("aBcßéﬁ山\u0301", k=dice.randint(0, 12))) for _ in range(60_000)]
    text = between.join(words)
    assert len(text) > 5 * PIECE
    assert fold(text) == " ".join(map(fold, words))


def test_a_text_without_blanks_is_folded_in_bounded_pieces() -> None:
    """U+FDFA becomes 18 characters; the time is linear."""
    took = []
    for count in (200_000, 400_000):
        began = time.process_time()
        assert len(fold("\ufdfa" * count)) >= 18 * count
        took.append(time.process_time() - began)
    assert took[1] < 8 * took[0] + 0.05
