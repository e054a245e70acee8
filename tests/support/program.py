"""`posthouse` as a program of its own, the way people run it."""

import json
import os
import subprocess
import sys
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
