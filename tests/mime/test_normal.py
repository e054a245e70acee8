"""Normalization says what `unicodedata` says, and takes linear time whatever the text."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime.folding import fold
from posthouse.mime.normal import SLICE, normalize
from tests.support.growth import assert_linear

# What composes with, or is sorted behind, what stands before it; and what begins anew.
MOVING = st.sampled_from(
    "aeoA\u0301\u0327\u0344\u0345\u0f71\u0f73\u1100\u1161\u11a8\uac00\u0915\u093c\u0bc6\u0bbe\u304b\u3099\uff76\uff9e "
)


@given(filler=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), text=st.text(MOVING, max_size=60))
def test_as_unicodedata_says(filler: str, text: str) -> None:
    """Around the end of a slice, too."""
    for long in (text, "x" * (SLICE - 30) + text + "\u00e9" * 50, (filler + text + " ") * 60):
        assert normalize("NFC", long) == unicodedata.normalize("NFC", long)
        assert normalize("NFKC", long) == unicodedata.normalize("NFKC", long)


def test_marks_without_end_take_linear_time() -> None:
    assert_linear(fold, lambda n: "a" + "\u0301\u0327" * n, 2000)
