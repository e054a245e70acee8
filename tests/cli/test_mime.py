"""`posthouse mime tree`: files, standard input, errors in sentences, and a large message in little memory."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from posthouse.base.errors import Permanent
from posthouse.cli import mime
from posthouse.cli.main import app
from tests.mime.strategies import messages
from tests.support import program

MESSAGES = Path(__file__).parent.parent / "messages"
FORWARD = MESSAGES / "real" / "forward-attached.eml"


def text(*arguments: str, given: bytes = b"") -> str:
    result = CliRunner().invoke(app, ["mime", "tree", *arguments], input=given)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_file_and_standard_input_are_the_same() -> None:
    for options in ([], ["--json"]):
        shown = text(str(FORWARD), *options)
        assert shown == text(*options, given=FORWARD.read_bytes()) == text("-", *options, given=FORWARD.read_bytes())
    assert text(str(FORWARD)).splitlines()[:3] == [
        "Subject: Fwd: three of them",
        "multipart/mixed  3 parts",
        "  1 text/plain  no charset, 9 octets",
    ]
    found = json.loads(text(str(FORWARD), "--json"))
    assert [child["type"] for child in found["parts"]] == ["text/plain", "message/rfc822", "message/rfc822"]
    assert found["parts"][1]["message"]["parts"][0]["text"] == "über"


def test_nothing_is_a_message_too() -> None:
    assert json.loads(text("--json")) == {"type": "text/plain", "filename": None, "body": "", "text": ""}
    assert text() == "(no subject)\n1 text/plain  no charset, 0 octets\n"


@pytest.mark.parametrize("name", ["nowhere", "folder", "\0"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(Permanent, match="cannot be read: "):
        text(str(tmp_path / name))


def test_a_file_that_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mime, "MAX_SIZE", 1 << 20)
    text(given=b"x" * (1 << 20))
    with pytest.raises(Permanent, match="- is larger than 1 MiB, no message is"):
        text(given=b"x" * ((1 << 20) + 1))


def test_what_a_terminal_would_act_upon_is_not_printed() -> None:
    raw = (
        b"Subject: \x1b[2J \xc2\x9b31m =?utf-8?q?=1B?=\n"
        b'Content-Type: text/plain; name="a\x07\xe2\x80\xaeb"; charset="\x1b]0;x"'
    )
    assert not re.search(r"[^ -~\n]", text(given=raw))


@given(messages | st.binary(max_size=100))
def test_whatever_comes(raw: bytes) -> None:
    read: Any = io.TextIOWrapper(io.BytesIO(raw))
    for as_json in (True, False):
        written = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", read)
            patch.setattr(sys, "stdout", written)
            read.buffer.seek(0)
            mime.tree("-", as_json)
        if as_json:
            json.loads(written.getvalue())


def test_a_screen_that_knows_no_letters_but_ascii() -> None:
    env = {**program.environment(), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        program.command("mime", "tree"), input="Subject: ü\n\n".encode(), capture_output=True, env=env, check=True
    )
    assert done.stdout.startswith(b"Subject: ?\n")


def test_50_mib_need_a_few_times_their_memory() -> None:
    some = base64.encodebytes(b"\xf0\x9f\x98\x80" * 57 * 16)  # whole lines, no padding
    lines = some * ((50 << 20) // len(some))
    raw = b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" + lines
    command = program.command("mime", "tree", "--json")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command],
        input=raw,
        capture_output=True,
        env=program.environment(),
        check=True,
    )
    size, most = (int(number) for number in done.stdout.split())
    assert size > 150 << 20  # 38 MiB as base64, and each of nearly ten million letters as twelve of JSON
    assert most < 6 * len(raw), f"{most >> 20} MiB"


# Run a command, count what it writes, and say how much memory it had.
_MEASURE = """
import resource, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdin=sys.stdin, stdout=subprocess.PIPE)
size = 0
while piece := process.stdout.read(1 << 20):
    size += len(piece)
assert process.wait() == 0
print(size, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""
