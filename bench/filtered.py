"""What filters cost: 4 KiB messages to `posthouse serve` with none and with many of them, DNS answers at hand.

python -m bench.filtered [--count N] [--runs N]

Needs smtp-source (Debian's package postfix). The client is loopback, which is made a stranger for this.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.ingest import find_source

PLAIN = """
hostname = "mail.posthouse.test"
data = "data"
listen = [{ service = "smtp", address = "127.0.0.1", port = %d }]
limits.trusted = []
limits.connections_per_ip = 1000
relay.capture = true
log.level = "warning"
dns.only_zone = true
[dns.zone]
"1.0.0.127.in-addr.arpa" = { PTR = ["client.example.com"] }
"client.example.com" = { A = ["127.0.0.1"] }
"""
FILTERS = """
[filter]
reverse_dns = "tag"
hello = "tag"
network_limit = { messages_per_hour = 100000000, recipients_per_day = 100000000 }
list = [{ zone = "one.test" }, { zone = "two.test" }, { zone = "names.test", of = "domain" }]
rule = [
  { network = ["192.0.2.0/24"], action = "reject" },
  { sender = ["@spam.example"], action = "reject" },
  { recipient = ["nobody@*"], action = "reject" },
  { larger = "20 MiB", action = "reject" },
]
"""
TICK = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def run(filters: str, count: int, port: int, source: str) -> dict[bool, tuple[float, float]]:
    """(messages/s, CPU-ms a message), for many a session and one a session."""
    with tempfile.TemporaryDirectory(prefix="posthouse-bench-") as folder:
        config = Path(folder) / "posthouse.toml"
        config.write_text(PLAIN % port + filters)
        own = [sys.executable, "-m", "posthouse", "--config", str(config)]
        for command in (["domain", "add", "posthouse.test"], ["account", "add", "user0@posthouse.test", "--generate"]):
            subprocess.run([*own, *command], check=True, capture_output=True)
        with subprocess.Popen([*own, "serve"], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            json.loads(server.stdout.readline())
            found = {}
            for keep in (True, False):
                load = [source, "-4", "-s", "20", "-m", str(count), "-l", "4096", "-f", "sender@example.com"]
                load += ["-t", "user0@posthouse.test", "-M", "client.example.com", *(["-d"] if keep else [])]
                before, started = cpu(server.pid), os.times().elapsed
                subprocess.run([*load, f"127.0.0.1:{port}"], check=True, timeout=600)
                seconds = os.times().elapsed - started
                found[keep] = (count / seconds, (cpu(server.pid) - before) * 1000 / count)
            server.send_signal(signal.SIGTERM)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--port", type=int, default=31_025)
    options = parser.parse_args()
    source = find_source()
    if source is None:
        raise SystemExit("smtp-source is not installed (Debian: postfix)")
    results: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(options.runs):
        for name, filters in (("no filters", ""), ("filters", FILTERS)):
            for keep, figures in run(filters, options.count, options.port, source).items():
                results.setdefault((name, keep), []).append(figures)
    table = Table(title=f"4 KiB messages, 20 sessions, median of {options.runs}")
    for column in ("case", "", "messages/s", "CPU-ms a message"):
        table.add_column(column)
    for (name, keep), runs in sorted(results.items(), key=lambda one: not one[0][1]):
        middle = sorted(runs, key=lambda figures: figures[1])[len(runs) // 2]
        table.add_row("many a session" if keep else "one a session", name, f"{middle[0]:,.0f}", f"{middle[1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
