"""Sizes and spans of time as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.units import format_size, format_span, human_size, parse_size, parse_span


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("17", 17), ("50 MiB", 50 << 20), ("50mib", 50 << 20), ("50 MB", 50_000_000),
        ("1.5 GiB", 3 << 29), (" 64k ", 65536), ("1 B", 1), (12, 12),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5 min", 300), ("1 h 30 min", 5400), ("1h30m", 5400), ("90", 90), ("2.5 s", 2.5), ("500 ms", 0.5),
        ("3 days", 259200), ("1 week", 604800), (7, 7), (0.5, 0.5),
    ],
)  # fmt: skip
def test_spans(text: object, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "5 furlongs", "-1", "1 h 30", "min 5", "1..5", "5 5", "1e9 MB"])
def test_what_is_neither(text: str) -> None:
    for parse in (parse_size, parse_span):
        if text != "5 5" or parse is parse_span:
            with pytest.raises(ValueError, match="is not a"):
                parse(text)


@given(st.integers(0, 1 << 60))
def test_sizes_there_and_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**9))
def test_spans_there_and_back(seconds: int) -> None:
    assert parse_span(format_span(seconds)) == seconds


def test_for_people() -> None:
    assert [human_size(n) for n in (0, 1023, 1536, 300 << 20, 5 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "300 MiB", "5.0 TiB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (100_000, "100 KB"),
        (2_000_000_000, "2 GB"),
        (52_428_800, "50 MiB"),
        (1_024_000, "1000 KiB"),
    ],
)
def test_sizes_are_shown_as_somebody_would_write_them(size: int, text: str) -> None:
    assert format_size(size) == text
