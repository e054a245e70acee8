"""OpenDKIM, the milter that most servers sign and verify with: it verifies what we sign, with keys from a file."""

import subprocess
from itertools import product
from pathlib import Path

from posthouse.senderauth import dkim
from posthouse.senderauth.dkim import Signer, record_of
from posthouse.senderauth.dkim_canon import Canon
from tests.senderauth.keys import MESSAGE, NOW, rsa_key
from tests.support.clients import client

CANONS: list[Canon] = ["simple", "relaxed"]
HEAD = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: s\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
MESSAGES = {
    # A milter is not told of more than one blank before a value, nor of those behind it.
    "usual": MESSAGE.replace(b"Subject:  hello   there ", b"Subject: hello   there"),
    "empty": HEAD + b"\r\n",
    "trailing": HEAD + b"\r\nline  \t two\t\r\n\r\n\r\n\r\n",
    "long": HEAD + b"\r\n" + b"x" * 70_000 + b"\r\n",
    "8bit": HEAD + "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n".encode(),
}


def test_it_verifies_what_we_sign(tmp_path: Path) -> None:
    opendkim = client("opendkim")
    (tmp_path / "keys").write_text(f"rsa._domainkey.example.org {record_of(rsa_key())}\n")
    (tmp_path / "conf").write_text(
        f"Mode v\nTestPublicKeys {tmp_path}/keys\nSyslog no\nSocket local:{tmp_path}/socket\n"
    )
    good: list[str] = []
    bad: list[str] = []
    for (name, message), header, body in product(MESSAGES.items(), CANONS, CANONS):
        signed = dkim.sign(message, [Signer("example.org", "rsa", rsa_key(), header, body)], NOW - 10**8)
        for kind, files, content in (("good", good, signed), ("bad", bad, signed + b"x\r\n")):
            path = tmp_path / f"{kind}-{name}-{header}-{body}"
            path.write_bytes(content)
            files.append(str(path))
    done = subprocess.run(
        [opendkim, "-x", str(tmp_path / "conf"), "-t", ",".join(good + bad)],
        capture_output=True, text=True, errors="replace", timeout=120, check=False,
    )  # fmt: skip
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("opendkim: ")]
    for file in good:
        assert [line for line in said if file in line and line.endswith(" succeeded")], (file, said)
    for file in bad:
        assert [line for line in said if file in line and "signature verification failed" in line], (file, said)
