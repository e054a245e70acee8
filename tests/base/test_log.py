"""The log: one line an event, JSON or human, no forged lines, no secrets, only events of the list."""

import ast
import io
import json
from pathlib import Path

import posthouse
from posthouse.base import log


def lines(form: str, **fields: object) -> bytes:
    stream = io.BytesIO()
    log.configure(form, "info", stream)
    log.get_logger().info("smtp.accepted", **fields)
    log.get_logger().debug("smtp.closed")
    return stream.getvalue()


def test_json() -> None:
    line = json.loads(lines("json", session="S1", size=5, text="é\n", password="hidden"))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "smtp.accepted",
        "session": "S1",
        "size": 5,
        "text": "é\n",
        "password": "***",
    }


def test_what_a_peer_sends_cannot_forge_lines_or_move_the_cursor() -> None:
    line = lines("human", hello="x\n12:00:00 info forged\x1b[2J", token="t")
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    assert b"token=***" in line


def test_every_event_that_is_logged_is_in_the_list_and_the_other_way_round() -> None:
    used = set()
    for path in Path(posthouse.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("debug", "info", "warning", "error")
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
                and "log" in ast.unparse(node.func.value)
            ):
                used.add(node.args[0].value)
    assert used <= log.EVENTS.keys(), "an event that is not documented"
    assert used, "the search for events finds none: it is broken"


def test_a_broken_log_is_nobody_elses_trouble() -> None:
    stream = io.BytesIO()
    log.configure("json", "info", stream)
    logger = log.get_logger()
    stream.close()
    logger.info("smtp.accepted")
