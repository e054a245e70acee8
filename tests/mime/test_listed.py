"""The kept fields answer as the whole header does."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.mime.header import select
from posthouse.mime.listed import FIELDS, MOST, covers, listed

_name = st.sampled_from([*FIELDS, b"Subject", b"TO", b"X-Other", b"Received", b"Date ", b"subj"])
_line = st.builds(
    lambda name, value, end: name + b":" + value + end,
    _name,
    st.sampled_from([b"", b" x", b" a\r\n b", b"\tword\r\n\t\r\n more", b" \xff\x00", b" a:b", b"\r"]),
    st.sampled_from([b"\r\n", b"\n", b"\r\n", b""]),
)
_header = st.lists(_line | st.sampled_from([b"From x\r\n", b" odd\r\n", b"\r\n", b"none\r\n"]), max_size=12).map(
    b"".join
)


@given(_header, st.lists(st.sampled_from(FIELDS), min_size=1, max_size=6, unique=True))
def test_the_same_fields(header: bytes, names: list[bytes]) -> None:
    kept = listed(header)
    assert kept is not None
    assert select(kept, names) == select(header, names).replace(b"\0", b"\x80")


def test_what_is_kept() -> None:
    header = b"Received: by x\r\nSubject: y\r\nX-Spam: no\r\nTo: z\r\n\r\n"
    assert listed(header) == b"Subject: y\r\nTo: z\r\n\r\n"
    assert covers((b"to", b"subject"))
    assert not covers((b"to", b"received"))
    assert listed(b"To: " + b"x" * MOST + b"\r\n\r\n") is None
