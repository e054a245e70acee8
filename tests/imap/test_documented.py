"""Every capability stands in the document for people."""

import re
from pathlib import Path

from posthouse.imap import capabilities
from posthouse.imap.options import Options

DOCUMENT = Path(__file__).parents[2] / "docs" / "imap.md"


def test_every_capability_is_documented() -> None:
    all_ = Options(max_messages=1, gmail=True)
    less = Options(literal_plus=False)
    line = b" ".join(
        [capabilities.line(True, True, (), False, True, all_), capabilities.line(False, True, (), True, True, less)]
    )
    known = set(re.findall(r"[A-Z0-9a-z=+-]+", DOCUMENT.read_text("utf-8")))
    missing = {word for word in line.decode().split() if word not in known and word.partition("=")[0] not in known}
    assert missing <= {"LOGINDISABLED"}
