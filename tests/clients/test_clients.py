"""Real clients against the whole server, as people use them: swaks, curl, mutt, fetchmail, imaplib, poplib.

Which of them are missing, and what follows, is tests/support/clients.py.
"""

import asyncio
import contextlib
import imaplib
import os
import poplib
import pty
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.clients import client
from tests.support.house import PASSWORD, House, opened

BOB = "bob@posthouse.test"


def call(*command: str, cwd: Path | None = None, given: str = "", code: int = 0) -> str:
    done = subprocess.run(command, cwd=cwd, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(folder: Path, test: Callable[[House, str], None], **changes: Any) -> None:
    """Run a blocking test beside the house; it gets the house and the path of its CA."""

    async def main() -> None:
        async with asyncio.timeout(120), opened(folder, **changes) as house:
            assert house.app.tls is not None
            await asyncio.to_thread(test, house, str(house.app.tls.ca))

    asyncio.run(main())


def fill(house: House, count: int) -> None:
    with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
        imap.login(BOB, PASSWORD)
        for n in range(count):
            message = f"From: a@example.com\r\nSubject: number {n}\r\nMessage-ID: <{n}@example.com>\r\n\r\nbody {n}\r\n"
            assert imap.append("INBOX", "", "", message.encode())[0] == "OK"


def test_swaks_submits_with_starttls_and_with_implicit_tls(tmp_path: Path) -> None:
    swaks = client("swaks")

    def test(house: House, ca: str) -> None:
        common = ["--auth-user", "alice", "--auth-password", PASSWORD, "--from", "alice@posthouse.test", "--to", BOB]
        for service, tls in (("submission", "--tls"), ("submissions", "--tlsc")):
            for mechanism in ("PLAIN", "LOGIN"):
                said = call(swaks, "--server", f"127.0.0.1:{house.ports[service]}", tls, "--auth", mechanism, *common)
                assert "250 2.0.0 Accepted" in said
        pop = poplib.POP3("127.0.0.1", house.ports["pop3"])
        pop.user(BOB)
        pop.pass_(PASSWORD)
        assert pop.stat()[0] == 4
        pop.quit()

    run(tmp_path, test)


def test_curl_sends_and_reads(tmp_path: Path) -> None:
    curl = client("curl")

    def test(house: House, ca: str) -> None:
        letter = tmp_path / "letter"
        letter.write_bytes(b"Subject: by curl\r\n\r\nhello\r\n")
        base = [curl, "-sS", "--cacert", ca, "--user", f"{BOB}:{PASSWORD}"]
        send = ["--mail-from", BOB, "--mail-rcpt", BOB, "--upload-file", str(letter)]
        call(*base, f"smtps://localhost:{house.ports['submissions']}", *send)
        call(*base, "--ssl-reqd", f"smtp://localhost:{house.ports['submission']}", *send)
        assert "Subject: by curl" in call(*base, f"imaps://localhost:{house.ports['imaps']}/INBOX;UID=1")
        assert "Subject: by curl" in call(*base, f"pop3s://localhost:{house.ports['pop3s']}/2")
        said = call(*base, "--ssl-reqd", f"imap://localhost:{house.ports['imap']}/INBOX", "-X", "FETCH 1:* (ENVELOPE)")
        assert said.count("by curl") == 2

    run(tmp_path, test)


def test_fetchmail_fetches_over_pop3_and_imap(tmp_path: Path) -> None:
    fetchmail = client("fetchmail")

    def test(house: House, ca: str) -> None:
        for protocol, service in (("pop3", "pop3s"), ("imap", "imaps")):
            fill(house, 3)
            taken = tmp_path / f"taken-{protocol}"
            rc = tmp_path / f"fetchmailrc-{protocol}"
            rc.write_text(
                f'poll localhost protocol {protocol} port {house.ports[service]} user "{BOB}" password "{PASSWORD}" '
                f'ssl sslcertck sslcertfile "{ca}" fetchall mda "cat >> {taken}"\n'
            )
            rc.chmod(0o700)
            env = ["env", f"HOME={tmp_path}", f"FETCHMAILHOME={tmp_path}"]
            call(*env, fetchmail, "-f", str(rc), "--nosyslog")
            assert taken.read_bytes().count(b"Subject: number") == 3
        with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
            imap.login(BOB, PASSWORD)
            assert imap.select("INBOX")[1] == [b"0"]

    run(tmp_path, test)


def on_terminal(*command: str, env: dict[str, str]) -> str:
    """Run a program that wants a terminal; what it drew."""
    leader, follower = pty.openpty()
    drawn = b""
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env, close_fds=True)
    os.close(follower)
    try:
        with contextlib.suppress(OSError):  # EIO: the program has ended
            while select.select([leader], [], [], 15)[0] and (piece := os.read(leader, 65536)):
                drawn += piece
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        code = process.returncode
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    text = drawn.decode("utf-8", "replace")
    assert code == 0, text
    return text


def test_mutt_reads_saves_and_deletes(tmp_path: Path) -> None:
    mutt = client("mutt")

    def test(house: House, ca: str) -> None:
        fill(house, 3)
        imap_url = f"imaps://localhost:{house.ports['imaps']}/"
        pop3_url = f"pops://localhost:{house.ports['pop3s']}/"
        common = (
            f'set imap_user="{BOB}" imap_pass="{PASSWORD}" pop_user="{BOB}" pop_pass="{PASSWORD}"\n'
            f'set certificate_file="{ca}" ssl_ca_certificates_file="{ca}" ssl_verify_host=yes folder="{imap_url}"\n'
            "set confirmcreate=no confirmappend=no delete=yes move=no wait_key=no quit=yes sort=date sleep_time=0\n"
            'set header_cache="" message_cachedir="" record="" pager="builtin" pop_delete=no mark_old=no\n'
        )
        read, popped = tmp_path / "read", tmp_path / "popped"
        keys = {
            # Read the first, pipe it into a file, save the second into a new folder, delete the third, synchronise.
            imap_url + "INBOX": f"<first-entry><display-message><pipe-message>cat > {read}<enter><exit>"
            "<next-entry><save-message><kill-line>=Kept<enter><last-entry><delete-message><sync-mailbox><quit>",
            pop3_url: f"<first-entry><display-message><pipe-message>cat > {popped}<enter><exit><quit>",
        }
        env = {"HOME": str(tmp_path), "TERM": "xterm", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        for number, (url, push) in enumerate(keys.items()):
            rc = tmp_path / f"muttrc{number}"
            rc.write_text(common + f'push "{push}"\n')
            on_terminal(mutt, "-n", "-F", str(rc), "-f", url, env=env)
        assert "number 0" in read.read_text()
        assert "body 0" in read.read_text()
        assert "body 0" in popped.read_text()
        with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
            imap.login(BOB, PASSWORD)
            assert imap.select("INBOX")[1] == [b"1"]
            assert b"\\Seen" in imap.fetch("1", "(FLAGS)")[1][0]  # type: ignore[operator]
            assert imap.select("Kept")[1] == [b"1"]
            assert imap.search(None, "SUBJECT", '"number 1"')[1][0] == b"1"

    run(tmp_path, test)


def test_mutt_sends(tmp_path: Path) -> None:
    mutt = client("mutt")

    def test(house: House, ca: str) -> None:
        fill(house, 3)
        rc = tmp_path / "muttrc"
        rc.write_text(
            f'set imap_user="{BOB}"\nset imap_pass="{PASSWORD}"\nset ssl_starttls=yes\nset ssl_force_tls=yes\n'
            f'set certificate_file="{ca}"\nset ssl_verify_host=yes\nset from="{BOB}"\nset realname="Bob"\n'
            f'set smtp_url="smtp://bob@posthouse.test@localhost:{house.ports["submission"]}/"\n'
            f'set smtp_pass="{PASSWORD}"\nset copy=no\nset folder="{tmp_path}"\nset record=""\nset hostname=localhost\n'
            f'set quit=yes\nset wait_key=no\nset header_cache=""\nset delete=yes\n'
        )
        env = ["env", f"HOME={tmp_path}", "TERM=xterm"]
        call(*env, mutt, "-n", "-F", str(rc), "-s", "by mutt", BOB, given="hello from mutt\n")
        with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
            imap.login(BOB, PASSWORD)
            assert imap.select("INBOX")[1] == [b"4"]
            assert imap.search(None, "SUBJECT", '"by mutt"')[1][0] == b"4"

    run(tmp_path, test)


def test_idle_hears_of_a_new_delivery(tmp_path: Path) -> None:
    def test(house: House, ca: str) -> None:
        with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
            imap.login(BOB, PASSWORD)
            imap.select("INBOX")
            imap.send(b"i IDLE\r\n")
            assert imap.readline().startswith(b"+")
            fill(house, 1)
            assert imap.readline().strip() == b"* 1 EXISTS"
            imap.send(b"DONE\r\n")
            while not imap.readline().startswith(b"i OK"):
                pass

    run(tmp_path, test)
