"""Programs and libraries that send: aiosmtplib, smtplib, msmtp, s-nail, swaks with every mechanism, nodemailer."""

import asyncio
import smtplib
import subprocess
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from tests.clients.test_clients import call
from tests.support.clients import client, missing
from tests.support.house import PASSWORD, House, opened

ALICE, BOB = "alice@posthouse.test", "bob@posthouse.test"
TEXT = f"From: {ALICE}\nTo: {BOB}\nSubject: from a program\n\nGrüße, hello\n.\n..\n"


def received(folder: Path, test: Callable[[House, str], None], count: int = 1) -> None:
    """Run a blocking test beside a house; so many messages must have come to bob."""

    async def main() -> None:
        async with asyncio.timeout(120), opened(folder) as house:
            assert house.app.tls is not None
            await asyncio.to_thread(test, house, str(house.app.tls.ca))
            messages = await house.inbox("bob")
            assert len(messages) == count
            assert all(b"Subject: from a program\r\n" in message for message in messages)

    asyncio.run(main())


def test_aiosmtplib(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = ALICE, BOB, "from a program"
    message.set_content("Grüße")

    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as house:
            for service, implicit in (("submission", False), ("submissions", True)):
                errors, _ = await aiosmtplib.send(
                    message, hostname="localhost", port=house.ports[service], username="alice", password=PASSWORD,
                    tls_context=house.context, use_tls=implicit, start_tls=not implicit,
                )  # fmt: skip
                assert errors == {}
            smtp = aiosmtplib.SMTP(
                hostname="localhost", port=house.ports["submissions"], use_tls=True, tls_context=house.context
            )
            async with smtp:
                with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                    await smtp.login("alice", "wrong")
                assert (await smtp.vrfy("bob@posthouse.test")).code == 252
            assert len(await house.inbox("bob")) == 2

    asyncio.run(main())


def test_smtplib_with_international_addresses(tmp_path: Path) -> None:
    def test(house: House, _ca: str) -> None:
        with smtplib.SMTP_SSL("localhost", house.ports["submissions"], context=house.context) as smtp:
            smtp.login("alice", PASSWORD)
            smtp.sendmail(ALICE, [BOB], TEXT.replace("\n", "\r\n").encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
            smtp.sendmail(ALICE, [BOB], TEXT.replace("\n", "\r\n").encode(), ["RET=HDRS", "ENVID=7"], ["NOTIFY=NEVER"])

    received(tmp_path, test, 2)


@pytest.mark.parametrize("mechanism", ["scram-sha-256", "scram-sha-1", "plain", "login"])
def test_msmtp(tmp_path: Path, mechanism: str) -> None:
    msmtp = client("msmtp")

    def test(house: House, ca: str) -> None:
        call(
            msmtp, "--host=localhost", f"--port={house.ports['submission']}", "--tls=on", f"--tls-trust-file={ca}",
            f"--auth={mechanism}", "--user=alice", f"--passwordeval=echo {PASSWORD}", f"--from={ALICE}",
            "--dsn-notify=failure", "--dsn-return=headers", BOB, given=TEXT,
        )  # fmt: skip

    received(tmp_path, test)


def test_s_nail(tmp_path: Path) -> None:
    s_nail = client("s-nail")

    def test(house: House, ca: str) -> None:
        settings = [
            "v15-compat=yes", f"mta=submissions://alice:{PASSWORD}@localhost:{house.ports['submissions']}",
            "smtp-auth=login", f"tls-ca-file={ca}", "tls-verify=strict", f"from={ALICE}", "ttycharset=utf-8",
        ]  # fmt: skip
        options = [word for setting in settings for word in ("-S", setting)]
        environment = ("env", f"HOME={tmp_path}", "MAILRC=/dev/null", "LC_ALL=C.UTF-8")
        call(*environment, s_nail, "-n", *options, "-s", "from a program", BOB, given="Grüße\n")

    received(tmp_path, test)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_with_pipelining(tmp_path: Path, mechanism: str) -> None:
    swaks = client("swaks")

    def test(house: House, _ca: str) -> None:
        call(
            swaks, "--server", f"127.0.0.1:{house.ports['submission']}", "--tls", "--auth", mechanism, "--auth-user",
            "alice", "--auth-password", PASSWORD, "--from", ALICE, "--to", BOB, "--pipeline",
            "--header", "Subject: from a program",
        )  # fmt: skip

    received(tmp_path, test)


NODE = """
const nodemailer = require('nodemailer');
const [port, secure, ca] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: 'localhost', port: Number(port), secure: secure === 'yes', auth: {user: 'alice', pass: '%s'},
  tls: {ca: require('fs').readFileSync(ca)}, requireTLS: true,
});
transport.sendMail({
  from: '%s', to: '%s', subject: 'from a program', text: 'Grüße', dsn: {id: 'x', return: 'headers', notify: 'never'},
}).then(() => process.exit(0), error => { console.error(error); process.exit(1); });
"""


def test_nodemailer(tmp_path: Path) -> None:
    node, npm = client("node"), client("npm")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "nodemailer@6.9.16"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        missing(f"nodemailer cannot be installed: {done.stderr.strip()[-300:] or 'no package registry'}")
    (tmp_path / "send.js").write_text(NODE % (PASSWORD, ALICE, BOB))

    def test(house: House, ca: str) -> None:
        for service, secure in (("submission", "no"), ("submissions", "yes")):
            call(node, "send.js", str(house.ports[service]), secure, ca, cwd=tmp_path)

    received(tmp_path / "house", test, 2)
