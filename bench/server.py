"""Starts `posthouse demo` for a benchmark and reads its CPU time and memory from /proc."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

PASSWORD = "benchmark-password-1"
TICK = os.sysconf("SC_CLK_TCK")


class Demo:
    """A running demo on free-ish ports; everything goes at the end."""

    def __init__(self, offset: int = 21000, accounts: int = 1, folder: str | None = None) -> None:
        self._keep = folder is not None
        self.folder = folder or tempfile.mkdtemp(prefix="posthouse-bench-")
        self._command = [sys.executable, "-m", "posthouse", "demo", "--quiet", "--dir", self.folder]
        self._command += ["--port-offset", str(offset)]
        for n in range(accounts):
            self._command += ["--account", f"user{n}:{PASSWORD}"]
        self.info: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._log = open(Path(self.folder) / "bench.log", "ab")
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=self._log)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start; see {self.folder}/bench.log")
        self.info = json.loads(line)
        return self

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def restart(self, cold: bool = False) -> None:
        """Stop, and start again with the same mail; `cold`: with nothing of its files in memory."""
        self._stop()
        for path in Path(self.folder).rglob("*") if cold else ():
            if path.is_file():
                with open(path, "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.__enter__()

    def __exit__(self, *_: object) -> None:
        self._stop()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu(self) -> float:
        """CPU seconds, user and system, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> float:
        """Resident MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def peak(self) -> float:
        """Largest resident MiB so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0
