"""The scanner: offsets of parts, whatever the message and however it comes in."""

from posthouse.mime.scan import scan


def test_two_parts() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\n\r\ntwo\r\n\r\n--x--\r\n"
    bodies = [raw[part.body : part.end] for part in scan(raw).root.parts]
    assert bodies == [b"one", b"two\r\n"]
