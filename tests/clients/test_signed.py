"""What swaks and curl submit reaches another server signed, and others verify it: dkimpy, Mail::DKIM, mailauth.

Both signatures of what arrived must pass, and fail once the message is damaged.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from posthouse.store.dkim_keys import DkimKey
from tests.clients.test_clients import call
from tests.support.clients import client, missing
from tests.support.house import PASSWORD, House, opened
from tests.support.nameserver import NameServer
from tests.support.remote import Remote
from tests.support.signing import BOTH, dkimpy_says, sign_for, table, verified, words

ALICE, AMY = "alice@posthouse.test", "amy@there.test"
TEXT = (
    f"From: Alice <{ALICE}>\r\nTo: {AMY}\r\nBcc: secret@there.test\r\nSubject: Grüße\r\n\r\n"
    "Hello  you \r\n.\r\n\r\n\r\n"
)
VERSION = "4.13.3"

PERL = """
use Net::DNS; use Mail::DKIM::DNS; use Mail::DKIM::Verifier;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => shift, retry => 1));
binmode STDIN;
my $message = do { local $/; <STDIN> };
my $verifier = Mail::DKIM::Verifier->new;
$verifier->PRINT($message);
$verifier->CLOSE;
print join(" ", map { $_->result_detail } $verifier->signatures), "\\n";
"""

NODE = """
const { dkimVerify } = require('mailauth/lib/dkim/verify');
const dns = require('dns');
const resolver = new dns.promises.Resolver({ timeout: 5000, tries: 1 });
resolver.setServers(['127.0.0.1:' + process.argv[2]]);
dkimVerify(require('fs').readFileSync(0), { resolver: (name, type) => resolver.resolve(name, type) })
  .then(found => console.log(JSON.stringify(found.results.map(one => one.status.result))));
"""


@asynccontextmanager
async def signed_away(folder: Path) -> AsyncIterator[tuple[House, Remote, list[DkimKey], int]]:
    """A house that signs and sends everything to one server; and the port of a name server that has the keys."""
    remote = Remote(extensions=("PIPELINING", "8BITMIME", "SMTPUTF8"))
    port = await remote.start()
    smarthost = {"host": "127.0.0.1", "port": port, "tls": "none"}
    try:
        async with opened(folder, relay={"smarthost": smarthost}) as house:
            keys = await sign_for(house.database, "posthouse.test")
            server = NameServer(table(keys))
            names = await server.start()
            try:
                yield house, remote, keys, names
            finally:
                await server.stop()
    finally:
        await remote.stop()


async def arrived(folder: Path, arguments: list[str], given: str = "") -> tuple[bytes, list[DkimKey]]:
    """What the other server gets once a program has submitted a message; PORT and CA in its arguments are filled in."""
    async with signed_away(folder) as (house, remote, keys, _):
        assert house.app.tls is not None
        filled = {"PORT": str(house.ports["submission"]), "CA": str(house.app.tls.ca)}
        for name, value in filled.items():
            arguments = [one.replace(name, value) for one in arguments]
        await asyncio.to_thread(lambda: call(*arguments, given=given))
        await remote.wait_for(1)
        message = remote.taken[0].content
        assert words(await verified(message, keys, house.app.clock.now())) == [("pass", one) for one in BOTH]
        return message, keys


def look_at(message: bytes, keys: list[DkimKey]) -> None:
    """What holds for every message that was submitted."""
    header = message.partition(b"\r\n\r\n")[0].lower()
    assert b"bcc" not in header
    assert b"secret" not in message
    for name in (b"date", b"message-id", b"from", b"to", b"subject"):
        assert header.count(b"\r\n" + name + b":") == 1, name
    assert header.count(b"dkim-signature:") == 2
    assert dkimpy_says(message, keys) == [True, True]
    assert dkimpy_says(message + b"x\r\n", keys) == [False, False]
    assert dkimpy_says(message.replace(b"\r\nFrom: ", b"\r\nFrom: Eve "), keys) == [False, False]


def test_swaks(tmp_path: Path) -> None:
    arguments = [
        client("swaks"), "--server", "127.0.0.1:PORT", "--tls", "--auth", "PLAIN", "--auth-user", "alice",
        "--auth-password", PASSWORD, "--from", ALICE, "--to", AMY, "--header", "Bcc: secret@there.test",
    ]  # fmt: skip

    async def main() -> None:
        async with asyncio.timeout(60):
            look_at(*await arrived(tmp_path, arguments))

    asyncio.run(main())


def test_curl(tmp_path: Path) -> None:
    message = tmp_path / "message.eml"
    message.write_bytes(TEXT.encode())
    arguments = [
        client("curl"), "--silent", "--show-error", "--url", "smtp://localhost:PORT", "--ssl-reqd", "--cacert", "CA",
        "--user", f"alice:{PASSWORD}", "--mail-from", ALICE, "--mail-rcpt", AMY, "--upload-file", str(message),
    ]  # fmt: skip

    async def main() -> None:
        async with asyncio.timeout(60):
            arrived_one, keys = await arrived(tmp_path / "house", arguments)
            assert arrived_one.endswith(b"Hello  you \r\n.\r\n\r\n\r\n")
            look_at(arrived_one, keys)

    asyncio.run(main())


def judged(folder: Path, command: list[str], env: dict[str, str] | None = None) -> tuple[str, str]:
    """What a program says of a message that was submitted, and of the same with another line at its end."""

    async def main() -> tuple[str, str]:
        async with asyncio.timeout(90), signed_away(folder) as (house, remote, _keys, names):

            def ask(message: bytes) -> str:
                done = subprocess.run(
                    [*command, str(names)], input=message, capture_output=True, timeout=30, check=False, env=env
                )
                assert done.returncode == 0, done.stderr.decode()
                return done.stdout.decode().strip()

            def send() -> None:
                import smtplib

                with smtplib.SMTP("localhost", house.ports["submission"]) as smtp:
                    smtp.starttls(context=house.context)
                    smtp.login("alice", PASSWORD)
                    smtp.sendmail(ALICE, [AMY], TEXT.encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])

            await asyncio.to_thread(send)
            await remote.wait_for(1)
            message = remote.taken[0].content
            return await asyncio.to_thread(ask, message), await asyncio.to_thread(ask, message + b"x\r\n")

    return asyncio.run(main())


def test_mail_dkim(tmp_path: Path) -> None:
    perl = client("perl")
    if subprocess.run([perl, "-MMail::DKIM::Verifier", "-e", "1"], capture_output=True, check=False).returncode:
        missing("Mail::DKIM (libmail-dkim-perl) is not installed")
    whole, damaged = judged(tmp_path, [perl, "-e", PERL, "--"])
    # Older versions know no Ed25519: that is what the RSA signature, and that it stands first, is for.
    assert whole in ("pass pass", "pass invalid (unsupported algorithm ed25519-sha256)")
    assert [word for word in damaged.split() if word in ("pass", "fail")][:1] == ["fail"]
    assert "pass" not in damaged


def test_mailauth(tmp_path: Path) -> None:
    node, npm = client("node"), client("npm")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", f"mailauth@{VERSION}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if done.returncode:
        missing(f"mailauth cannot be installed: {done.stderr.strip()[-300:] or 'no package registry'}")
    program = tmp_path / "verify.js"
    program.write_text(NODE)
    whole, damaged = judged(tmp_path / "house", [node, str(program)], dict(os.environ))
    assert json.loads(whole) == ["pass", "pass"]
    assert json.loads(damaged) == ["neutral", "neutral"]  # its word for a body that was changed
