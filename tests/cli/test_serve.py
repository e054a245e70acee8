"""`posthouse serve`: it says when it is ready, is alone on its data folder, and ends with 0."""

import json
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from posthouse.base.settings import STANDARD_PORTS
from tests.support.program import command, environment, run


def configuration(folder: Path, port: int = 0) -> Path:
    path = folder / "posthouse.toml"
    listen = "".join(
        f"[[listen]]\nservice = '{service}'\naddress = '127.0.0.1'\nport = {port if service == 'smtp' else 0}\n"
        for service in STANDARD_PORTS
    )
    path.write_text(f"hostname = 'mail.example.org'\ndata = 'data'\n{listen}[log]\nformat = 'json'\n")
    return path


@contextmanager
def serving(
    path: Path, stop: signal.Signals = signal.SIGTERM
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running server and what it said when it was ready; it must end well."""
    with subprocess.Popen(
        command("serve", "--config", str(path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
        if process.poll() is None:
            process.send_signal(stop)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    events = [json.loads(one)["event"] for one in log.splitlines()]
    assert [event for event in events if event != "smtp.accepted"] == ["server.started", "server.stopped"]


def test_it_serves_is_alone_and_stops(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    with serving(path) as (process, said):
        assert said["pid"] == process.pid
        assert set(said["ports"]) == set(STANDARD_PORTS)
        assert {one["service"]: one["port"] for one in said["listen"]} == said["ports"]
        assert all(one["address"] == "127.0.0.1" for one in said["listen"])
        for service, greeting in (("smtp", b"220 "), ("imap", b"* OK "), ("pop3", b"+OK ")):
            with socket.create_connection(("127.0.0.1", said["ports"][service]), timeout=10) as client:
                assert client.recv(100).startswith(greeting)
        second = run("serve", "--config", str(path))
        assert second.returncode == 1
        assert f"already (process {process.pid})" in second.stderr


def test_a_server_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    with subprocess.Popen(command("serve", "--config", str(path)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, env=environment()) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()
    with serving(path, signal.SIGHUP):
        pass


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", "--config", str(configuration(tmp_path, port)))
    assert result.returncode == 1
    assert f"port {port} for smtp" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    (tmp_path / "data").write_text("a file")
    result = run("serve", "--config", str(path))
    assert result.returncode == 1
    assert f"the data folder {tmp_path / 'data'} cannot be used" in result.stderr


def test_what_listens_at_a_socket_or_at_two_ports_is_told(tmp_path: Path) -> None:
    path, place = configuration(tmp_path), tmp_path / "lmtp.sock"
    listen = f"[[listen]]\nservice = 'lmtp'\npath = '{place}'\n"
    again = "[[listen]]\nservice = 'smtp'\naddress = '127.0.0.1'\nport = 0\n"
    path.write_text(path.read_text().replace("[log]", listen + again + "[log]"))
    with serving(path) as (_, said):
        assert {"service": "lmtp", "path": str(place)} in said["listen"]
        first, second = (one["port"] for one in said["listen"] if one["service"] == "smtp")
        assert said["ports"]["smtp"] == first != second
        with socket.create_connection(("127.0.0.1", second), timeout=10) as client:
            assert client.recv(100).startswith(b"220 ")


def test_send_says_what_to_do_about_a_certificate(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    with serving(path) as (_, said):
        server = f"localhost:{said['ports']['submissions']}"
        command = (
            "send",
            "--server",
            server,
            "--tls",
            "implicit",
            "--from",
            "a@example.org",
            "--text",
            "x",
            "--no-login",
        )
        done = run(*command, "b@example.org")
        assert done.returncode == 1
        assert "The certificate is not trusted: give its CA with --ca FILE" in done.stderr
        done = run(*command, "--ca", str(tmp_path / "data" / "tls" / "ca.pem"), "b@example.org")
        assert "certificate" not in done.stderr
        assert "530 5.7.0 Authentication required" in done.stdout + done.stderr


def highest(pid: int) -> int:
    """The most memory that a process ever had, in octets."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:"))) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody says how much memory a process has")
def test_a_message_of_50_mib_raises_memory_by_less_than_16(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    run("domain", "add", "example.org", "--config", str(path))
    assert run("account", "add", "bob@example.org", "--generate", "--config", str(path)).returncode == 0
    body = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 727_000
    with serving(path) as (process, said):
        for message in (b"Subject: small\r\n\r\nx\r\n", body):
            before = highest(process.pid)
            with smtplib.SMTP("127.0.0.1", said["ports"]["smtp"], timeout=60) as client:
                client.sendmail("a@example.com", ["bob@example.org"], message)
        assert len(body) > 49 * 1024 * 1024
        assert highest(process.pid) - before < 16 * 1024 * 1024
