"""`posthouse demo`, run as people run it: it proves itself, serves, stops, and is taken up again."""

import imaplib
import json
import poplib
import signal
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.cli import demo as demo_module
from posthouse.cli.demo_screen import lines_to_copy
from posthouse.cli.proof import Person
from posthouse.config import load
from tests.support.clients import client
from tests.support.ports import free_offset
from tests.support.program import Demo, command, environment, run

ALICE, BOB = "alice@posthouse.test", "bob@posthouse.test"
SERVICES = {"smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    running = Demo("--port-offset", str(free_offset()), "--dir", str(folder), "--account", "alice:a:b", "--account",
                   "bob:hunter2")  # fmt: skip
    try:
        yield running
    finally:
        code, out, err = running.stop(signal.SIGINT)
        assert (code, out, err) == (0, "", ""), "quiet means quiet, and Ctrl-C is a good end"


def context(demo: Demo) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=demo.facts["ca"])


def send(demo: Demo, sender: str, recipient: str, text: str) -> None:
    with smtplib.SMTP_SSL("localhost", demo.ports["submissions"], context=context(demo), timeout=10) as smtp:
        smtp.login(sender, demo.facts["accounts"][sender])
        smtp.sendmail(sender, [recipient], f"Subject: {text}\r\n\r\n{text}\r\n")


def imap(demo: Demo, who: str, password: str = "") -> imaplib.IMAP4_SSL:
    box = imaplib.IMAP4_SSL("127.0.0.1", demo.ports["imaps"], ssl_context=context(demo), timeout=10)
    try:
        box.login(who, password or demo.facts["accounts"][who])
    except imaplib.IMAP4.error:
        box.shutdown()
        raise
    box.select("INBOX")
    return box


def test_the_json_line_says_everything(demo: Demo) -> None:
    facts = demo.facts
    offset = facts["ports"]["smtp"] - 25
    assert facts["ports"] == {service: port + offset for service, port in SERVICES.items()}
    assert facts["host"] == "127.0.0.1"
    assert facts["accounts"] == {ALICE: "a:b", BOB: "hunter2"}
    assert facts["pid"] == demo.process.pid
    assert Path(facts["ca"]).is_file()
    assert Path(facts["dir"]).is_dir()


def test_its_configuration_is_one_that_serve_takes(demo: Demo) -> None:
    settings = load(demo.folder / "posthouse.toml")
    assert settings.relay.capture
    assert settings.dns.only_zone
    result = run("--config", str(demo.folder / "posthouse.toml"), "config", "check")
    assert result.returncode == 0, result.stdout


def test_the_proof_is_in_the_mailbox(demo: Demo) -> None:
    with imap(demo, BOB) as box:
        assert box.search(None, "SUBJECT", '"Posthouse works"')[1] != [b""]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
@pytest.mark.parametrize("service", ["submissions", "imaps", "pop3s"])
def test_the_certificate_names_every_way_to_it(demo: Demo, host: str, service: str) -> None:
    try:
        plain = socket.create_connection((host, demo.ports[service]), timeout=10)
    except OSError:
        if host == "::1":
            pytest.skip("no IPv6 here")
        raise
    with plain, context(demo).wrap_socket(plain, server_hostname=host) as secure:
        assert secure.version() == "TLSv1.3"


def test_mail_programs_work_without_tls_too(demo: Demo) -> None:
    """On loopback only: a first try with a simple client must not fail for want of a certificate."""
    with smtplib.SMTP("127.0.0.1", demo.ports["smtp"], timeout=10) as smtp:
        smtp.sendmail("someone@example.org", [ALICE], "Subject: from elsewhere\r\n\r\nhello\r\n")
    pop = poplib.POP3("127.0.0.1", demo.ports["pop3"], timeout=10)
    pop.user("alice")
    pop.pass_("a:b")
    assert pop.stat()[0] >= 1
    pop.quit()
    box = imaplib.IMAP4("127.0.0.1", demo.ports["imap"], timeout=10)
    box.login("bob", "hunter2")
    box.logout()


def test_mail_to_elsewhere_is_captured(demo: Demo) -> None:
    with imap(demo, ALICE) as box:  # a connection to wait on for nothing in particular
        send(demo, ALICE, "somebody@example.com", "for elsewhere")
        captured = demo.folder / "data" / "captured"
        while not any(b"for elsewhere" in path.read_bytes() for path in captured.glob("*.eml")):
            box.noop()
    with smtplib.SMTP("127.0.0.1", demo.ports["smtp"], timeout=10) as smtp:
        assert smtp.sendmail("a@example.org", [ALICE], "Subject: x\r\n\r\nx\r\n") == {}
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\nx\r\n")


def test_commands_work_beside_it(demo: Demo) -> None:
    """The running server learns of a new account and a new password at once."""
    configuration = ("--config", str(demo.folder / "posthouse.toml"))
    made = run(*configuration, "account", "add", "carol@posthouse.test", "--generate", "--json")
    assert made.returncode == 0, made.stderr
    with imap(demo, "carol@posthouse.test", json.loads(made.stdout)["password"]):
        pass
    changed = run(
        *configuration, "account", "password", "carol@posthouse.test", "--password-stdin", text="another-one\n"
    )
    assert changed.returncode == 0, changed.stderr
    with pytest.raises(imaplib.IMAP4.error):
        imap(demo, "carol@posthouse.test", json.loads(made.stdout)["password"])
    with imap(demo, "carol@posthouse.test", "another-one"):
        pass


def test_send(demo: Demo) -> None:
    arguments = ("--config", str(demo.folder / "posthouse.toml"), "send", "--from", ALICE, "--subject", "Grüße")
    sent = run(*arguments, "--verbose", "--text", "Hallo", BOB, env={"POSTHOUSE_PASSWORD": "a:b"})
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert f"taken   {BOB}: 250 2.0.0" in sent.stdout
    assert "a:b" not in sent.stdout
    with imap(demo, BOB) as box:
        assert box.search("UTF-8", "TEXT", '"Hallo"')[1] != [b""]
    refused = run(*arguments, "--json", "--password-stdin", BOB, "nobody@posthouse.test", text="a:b\ntext\n")
    assert refused.returncode == 1
    facts = json.loads(refused.stdout)
    assert [(one["ok"], one["code"]) for one in facts["recipients"]] == [(True, 250), (False, 550)]
    wrong = run(*arguments, "--text", "x", BOB, env={"POSTHOUSE_PASSWORD": "wrong"})
    assert wrong.returncode == 1
    assert "refused our login" in wrong.stdout


def test_taken_ports_are_named(demo: Demo, tmp_path: Path) -> None:
    offset = demo.ports["smtp"] - 25
    result = run("demo", "--port-offset", str(offset), "--dir", str(tmp_path / "other"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert f"{offset + 25} (smtp)" in result.stderr
    assert "posthouse demo --port-offset" in result.stderr
    assert not (tmp_path / "other").exists(), "nothing is written before it is known that it can work"


def test_a_folder_is_served_once(demo: Demo) -> None:
    result = run("demo", "--check", "--port-offset", str(free_offset()), "--dir", str(demo.folder))
    assert result.returncode == 1
    assert f"already (process {demo.process.pid})" in result.stderr


@pytest.mark.parametrize(
    "title", ["Send with Posthouse", "Send with curl", "Read with curl", "Send with swaks", "Both with Python"]
)
def test_lines_to_copy_work(demo: Demo, title: str) -> None:
    people = [Person(address, password) for address, password in demo.facts["accounts"].items()]
    line = lines_to_copy(demo.facts, people)[title]
    program = title.split()[-1].lower().replace("python", "python3")
    if program != "posthouse":  # ours is there, on the PATH or not
        client(program)
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr


def test_check_tells_and_cleans_up(tmp_path: Path) -> None:
    result = run("demo", "--check", "--port-offset", str(free_offset()), env={"TMPDIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    for said in (
        "STARTTLS",
        "TLSv1.3",
        "RCPT TO:<bob@posthouse.test>",
        "UID SEARCH",
        "+OK",
        "byte for byte",
        "It works.",
    ):
        assert said in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_is_taken_up_again_with_its_mail(tmp_path: Path) -> None:
    offset = str(free_offset())
    first = Demo("--port-offset", offset, "--dir", str(tmp_path))
    send(first, ALICE, BOB, "keep me")
    assert first.stop(signal.SIGTERM)[0] == 0
    again = Demo("--port-offset", offset, "--dir", str(tmp_path), "--account", "carol:c")
    try:
        assert again.facts["ca"] == first.facts["ca"]
        assert again.facts["accounts"] == {"carol@posthouse.test": "c", **first.facts["accounts"]}
        with imap(again, BOB) as box:
            assert box.search(None, "SUBJECT", '"keep me"')[1] != [b""]
    finally:
        assert again.stop(signal.SIGINT)[0] == 0


def test_the_screen(tmp_path: Path) -> None:
    """What a person sees, with the server still running."""
    offset = free_offset()
    arguments = ("demo", "--port-offset", str(offset), "--dir", str(tmp_path / "it"))
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        seen = ""
        while "Ctrl-C stops" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGINT)
        seen += process.stdout.read()
    assert process.returncode == 0
    kept = json.loads((tmp_path / "it" / "accounts.json").read_text())
    for said in (ALICE, *kept.values(), f"127.0.0.1:{offset + 993}", "ca.pem", "swaks --server", "curl --cacert"):
        assert said in seen
    assert f"posthouse demo --port-offset {offset} --dir {tmp_path / 'it'}" in seen
    assert (tmp_path / "it" / "accounts.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--account", "carol"), "NAME:PASSWORD"),
        (("--account", "carol@example.org:x"), "NAME:PASSWORD"),
        (("--account", "carol:"), "at least one"),
        (("--account", "carol:pässword"), "ASCII"),
        (("--port-offset", "63000000"), "--port-offset"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], said: str) -> None:
    result = run("demo", *arguments)
    assert result.returncode == 2
    assert said in result.stderr


def test_a_configuration_that_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "posthouse.toml").write_text("hostname = 'mine.example'\n")
    result = run("demo", "--check", "--port-offset", str(free_offset()), "--dir", str(tmp_path))
    assert result.returncode == 1
    assert "is not a demo's" in result.stderr
    assert (tmp_path / "posthouse.toml").read_text() == "hostname = 'mine.example'\n"
    assert demo_module.MARK


def test_a_proof_that_fails_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is broken must not look well: here its disk is full by configuration."""
    monkeypatch.setattr(demo_module, "CONFIGURATION", demo_module.CONFIGURATION.replace('"16 MiB"', '"1000 TiB"'))
    offset = free_offset()
    run_ = demo_module._Run(
        tmp_path,
        {service: port + offset for service, port in SERVICES.items()},
        ["127.0.0.1"],
        [],
        0.0,
        check=True,
        quiet=True,
        no_color=True,
    )
    run_.serve()
    assert "452" in run_.failure
