"""The promise "250 means on disk": a server under load is killed at random moments, again and again.

After each restart every acknowledged message is there exactly once, UIDs rise strictly and never come back,
the consistency check finds nothing; in the end the queue has delivered to a sink what it owes. Killing the
process tests everything but the disk's own cache, which `synchronous=FULL` and fsync are there for.
"""

import asyncio
import imaplib
import json
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

from posthouse.store import check
from posthouse.store.sqlite import SqliteDatabase
from tests.support import program
from tests.support.sink import Sink

ROUNDS = 20
SENDERS = 6
PASSWORD = "crash-test-password-1"

CONFIG = """
hostname = "mail.posthouse.test"
data = "data"

[[listen]]
service = "smtp"
address = "127.0.0.1"
port = 0

[[listen]]
service = "imap"
address = "127.0.0.1"
port = 0
allow_plaintext_auth = true

[relay]
networks = ["127.0.0.0/8"]
smarthost = {{ host = "127.0.0.1", port = {sink}, tls = "none" }}

[queue]
retry = [1]

[storage]
reserve = 0

[log]
format = "json"
"""


def start(folder: Path) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """Start the server; returns it and its ports, read from its log."""
    log = open(folder / "log", "ab")  # noqa: SIM115 - the process keeps it
    at = log.tell()
    process = subprocess.Popen(
        program.command("serve", "--config", str(folder / "posthouse.toml")),
        stdout=subprocess.PIPE,
        stderr=log,
        env=program.environment(),
    )
    log.close()
    assert process.stdout is not None
    ready = process.stdout.readline()
    if not ready:
        raise AssertionError((folder / "log").read_bytes()[at:].decode("utf-8", "replace"))
    return process, json.loads(ready)["ports"]


class Tally:
    """What was acknowledged; `reached(n)` waits until that many are, or nobody sends any more."""

    def __init__(self) -> None:
        self.marks: set[str] = set()
        self.senders = 0
        self._changed = asyncio.Condition()

    async def add(self, mark: str) -> None:
        self.marks.add(mark)
        async with self._changed:
            self._changed.notify_all()

    async def end(self) -> None:
        self.senders -= 1
        async with self._changed:
            self._changed.notify_all()

    async def reached(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.marks) >= count or not self.senders)


async def submit(port: int, name: str, tally: Tally, recipients: list[str]) -> None:
    """Send messages until the server dies; note the ones it answered 250."""
    number = 0
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def say(line: str) -> bytes:
            writer.write(line.encode() + b"\r\n")
            while True:
                answer = await reader.readline()
                if not answer:
                    raise ConnectionError("the server is gone")
                if answer[3:4] != b"-":
                    return answer

        await reader.readline()
        await say("EHLO crash.example")
        while True:
            mark = f"{name}-{number}"
            number += 1
            await say("MAIL FROM:<sender@example.com>")
            for recipient in recipients:
                await say(f"RCPT TO:<{recipient}>")
            await say("DATA")
            filler = "x" * random.Random(mark).choice([10, 3000, 90_000])
            answer = await say(f"Subject: {mark}\r\n\r\n{filler}\r\n.")
            if answer.startswith(b"250"):
                await tally.add(mark)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        if "writer" in locals():
            writer.close()
        await tally.end()


def listing(port: int, account: str) -> list[tuple[int, str]]:
    """(UID, subject) of every message in the INBOX, in the order of the mailbox."""
    with imaplib.IMAP4("127.0.0.1", port) as client:
        client.login(account, PASSWORD)
        count = int(client.select("INBOX", readonly=True)[1][0] or b"0")
        if not count:
            return []
        rows = client.fetch("1:*", "(UID ENVELOPE)")[1]
        found = []
        for row in rows:
            line = row if isinstance(row, bytes) else row[0] if row else b""
            match = re.search(rb'UID (\d+) ENVELOPE \((?:NIL|"[^"]*") "([^"]*)"', line)
            assert match, line
            found.append((int(match[1]), match[2].decode()))
        return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    seed = int(os.environ.get("POSTHOUSE_CRASH_SEED", "20261123"))
    chance = random.Random(seed)
    config = tmp_path / "posthouse.toml"

    def prepare(sink: int) -> None:
        config.write_text(CONFIG.format(sink=sink))
        there = ("--config", str(config))
        added = program.run(*there, "domain", "add", "posthouse.test")
        assert added.returncode == 0, added.stderr
        added = program.run(*there, "account", "add", "bob@posthouse.test", "--password-stdin", text=PASSWORD)
        assert added.returncode == 0, added.stderr

    async def main() -> None:
        tally = Tally()
        async with Sink() as sink:
            await asyncio.to_thread(prepare, sink.port)
            seen: list[tuple[int, str]] = []
            load: list[asyncio.Task[None]] = []
            for round_ in range(ROUNDS):
                process, ports = await asyncio.to_thread(start, tmp_path)
                try:
                    now = await asyncio.to_thread(listing, ports["imap"], "bob@posthouse.test")
                    assert now[: len(seen)] == seen, "what was there once stays, in its order"
                    seen = now
                    tally.senders = SENDERS
                    both = ["bob@posthouse.test", "out@elsewhere.test"]
                    load = [
                        asyncio.create_task(submit(ports["smtp"], f"{round_}-{n}", tally, both)) for n in range(SENDERS)
                    ]
                    # The moment of death is counted in messages, not in seconds.
                    await tally.reached(len(tally.marks) + chance.randrange(5, 60))
                finally:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    if process.stdout:
                        process.stdout.close()
                await asyncio.gather(*load)
            acknowledged = tally.marks
            process, ports = await asyncio.to_thread(start, tmp_path)
            try:
                rows = await asyncio.to_thread(listing, ports["imap"], "bob@posthouse.test")
                uids = [uid for uid, _ in rows]
                assert uids == sorted(set(uids))
                subjects = [subject for _, subject in rows]
                assert len(subjects) == len(set(subjects)), "nothing twice"
                missing = acknowledged - set(subjects)
                assert not missing, f"acknowledged and lost: {sorted(missing)[:5]}"
                await sink.wait_for(set(subjects), 120)
            finally:
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 30) == 0
                if process.stdout:
                    process.stdout.close()
            assert len(acknowledged) >= ROUNDS * 5

        database = await SqliteDatabase.open(tmp_path / "data", 1)
        assert await database.read(check.findings) == []
        await database.close()

    asyncio.run(main())
