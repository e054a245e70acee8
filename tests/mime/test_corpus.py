"""Messages, and what is seen of them: tests/messages/{rfc,real,broken}/*.eml and expected.json beside them.

rfc: examples of RFCs and what they describe; real: the forms in which programs send, written for these tests;
broken: each is one kind of disrepair, named by its file. After a change that is meant, write the expectations anew
with `python -m tests.mime.test_corpus` and read the difference.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from posthouse.imap.body import body as shortened
from posthouse.imap.structure import body, body_structure, envelope
from posthouse.mime import text
from posthouse.mime.scan import Part, scan
from posthouse.mime.sections import find_section, pack, unpack
from tests.imap.grammar import read_body, read_envelope
from tests.imap.parts import has_message, is_multipart, named
from tests.mime.reference import reference, tree_of
from tests.mime.test_scan import everything, in_chunks

MESSAGES = Path(__file__).parent.parent / "messages"
EXPECTED = MESSAGES / "expected.json"
PATHS = sorted(MESSAGES.glob("*/*.eml"))


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
    long, short = read_body(body_structure(result), True), read_body(body(result), False)
    assert [path_ for path_, _ in named(long)] == [path_ for path_, _ in named(short)]
    assert shortened(body_structure(result)) == body(result)
    stored = unpack(pack(result))
    for path_, structure in named(long):
        found = find_section(stored, path_)
        assert found is not None
        assert found[:2] == find_section(result, path_)[:2]  # type: ignore[index]
        mime = find_section(stored, path_, b"MIME")
        assert mime is not None
        if not is_multipart(structure):
            assert found.end - found.start == structure[6]
        if has_message(structure):
            inner = [find_section(stored, path_, what) for what in (b"HEADER", b"TEXT")]
            assert inner[0] is not None
            assert inner[1] is not None
            assert (inner[0].end, inner[1].end) == (inner[1].start, found.end)
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
