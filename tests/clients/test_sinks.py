"""Routes to Postfix's smtp-sink, a server that somebody else wrote: SMTP, LMTP over TCP, LMTP over a UNIX socket."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.queue.site import MESSAGE, PREFIX, site
from tests.support.clients import client
from tests.support.loop import on_loop
from tests.support.ports import free_port


@contextmanager
def sink(where: str, dump: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """smtp-sink, which writes what it takes to `dump`."""
    user = ["-u", "root"] if os.geteuid() == 0 else []
    program = [client("smtp-sink"), *user, *options, "-D", str(dump), where, "10"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        try:
            yield running
        finally:
            running.kill()


async def ready(running: "subprocess.Popen[bytes]", where: str) -> None:
    """Return once it listens."""
    end = time.monotonic() + 30
    while True:
        try:
            if where.startswith("unix:"):
                _, writer = await asyncio.open_unix_connection(where.removeprefix("unix:"))
            else:
                host, _, port = where.partition(":")
                _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            assert running.poll() is None, running.stdout.read() if running.stdout else b""
            assert time.monotonic() < end
        else:
            writer.close()
            return


@pytest.mark.parametrize("kind", ["smtp", "lmtp", "unix"])
@pytest.mark.parametrize("pipelining", [True, False])
@on_loop
async def test_a_message_arrives(kind: str, pipelining: bool, tmp_path: Path) -> None:
    port = free_port()
    where = f"unix:{tmp_path / 'lmtp.sock'}" if kind == "unix" else f"127.0.0.1:{port}"
    route: dict[str, object] = {"name": "sink", "to": ["there.test"], "via": "smarthost" if kind == "smtp" else "lmtp"}
    if kind == "unix":
        route["path"] = str(tmp_path / "lmtp.sock")
    else:
        route |= {"host": "127.0.0.1", "port": port, "tls": "none"}
    options = ["-L"] * (kind != "smtp") + ["-p"] * (not pipelining)
    with sink(where, tmp_path / "dump", *options) as running:
        await ready(running, where)
        async with site(route=[route]) as here:
            await here.run("bob@there.test", "ann@there.test")
            assert await here.waiting() == {}
            assert await here.bounces() == []
    dumped = (tmp_path / "dump").read_bytes()
    assert dumped.count(b"X-Rcpt-Args: <") == 2
    assert (PREFIX + MESSAGE).replace(b"\r\n", b"\n").strip() in dumped.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(("option", "bounced"), [("-r", False), ("-f", True)])
@on_loop
async def test_lmtp_that_refuses_each_recipient_after_the_content(option: str, bounced: bool, tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    with sink(f"unix:{path}", tmp_path / "dump", "-L", option, ".") as running:  # "." is the end of the content
        await ready(running, f"unix:{path}")
        async with site(route=[{"name": "sink", "via": "lmtp", "path": str(path)}]) as here:
            await here.run("bob@there.test", "ann@there.test")
            assert len(await here.waiting()) == (0 if bounced else 2)
            assert len(await here.bounces()) == bounced
