"""Fields of a message from outside that claim to be ours go, however their names are written, and however many."""

from posthouse.mime.removal import Removal
from posthouse.senderauth.verdict_fields import MOST_ASKED, Forged

OURS = "mx.example.net"
REST = b"Subject: hi\r\n\r\nbody\r\n"


def passed(header: bytes) -> bytes:
    removal = Removal(Forged(OURS, OURS))
    return removal.feed(header + REST) + removal.finish()


def test_names_that_some_programs_read_as_ours() -> None:
    value = b": mx.example.net; dmarc=pass\r\n"
    for name in (
        b"Authentication-Results",
        b"AUTHENTICATION-RESULTS \t",
        b"\x01Authentication-Results",
        b"\x7fAuthentication-Results",
        b"Authentication-Results\0",
        b"Authentication\x0b-Results\x1f",
        b"\xef\xbb\xbfAuthentication-Results",
    ):
        assert passed(name + value) == REST, name
        assert passed(b"X: y\r\n" + name + value) == b"X: y\r\n" + REST, name
    assert passed(b"\0Received-SPF: pass receiver=mx.example.net\r\n") == REST
    for name in (b"X-Authentication-Results", b"ARC-Authentication-Results", b"\x01From"):
        assert passed(name + value) == name + value + REST


def test_what_went_is_counted_by_name() -> None:
    forged = Forged(OURS, OURS)
    head = (
        b"AUTHENTICATION-results: mx.example.net; spf=pass\r\nAuthentication-Results\0 : mx.example.net; spf=pass\r\n"
    )
    head += b"Authentication-Results: other.test; spf=pass\r\nx-posthouse-tag: spam\r\nSubject: x\r\n\r\n"
    removal = Removal(forged)
    removal.feed(head)
    assert forged.found == {"Authentication-Results": 2, "X-Posthouse-Tag": 1}
    assert removal.removed == 3
    marks = Forged(OURS, OURS, marks_alone=True)
    assert Removal(marks).feed(head).count(b"\r\n") == 5
    assert marks.found == {"X-Posthouse-Tag": 1}


def test_of_very_many_fields_only_the_first_are_read() -> None:
    """Each costs the event loop: the rest counts as ours."""
    other = b"Authentication-Results: other.test; spf=pass\r\n"
    assert passed(other * 5_000) == other * MOST_ASKED + REST
