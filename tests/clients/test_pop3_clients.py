"""Programs that fetch over POP3, against the whole server: getmail, mpop, fetchmail, curl, poplib.

Each downloads and deletes, and each that can leaves mail on the server and fetches only what is new the next time.
Which of them are missing, and what follows, is tests/support/clients.py.
"""

import poplib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.test_clients import BOB, call, fill, run
from tests.support.clients import client
from tests.support.house import PASSWORD, House


def fetched(folder: Path) -> int:
    return sum(1 for sub in ("new", "cur") if (folder / sub).is_dir() for _ in (folder / sub).iterdir())


def maildir(folder: Path) -> Path:
    for name in ("new", "cur", "tmp"):
        (folder / name).mkdir(parents=True)
    return folder


def left(house: House) -> int:
    """How many messages bob has; nobody else is in there."""
    pop = poplib.POP3("127.0.0.1", house.ports["pop3"])
    pop.user(BOB)
    pop.pass_(PASSWORD)
    count = pop.stat()[0]
    pop.quit()
    return count


def both_ways(house: House, fetch: Callable[[bool], object], count: Callable[[], int]) -> None:
    """Leave on the server: only what is new comes the next time. Then download and delete."""
    fill(house, 30)
    fetch(True)
    assert (count(), left(house)) == (30, 30)
    fetch(True)
    assert (count(), left(house)) == (30, 30)
    fill(house, 5)
    fetch(True)
    assert (count(), left(house)) == (35, 35)
    fill(house, 1)
    fetch(False)
    assert (count(), left(house)) == (36, 0)


def test_getmail(tmp_path: Path) -> None:
    getmail = client("getmail")
    inbox = maildir(tmp_path / "mail")

    def test(house: House, ca: str) -> None:
        def fetch(keep: bool) -> None:
            (tmp_path / "getmailrc").write_text(
                f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = localhost\nport = {house.ports['pop3s']}\n"
                f"username = {BOB}\npassword = {PASSWORD}\nca_certs = {ca}\n"
                # Its own maildirs are not for root, who may run these tests.
                "[destination]\ntype = MDA_external\npath = /bin/sh\nallow_root_commands = true\n"
                f"arguments = ('-c', 'cat > $(mktemp {inbox}/new/XXXXXXXX)')\n"
                f"[options]\ndelete = {'false' if keep else 'true'}\nread_all = false\ndelivered_to = false\n"
            )
            call("env", f"HOME={tmp_path}", getmail, f"--getmaildir={tmp_path}", "--rcfile=getmailrc")

        both_ways(house, fetch, lambda: fetched(inbox))
        one = next((inbox / "new").iterdir()).read_bytes()
        assert b"Message-ID: <" in one

    run(tmp_path, test)


def test_mpop(tmp_path: Path) -> None:
    mpop = client("mpop")

    def test(house: House, ca: str) -> None:
        for auth in ("user", "plain", "scram-sha-256"):
            inbox = maildir(tmp_path / auth)

            def fetch(keep: bool, auth: str = auth, inbox: Path = inbox) -> None:
                rc = tmp_path / "mpoprc"
                rc.write_text(
                    f"account house\nhost localhost\nport {house.ports['pop3']}\ntls on\ntls_starttls on\n"
                    f"tls_trust_file {ca}\nuser {BOB}\npassword {PASSWORD}\nauth {auth}\ndelivery maildir {inbox}\n"
                    f"keep {'on' if keep else 'off'}\nuidls_file {tmp_path}/uidls-{auth}\naccount default : house\n"
                )
                rc.chmod(0o600)
                call("env", f"HOME={tmp_path}", mpop, "-C", str(rc))

            both_ways(house, fetch, lambda inbox=inbox: fetched(inbox))  # type: ignore[misc]
            # A filter by header fields: TOP, and then only what it lets through.
            fill(house, 4)
            rc = tmp_path / "mpoprc"
            rc.write_text(rc.read_text() + "filter if grep -q 'Subject: number 2'; then exit 1; else exit 0; fi\n")
            call("env", f"HOME={tmp_path}", mpop, "-C", str(rc))
            assert (fetched(inbox), left(house)) == (39, 0)

    run(tmp_path, test)


def test_mpop_knows_what_the_server_can(tmp_path: Path) -> None:
    mpop = client("mpop")

    def test(house: House, ca: str) -> None:
        said = call(
            mpop, "--host=localhost", f"--port={house.ports['pop3s']}", "--serverinfo", "--tls=on",
            "--tls-starttls=off", f"--tls-trust-file={ca}",
        )  # fmt: skip
        for what in ("CAPA", "PIPELINING", "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE", "PLAIN"):
            assert what in said
        assert "Posthouse" in said

    run(tmp_path, test)


def test_fetchmail_leaves_on_the_server(tmp_path: Path) -> None:
    fetchmail = client("fetchmail")
    taken = tmp_path / "taken"
    taken.touch()

    def test(house: House, ca: str) -> None:
        def fetch(keep: bool) -> None:
            rc = tmp_path / "fetchmailrc"
            rc.write_text(
                f'poll localhost protocol pop3 uidl port {house.ports["pop3"]} user "{BOB}" password "{PASSWORD}" '
                f'sslproto "TLS1.2+" sslcertck sslcertfile "{ca}" {"keep" if keep else "nokeep"} '
                f'mda "cat >> {taken}"\n'
            )
            rc.chmod(0o700)
            env = ["env", f"HOME={tmp_path}", f"FETCHMAILHOME={tmp_path}"]
            command = [
                *env,
                fetchmail,
                "-f",
                str(rc),
                "--nosyslog",
                "-i",
                str(tmp_path / "ids"),
                *(["-a"] * (not keep)),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: there was nothing new

        def count() -> int:
            return taken.read_bytes().count(b"Subject: number")

        fill(house, 30)
        fetch(keep=True)
        assert (count(), left(house)) == (30, 30)
        fetch(keep=True)
        assert (count(), left(house)) == (30, 30)
        fill(house, 3)
        fetch(keep=True)
        assert (count(), left(house)) == (33, 33)
        fetch(keep=False)
        assert left(house) == 0

    run(tmp_path, test)


def test_curl_lists_reads_and_deletes(tmp_path: Path) -> None:
    curl = client("curl")

    def test(house: House, ca: str) -> None:
        fill(house, 3)
        base = [curl, "-sS", "--cacert", ca, "--user", f"{BOB}:{PASSWORD}"]
        for url in (f"pop3s://localhost:{house.ports['pop3s']}/", f"pop3://localhost:{house.ports['pop3']}/"):
            reached = [*base, "--ssl-reqd"]
            assert len(call(*reached, url).split()) == 6  # number and size of each
            uidl = call(*reached, url, "-X", "UIDL").split()
            assert len(set(uidl[1::2])) == 3
            assert "body 1" in call(*reached, url + "2")
            assert "Subject: number 2" in call(*reached, url, "-X", "TOP 3 0")
            assert "SASL" in call(*reached, url, "-X", "CAPA")
        for mechanism in ("PLAIN", "LOGIN"):
            options = [*base, "--ssl-reqd", "--login-options", f"AUTH={mechanism}"]
            call(*options, f"pop3://localhost:{house.ports['pop3']}/1")
        call(*base, f"pop3s://localhost:{house.ports['pop3s']}/2", "-l", "-X", "DELE")
        assert left(house) == 2

    run(tmp_path, test)


def test_poplib_does_all_it_can(tmp_path: Path) -> None:
    def test(house: House, ca: str) -> None:
        fill(house, 3)
        pop = poplib.POP3("localhost", house.ports["pop3"])
        assert {"TOP", "UIDL", "STLS", "UTF8", "LANG", "EXPIRE"} <= set(pop.capa())
        pop.stls(house.context)
        pop.utf8()
        pop.user(BOB)
        pop.pass_(PASSWORD)
        assert pop.stat()[0] == 3
        assert len(pop.list()[1]) == len(pop.uidl()[1]) == 3
        assert b"Subject: number 1" in pop.top(2, 0)[1]
        assert b"body 2" in pop.retr(3)[1]
        pop.dele(1)
        pop.rset()
        pop.dele(2)
        pop.noop()
        pop.quit()
        assert left(house) == 2

    run(tmp_path, test)


def test_two_programs_at_once(tmp_path: Path) -> None:
    """The second hears that the first has the mailbox, and loses nothing."""

    def test(house: House, ca: str) -> None:
        fill(house, 3)
        first, second = (poplib.POP3("localhost", house.ports["pop3"]) for _ in range(2))
        first.user(BOB)
        first.pass_(PASSWORD)
        second.user(BOB)
        with pytest.raises(poplib.error_proto, match=r"-ERR \[IN-USE\]"):
            second.pass_(PASSWORD)
        first.dele(1)
        first.quit()
        second.user(BOB)
        second.pass_(PASSWORD)
        assert second.stat()[0] == 2
        second.quit()

    run(tmp_path, test)
