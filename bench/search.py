"""SEARCH over many varied messages: the first time after a start, and again; the index's size, what making it costs.

python -m bench.search [--messages 20000 | --messages 100000] [--folder DIR]

Fills a mailbox by APPEND with messages of a made-up language in which common words are common, among them HTML, encoded
ones, ones in Japanese, and attachments that are no text; waits until the index has them, starts the server anew, and
searches. With --folder they stay, for the next run.
"""

import argparse
import base64
import quopri
import random
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.imap import Client
from bench.server import Demo
from posthouse.cli.opening import ask

SYLLABLES = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "ei", "an", "er", "on")]
_dice = random.Random(7)
WORDS = sorted({"".join(_dice.choices(SYLLABLES, k=_dice.choice((1, 2, 2, 3, 3, 4, 5)))) for _ in range(30_000)})
_dice.shuffle(WORDS)
WEIGHTS = [1 / (n + 4) for n in range(len(WORDS))]  # as languages do it
KANJI = [chr(code) for code in _dice.sample(range(0x4E00, 0x9000), 2000)]
NAMES = [w.capitalize() for w in WORDS[500:900]]
RARE, OFTEN, PAIR = "quixotic", "xylophon", "電話"  # in one message of 1000, of 10, of 200


def prose(dice: random.Random, octets: int) -> str:
    words = dice.choices(WORDS, WEIGHTS, k=max(4, octets // 6))
    lines = [" ".join(words[at : at + 11]).capitalize() + "." for at in range(0, len(words), 11)]
    return "\r\n".join(lines) + "\r\n"


def message(number: int) -> bytes:
    """The message of a number, always the same."""
    dice = random.Random(number)
    who, whom = dice.choice(NAMES), dice.choice(NAMES)
    subject = " ".join(dice.choices(WORDS, WEIGHTS, k=dice.randint(2, 8)))
    text = prose(dice, int(min(20_000, 300 + dice.paretovariate(1.2) * 500)))
    if number % 1000 == 3:
        text += f"This is {RARE} indeed.\r\n"
        subject += f" {RARE}"
    if number % 10 == 4:
        text += f"And a {OFTEN}.\r\n"
        subject += f" {OFTEN}"
    head = [
        f"Received: from mx{dice.randrange(9)}.example.com (mx.example.com [192.0.2.{dice.randrange(255)}])\r\n"
        f"\tby mail.example.org with ESMTPS id {dice.randrange(1 << 40):X}; Mon, 6 Jan 2025 10:00:00 +0000",
        "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from:to:subject;\r\n\tb="
        + base64.b64encode(dice.randbytes(256)).decode(),
        f"From: {who} <{who.lower()}@example.com>",
        f"To: {whom} <{whom.lower()}@example.org>",
        f"Date: Mon, 6 Jan 2025 {number % 24:02}:{number % 60:02}:00 +0000",
        f"Message-ID: <{number}.{dice.randrange(1 << 48):x}@example.com>",
        f"Subject: {subject}" if number % 12 else f"Subject: =?utf-8?b?{base64.b64encode(subject.encode()).decode()}?=",
        "MIME-Version: 1.0",
    ]
    kind = number % 20
    if number % 200 == 5:  # Japanese
        text = "".join(dice.choices(KANJI, k=800)) + PAIR + "".join(dice.choices(KANJI, k=800))
    if kind < 11:
        if number % 3 == 0 or not text.isascii():
            body = quopri.encodestring(("Grüße\r\n" + text).replace("\r\n", "\n").encode()).replace(b"\n", b"\r\n")
            head += ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable"]
        else:
            body = text.encode()
            head += ["Content-Type: text/plain"]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body
    plain = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}".encode()
    if kind < 16:
        paragraphs = "".join(f'<p class="c" style="color:#333">{line}</p>\r\n' for line in text.split("\r\n"))
        other = f"Content-Type: text/html; charset=utf-8\r\n\r\n<html><body>{paragraphs}</body></html>\r\n".encode()
        subtype = "alternative"
    else:
        data = base64.encodebytes(dice.randbytes(dice.randrange(4_000, 80_000))).replace(b"\n", b"\r\n")
        name = f"{dice.choice(WORDS)}.jpg"
        other = (
            f'Content-Type: image/jpeg\r\nContent-Disposition: attachment; filename="{name}"\r\n'
            "Content-Transfer-Encoding: base64\r\n\r\n"
        ).encode() + data
        subtype = "mixed"
    head += [f'Content-Type: multipart/{subtype}; boundary="=_{number}"']
    cut = b"--=_%d" % number
    return b"\r\n".join(["\r\n".join(head).encode(), b"", cut, plain, cut, other, cut + b"--", b""])


QUERIES = (
    ("SUBJECT word, 1 in 1000", f"SUBJECT {RARE}"),
    ("SUBJECT word, 1 in 10", f"SUBJECT {OFTEN}"),
    ("FROM name", f"FROM {NAMES[3].lower()}@"),
    ("BODY word, 1 in 1000", f"BODY {RARE}"),
    ("BODY word, 1 in 10", f"BODY {OFTEN}"),
    ("TEXT word, 1 in 1000", f"TEXT {RARE}"),
    ("TEXT word, 1 in 10", f"TEXT {OFTEN}"),
    ("TEXT word, in none", "TEXT jabberwocky"),
    ("BODY word of the language, rank 2000", f"BODY {WORDS[2000]}"),
    ("BODY word of the language, rank 200", f"BODY {WORDS[200]}"),
    ("BODY word of the language, rank 20", f"BODY {WORDS[20]}"),
    ("BODY word of the language, rank 2", f"BODY {WORDS[2]}"),
    ("BODY phrase", f'BODY "is {RARE} indeed"'),
    ("BODY two Chinese characters, 1 in 200", f"BODY {PAIR}"),
    ("NOT BODY word, 1 in 10", f"NOT BODY {OFTEN}"),
    ("OR BODY word SUBJECT word", f"OR BODY {RARE} SUBJECT {OFTEN}"),
    ("SUBJECT word UNSEEN", f"SUBJECT {OFTEN} UNSEEN"),
    ("HEADER Message-ID, one message", 'HEADER Message-ID "<77."'),
)


class Searcher(Client):
    """A client that says how many were found."""

    def search(self, words: str) -> int:
        self._number += 1
        tag = b"z%d" % self._number
        text = words.encode()
        if not text.isascii():
            before, _, word = words.rpartition(" ")
            word_octets = word.encode()
            text = before.encode() + b" {%d+}\r\n" % len(word_octets) + word_octets
        self.send(tag + b" UID SEARCH RETURN (COUNT ALL) " + text + b"\r\n")
        answer = b""
        while b"\r\n" + tag + b" " not in answer or not answer.endswith(b"\r\n"):
            answer += self._socket.recv(1 << 20)
        if tag + b" OK" not in answer:
            raise SystemExit(answer[-200:].decode("utf-8", "replace"))
        return int(answer.partition(b"COUNT ")[2].split()[0].rstrip(b")"))


def fill(client: Searcher, first: int, count: int) -> tuple[int, float]:
    began, octets = time.perf_counter(), 0
    for number in range(first, count):
        data = message(number)
        octets += len(data)
        client.send(b"A%d APPEND INBOX {%d+}\r\n%b\r\n" % (number, len(data), data))
        if number % 20 == 19 or number == count - 1:
            client.wait(b"A%d" % number)
    return octets, time.perf_counter() - began


def indexed(demo: Demo) -> dict[str, Any]:
    """Wait until the index has everything."""
    while True:
        found = ask(Path(demo.folder) / "data", "index", 60)
        if found is None or not found["ok"]:
            raise SystemExit(f"the server says nothing of an index: {found}")
        if found["position"] >= found["last"]:
            return found
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--offset", type=int, default=24000)
    parser.add_argument("--folder", help="keep the mail here for the next run")
    parser.add_argument("--cold", action="store_true", help="the first time with nothing of the files in memory")
    parser.add_argument("--as-it-is", action="store_true", help="leave the index of the folder as it is")
    options = parser.parse_args()
    console = Console()
    folder = options.folder or None
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    kept = folder is not None and (Path(folder) / "filled").exists()
    with Demo(options.offset, folder=folder) as demo:
        if not kept:
            client = Searcher(demo)
            client.login()
            octets, took = fill(client, 0, options.messages)
            client.close()
            console.print(f"{options.messages} messages, {octets / 1e6:,.0f} MB, by APPEND in {took:.0f} s")
            (Path(demo.folder) / "filled").write_text(str(octets))
        octets = int((Path(demo.folder) / "filled").read_text())
        indexed(demo)
        if not options.as_it_is:  # anew, with nothing else to do
            ask(Path(demo.folder) / "data", "index.rebuild", 60)
        cpu, began = demo.cpu(), time.perf_counter()
        status = indexed(demo)
        took, used = time.perf_counter() - began, demo.cpu() - cpu
        if not options.as_it_is:
            console.print(
                f"indexed {status['messages']:,} in {took:.0f} s: {status['messages'] / took:,.0f}/s, "
                f"{used * 1000 / status['messages']:.2f} CPU-ms a message; the server's peak is {demo.peak():.0f} MiB"
            )
        table = Table(title=f"SEARCH over {status['messages']:,} messages")
        for column in ("search", "found", "first, ms", "again, ms"):
            table.add_column(column, justify="left" if column == "search" else "right")
        place = demo.folder
        again: list[tuple[str, int, float, float]] = []
        for name, words in QUERIES:
            again.append((name, *measured(demo, words, options.cold)))
        for name, found, first, warm in again:
            table.add_row(name, f"{found:,}", f"{first:.1f}", f"{warm:.1f}")
        size = sum(path.stat().st_size for path in (Path(place) / "data").glob("search.db*"))
        store = sum(path.stat().st_size for path in (Path(place) / "data").rglob("*") if path.is_file()) - size
        console.print(table)
        console.print(
            f"index {size / 1e6:,.0f} MB, mail {octets / 1e6:,.0f} MB ({size / octets:.0%}), "
            f"the store without it {store / 1e6:,.0f} MB"
        )


def measured(demo: Demo, words: str, cold: bool) -> tuple[int, float, float]:
    """How many a search finds, and ms: the first time on a server that has just started, then the best of five."""
    demo.restart(cold)
    client = Searcher(demo)
    client.login()
    client.command(b"SELECT INBOX")
    times = []
    found = 0
    for _ in range(6):
        began = time.perf_counter()
        found = client.search(words)
        times.append((time.perf_counter() - began) * 1000)
    client.close()
    return found, times[0], min(times[1:])


if __name__ == "__main__":
    main()
