"""Odd messages, and what is seen of them: tests/messages/*.eml and expected.json beside them.

Each message is one kind of disrepair, named by its file. After a change that is meant, write the
expectations anew with `python -m tests.mime.test_corpus` and read the difference.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from posthouse.imap.structure import body, body_structure, envelope
from posthouse.mime import text
from posthouse.mime.scan import Part, scan
from posthouse.mime.sections import find_section, pack, unpack
from tests.imap.grammar import read_body, read_envelope
from tests.mime.reference import reference, tree_of
from tests.mime.test_scan import everything, in_chunks

MESSAGES = Path(__file__).parent.parent / "messages"
EXPECTED = MESSAGES / "expected.json"
PATHS = sorted(MESSAGES.glob("*.eml"))


def node(part: Part) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": (part.type + b"/" + part.subtype).decode("latin-1"),
        "offsets": [part.header, part.body, part.end],
        "lines": part.lines,
    }
    if part.encoding:
        found["encoding"] = part.encoding.decode("latin-1")
    if name := text.filename(part):
        found["filename"] = name
    if part.parts:
        found["parts"] = [node(child) for child in part.parts]
    if part.message:
        found["message"] = node(part.message)
    return found


def seen(raw: bytes) -> dict[str, Any]:
    result = scan(raw)
    return {
        "tree": node(result.root),
        "envelope": envelope(result.root.header_bytes).decode("latin-1"),
        "bodystructure": body_structure(result).decode("latin-1"),
        "preview": text.preview(result),
    }


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_message(path: Path) -> None:
    raw = path.read_bytes()
    assert seen(raw) == json.loads(EXPECTED.read_text("utf-8"))[path.stem]
    result = scan(raw)
    assert tree_of(result.root) == reference(raw)
    read_envelope(envelope(result.root.header_bytes))
    read_body(body_structure(result), True)
    read_body(body(result), False)
    for size in (1, 2, 3, 7):
        assert everything(in_chunks(raw, size).root) == everything(result.root)
    for path_ in ((), (1,), (2,), (1, 1), (2, 1), (2, 2)):
        for what in (b"", b"MIME", b"HEADER", b"TEXT"):
            one, two = find_section(result, path_, what), find_section(unpack(pack(result)), path_, what)
            assert (one and one[:2]) == (two and two[:2])


if __name__ == "__main__":
    EXPECTED.write_text(
        json.dumps({path.stem: seen(path.read_bytes()) for path in PATHS}, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
