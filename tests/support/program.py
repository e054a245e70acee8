"""`posthouse` as a program of its own, the way people run it."""

import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src"


def environment() -> dict[str, str]:
    """That of this process, with this source tree, and without what would change the output."""
    kept = {name: value for name, value in os.environ.items() if name not in ("POSTHOUSE_CONFIG", "FORCE_COLOR")}
    return kept | {"PYTHONPATH": str(SOURCE), "NO_COLOR": "1", "COLUMNS": "120"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "posthouse", *arguments]


def run(
    *arguments: str, text: str = "", folder: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments),
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=environment() | (env or {}),
    )


class Terminal:
    """A command on a terminal of its own, with so many columns."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        env = environment() | {"TERM": "xterm-256color"}
        del env["COLUMNS"]
        # A session of its own, whose terminal this is: so Ctrl-C is a signal.
        self.process = subprocess.Popen(
            command(*arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._slave = slave
        self.text = ""

    def read_until(self, expected: str) -> None:
        """Read what it prints until that comes."""
        while expected not in self.text:
            self._read()

    def _read(self) -> None:
        ready, _, _ = select.select([self._master], [], [], 60)
        assert ready, self.text
        self.text += os.read(self._master, 65536).decode("utf-8", "replace")

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Wait until it ends; returns its exit code. How it leaves the terminal is `after`."""
        code = self.process.wait(60)
        self.after = termios.tcgetattr(self._slave)
        os.set_blocking(self._master, False)
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 65536):
                self.text += data.decode("utf-8", "replace")
        os.close(self._slave)
        os.close(self._master)
        return code


class Serve:
    """A running `posthouse serve`."""

    def __init__(self, config: Path) -> None:
        self.process = subprocess.Popen(
            command("serve", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the server did not start: {self.process.communicate()[1]}")
        self.ports: dict[str, int] = json.loads(line)["ports"]

    def stop(self) -> str:
        """Ask it to stop; returns its log."""
        self.process.terminate()
        try:
            _, log = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == 0, log
        return log


class Demo:
    """A running `posthouse demo --quiet`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            command("demo", "--quiet", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the demo did not start: {self.process.communicate()[1]}")
        self.facts: dict[str, Any] = json.loads(line)
        self.ports: dict[str, int] = self.facts["ports"]
        self.folder = Path(self.facts["dir"])

    def stop(self, signal: int) -> tuple[int, str, str]:
        """Exit code and what came after the JSON line on standard output and standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal)
        try:
            out, err = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, err
