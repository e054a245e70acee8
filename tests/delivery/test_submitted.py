"""What is put right in submitted mail does not depend on how it came, is done once, and what is hashed is the body."""

import itertools
import re

from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.delivery.submitted import MOST_ADDED, Forwardable, Stamp, Submitted
from posthouse.senderauth import dkim
from posthouse.senderauth.dkim_canon import BodyHash
from posthouse.senderauth.signing import BODY

STAMP = Stamp("made@mail.example.org", 1_790_000_000_000_000)
DATE, ID = b"Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n", b"Message-ID: <made@mail.example.org>\r\n"

_fields = st.sampled_from(
    [
        b"From: a@example.org\r\n", b"Subject: x\r\n", b"Bcc: b@example.org,\r\n c@example.org\r\n", b"bcc:\r\n",
        b"Date: x\r\n", b"message-id : <1@x>\r\n", b"Resent-Bcc: d@example.org\r\n", b"no field\r\n", b" folded\r\n",
        b"\xef\xbb\xbfTo: x\r\n", b"From x Mon\r\n", b"Date:\r\n \t\r\n", b"MESSAGE-ID: <>\r\n", b"Message-ID:\r\n",
    ]
)  # fmt: skip
_bodies = st.sampled_from(
    [b"", b"\r\n", b"\r\nHello \t you\r\n\r\n\r\n", b"\r\nBcc: body\r\n", b"\r\nno end", b"\r\n\r\n\r\n"]
)
_messages = st.builds(lambda fields, body: b"".join(fields) + body, st.lists(_fields, max_size=6), _bodies)


class _Always(Submitted):
    """Everything is hashed, whoever signs."""

    def _is_signed(self) -> bool:
        super()._is_signed()
        return True


def run(message: bytes, cuts: list[int]) -> tuple[bytes, _Always]:
    taken = _Always(STAMP)
    at = [0, *sorted(cut for cut in cuts if cut < len(message)), len(message)]
    stored = b""
    for start, end in itertools.pairwise(at):
        held, passed = taken.held, taken.feed(message[start:end])
        assert len(passed) <= held + end - start + MOST_ADDED
        stored += passed
    left = taken.finish()
    assert len(left) <= taken.held + MOST_ADDED
    return stored + left, taken


@given(_messages, st.lists(st.integers(0, 200), max_size=8))
@example(b"just text\r\n", [3])
@example(b"From", [2])
@example(b"", [])
def test_however_it_comes(message: bytes, cuts: list[int]) -> None:
    stored, taken = run(message, cuts)
    assert stored == run(message, [])[0]
    header, body = dkim.split(stored)
    # What begins with a line that is no field has no header: all of it is a body.
    given_one = dkim.split(message)[0] if not message.startswith(b"no field") else b""
    for name in (rb"date", rb"message-id"):
        field = re.compile(rb"(?im)^(?:\xef\xbb\xbf)?" + name + rb"[ \t]*:(?!(?:\s*|\s*<>\s*)(?:^\S|\Z))")
        assert not re.search(rb"(?im)^(?:\xef\xbb\xbf)?" + name + rb"[ \t]*:[ \t]*(?:<>)?\r\n(?![ \t])", header)
        assert len(field.findall(header)) == max(1, len(field.findall(given_one)))
    assert not re.search(rb"(?im)^(?:resent-)?bcc[ \t]*:", header)
    assert taken.odd is (stored.startswith(b"no field") and not message.startswith(b"no field"))
    if taken.odd:
        return
    again, other = run(stored, cuts)
    assert (again, other.added, other.removed) == (stored, (), 0)
    digest = BodyHash(BODY)
    digest.feed(body)
    if taken._hashed.body is not None:
        assert taken._hashed.body.finish() == digest.finish()
    else:
        assert body == b""


def test_what_is_added() -> None:
    assert run(b"From: a@example.org\r\n\r\nx\r\n", [])[0] == b"From: a@example.org\r\n" + DATE + ID + b"\r\nx\r\n"
    assert run(b"text\r\n", [])[0] == DATE + ID + b"\r\ntext\r\n"
    assert run(b"\r\ntext\r\n", [])[0] == DATE + ID + b"\r\ntext\r\n"
    assert run(b"date: \r\n\r\n", [])[0] == DATE + ID + b"\r\n"


def test_what_holds_nothing_is_replaced() -> None:
    for empty in (
        b"Date:\r\n",
        b"message-id : <>\r\n",
        b"Message-ID: \r\n \t\r\nDate: \t \r\n",
        b"Date: " + b" " * 70_000 + b"\r\n",
    ):
        stored, taken = run(empty + b"From: a@example.org\r\nBcc: b@example.org\r\n\r\nx\r\n", [7, 30])
        assert stored == b"From: a@example.org\r\n" + DATE + ID + b"\r\nx\r\n"
        assert (taken.added, taken.removed) == (("date", "message-id"), 1)
    # Of several, the one that holds something stays.
    for several in (b"Date: x\r\nDate:\r\n", b"Date:\r\nDate: x\r\n"):
        assert run(several + b"\r\n", [])[0] == b"Date: x\r\n" + ID + b"\r\n"
    for odd in (b"Date: \0\r\n", b"Message-ID: <\r\n >\r\n", b"Date: (no)\r\n"):
        assert run(odd + b"\r\n", [])[0].startswith(odd)


@given(_messages, st.lists(st.integers(0, 200), max_size=8))
def test_what_is_passed_on_is_only_hashed(message: bytes, cuts: list[int]) -> None:
    taken = Forwardable()
    at = [0, *sorted(cut for cut in cuts if cut < len(message)), len(message)]
    stored = b"".join([taken.feed(message[start:end]) for start, end in itertools.pairwise(at)]) + taken.finish()
    assert stored == message
    digest = BodyHash(BODY)
    digest.feed(dkim.split(message)[1])
    if taken.body is not None:
        assert taken.body.finish() == digest.finish()
