"""Every capability stands in the document for people."""

import re
from pathlib import Path

from posthouse.imap import capabilities
from posthouse.imap.options import Options

DOCUMENT = Path(__file__).parents[2] / "docs" / "imap.md"


def test_every_capability_is_documented() -> None:
    line = (
        capabilities.line(True, True, (), False, True, Options(max_messages=1))
        + b" "
        + capabilities.line(False, True, (), True)
    )
    known = set(re.findall(r"[A-Z0-9a-z=+-]+", DOCUMENT.read_text("utf-8")))
    missing = {word for word in line.decode().split() if word not in known and word.partition("=")[0] not in known}
    assert missing <= {"LOGINDISABLED"}
