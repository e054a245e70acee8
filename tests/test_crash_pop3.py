"""POP3 and a server that dies: nothing is removed without QUIT, and everything once QUIT was answered.

The server is killed at every point of a session that removes mail, and started again on what it left.
"""

import imaplib
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import program
from tests.test_crash import PASSWORD, start

COUNT = 12
CONFIG = """
hostname = "mail.posthouse.test"
data = "data"

[[listen]]
service = "pop3"
address = "127.0.0.1"
port = 0
allow_plaintext_auth = true

[[listen]]
service = "imap"
address = "127.0.0.1"
port = 0
allow_plaintext_auth = true

[storage]
reserve = 0

[log]
format = "json"
"""


@contextmanager
def killed(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    """A server that is killed in the end, if not before."""
    process, ports = start(folder)
    try:
        yield process, ports
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


class Session:
    """A POP3 session of bob."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        assert self.ask("USER bob@posthouse.test").startswith(b"+OK")
        self.opened = self.ask(f"PASS {PASSWORD}")

    def ask(self, line: str) -> bytes:
        self.send(line)
        return self._file.readline()

    def send(self, *lines: str) -> None:
        self._socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def rest(self) -> bytes:
        """What comes until the connection ends."""
        try:
            return self._file.read()
        except OSError:
            return b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def subjects(port: int) -> list[int]:
    with imaplib.IMAP4("127.0.0.1", port) as client:
        client.login("bob@posthouse.test", PASSWORD)
        client.select("INBOX", readonly=True)
        rows = client.fetch("1:*", "(ENVELOPE)")[1]
        return [int(found[1]) for row in rows if (found := re.search(rb'"number (\d+)"', row or b""))]  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quit_is_a_commit(tmp_path: Path) -> None:
    config = tmp_path / "posthouse.toml"
    config.write_text(CONFIG)
    there = ("--config", str(config))
    assert program.run(*there, "domain", "add", "posthouse.test").returncode == 0
    added = program.run(*there, "account", "add", "bob@posthouse.test", "--password-stdin", text=PASSWORD)
    assert added.returncode == 0, added.stderr

    expected = list(range(COUNT))
    with killed(tmp_path) as (_, ports), imaplib.IMAP4("127.0.0.1", ports["imap"]) as client:
        client.login("bob@posthouse.test", PASSWORD)
        for n in expected:
            assert client.append("INBOX", "", "", f"Subject: number {n}\r\n\r\nx\r\n".encode())[0] == "OK"

    # Killed after every message was marked, and no QUIT was sent.
    with killed(tmp_path) as (process, ports):
        assert subjects(ports["imap"]) == expected
        session = Session(ports["pop3"])
        for n in range(1, COUNT + 1):
            assert session.ask(f"DELE {n}").startswith(b"+OK")
        process.send_signal(signal.SIGKILL)
        process.wait()
        session.close()

    # Killed as soon as the answer to QUIT is there: that of two of them.
    with killed(tmp_path) as (process, ports):
        assert subjects(ports["imap"]) == expected
        session = Session(ports["pop3"])
        for n in (1, 4):
            assert session.ask(f"DELE {n}").startswith(b"+OK")
        assert session.ask("QUIT").startswith(b"+OK")
        process.send_signal(signal.SIGKILL)
        process.wait()
        session.close()
    expected = [n for n in expected if n not in (0, 3)]

    # Killed while QUIT is on its way, with everything before it: all of it happened or nothing, and all if it was said.
    for _ in range(4):
        with killed(tmp_path) as (process, ports):
            left = subjects(ports["imap"])
            assert left == expected
            session = Session(ports["pop3"])
            assert session.opened.startswith(b"+OK %d " % len(left))
            session.send("DELE 1", "DELE 2", "QUIT")
            process.send_signal(signal.SIGKILL)
            said = session.rest()
            process.wait()
            session.close()
        with killed(tmp_path) as (_, ports):
            now = subjects(ports["imap"])
        assert now in (expected, expected[2:])
        if b"+OK Bye" in said:
            assert now == expected[2:]
        expected = now
