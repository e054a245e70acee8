"""The commands that change and show the store, and those about the configuration file."""

import contextlib
import email
import email.policy
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from posthouse import config
from posthouse.base.errors import AlreadyExists, NotFound, Permanent, PosthouseError
from posthouse.cli import config as config_command
from posthouse.cli import opening, output
from posthouse.cli import send as send_command
from posthouse.cli.main import app, leading
from tests.support.ports import free_port
from tests.support.program import command, environment, run

ALICE = "alice@example.org"


class Server:
    """A configuration with a store of its own, and commands upon it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "posthouse.toml"
        self.path.write_text("hostname = 'mail.example.org'\ndata = 'data'\n")

    def text(self, *arguments: str, given: str = "") -> str:
        """What a command prints. What it raises is raised."""
        result = CliRunner().invoke(
            app, ["--config", str(self.path), *arguments], input=given, env={"NO_COLOR": "1", "COLUMNS": "200"}
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str, given: str = "") -> Any:
        return json.loads(self.text(*arguments, "--json", given=given))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_from_nothing_to_an_account_with_aliases(server: Server) -> None:
    assert server.json("domain", "list") == []
    assert "posthouse domain add" in server.text("domain", "list")
    assert server.json("domain", "add", "Example.ORG")["domain"] == "example.org"
    made = server.json("account", "add", ALICE, "--name", "Alice")
    assert len(made["password"]) >= 16, "without a terminal a password is made up"
    assert server.json("account", "add", "bob@example.org", "--password-stdin", given="long enough\n") == {
        "ok": True,
        "account": "bob@example.org",
    }
    server.text("address", "add", "info@example.org", ALICE)
    server.text("address", "add", "@example.org", "bob@example.org")
    server.text("address", "add", "far@example.org", "someone@example.net")
    assert {(row["address"], row["leads_to"]) for row in server.json("address", "list")} == {
        (ALICE, ALICE),
        ("bob@example.org", "bob@example.org"),
        ("info@example.org", ALICE),
        ("@example.org", "bob@example.org"),
        ("far@example.org", "someone@example.net"),
    }
    assert [(row["account"], row["name"]) for row in server.json("account", "list")] == [
        (ALICE, "Alice"),
        ("bob@example.org", ""),
    ]
    server.text("address", "remove", "info@example.org")
    with pytest.raises(NotFound):
        server.text("address", "remove", "info@example.org")
    with pytest.raises(AlreadyExists):
        server.text("account", "add", ALICE, "--generate")
    with pytest.raises(Permanent, match="still has 2 accounts"):
        server.text("domain", "remove", "example.org")
    for who in (ALICE, "bob@example.org"):
        with pytest.raises(Permanent, match="--yes"):
            server.text("account", "remove", who)
        server.text("account", "remove", who, "--yes")
    assert server.json("domain", "remove", "example.org")["ok"]
    assert server.json("domain", "list") == []


def test_passwords(server: Server) -> None:
    server.text("domain", "add", "example.org")
    with pytest.raises(Permanent, match="at least 8 characters"):
        server.text("account", "add", ALICE, "--password-stdin", given="short\n")
    assert server.json("account", "list") == []
    server.text("account", "add", ALICE, "--password-stdin", given="long enough\n")
    with pytest.raises(Permanent, match="at least 8 characters"):
        server.text("account", "password", ALICE, "--password-stdin", given="\n")
    said = server.text("account", "password", ALICE, "--password-stdin", given="another one\n")
    assert "another one" not in said, "only what we made up is printed"
    with pytest.raises(NotFound):
        server.text("account", "password", "nobody@example.org", "--generate")


def test_tables_for_people(server: Server) -> None:
    server.text("domain", "add", "example.org")
    server.text("account", "add", ALICE)
    shown = server.text("account", "list")
    assert ALICE in shown
    assert "active" in shown
    assert "\x1b" not in shown
    assert server.text("queue", "list") == "The queue is empty.\n"
    assert server.json("queue", "list") == []


def test_an_encrypted_store(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.path.write_text(server.path.read_text() + "[storage]\nkey_env = 'STORE_KEY'\n")
    monkeypatch.setenv("STORE_KEY", "0123456789abcdef0123456789abcdef")
    server.text("domain", "add", "example.org")
    monkeypatch.setenv("STORE_KEY", "fedcba9876543210fedcba9876543210")
    with pytest.raises(PosthouseError):
        server.text("domain", "list")
    monkeypatch.delenv("STORE_KEY")
    with pytest.raises(Permanent, match=r"storage\.key_env"):
        server.text("domain", "list")


def test_without_a_server_there_is_nobody_to_tell(server: Server) -> None:
    assert not opening.tell(server.path.parent / "data", "refresh")


# The configuration file


def test_what_the_settings_point_to_is_looked_at(server: Server, tmp_path: Path) -> None:
    def problems(text: str) -> list[str]:
        server.path.write_text("hostname = 'mail.example.org'\n" + text)
        result = run("--config", str(server.path), "config", "check", "--json")
        assert result.returncode == 1
        return [f"{one['key']}: {one['text']}" for one in json.loads(result.stdout)["problems"]]

    assert problems("data = '/proc/posthouse'\n") == ["data: /proc is no place for files"] or os.geteuid() != 0
    elsewhere = "data = 'data'\n[[listen]]\nservice = 'smtp'\naddress = '192.0.2.77'\nport = 2525\n"
    assert problems(elsewhere) == ["listen: this machine has no address 192.0.2.77"]
    (one,) = problems("data = 'data'\n[[listen]]\nservice = 'smpt'\n")
    assert one.startswith('listen.service: "smpt" is not possible here')
    result = run("--config", str(tmp_path), "config", "check")
    assert f"{tmp_path}: is a folder, not a configuration file. Name the file in it" in result.stdout


def test_who_is_not_there_cannot_be_removed(server: Server) -> None:
    with pytest.raises(NotFound, match=r"no account nobody@example\.org"):
        server.text("account", "remove", "nobody@example.org")
    with pytest.raises(NotFound, match="posthouse domain list"):
        server.text("domain", "remove", "example.org")


def test_a_failure_of_our_own_is_not_put_into_the_mouth_of_a_server() -> None:
    here = ("send", "--server", f"127.0.0.1:{free_port()}", "--from", ALICE, "--no-login", "--tls", "none", ALICE)
    result = run(*here, "--text", "hello")
    assert result.returncode == 1
    assert result.stdout.startswith(f"not sent {ALICE}: ")
    (told,) = json.loads(run(*here, "--text", "hello", "--json").stdout)["recipients"]
    assert (told["ok"], told["replied"], told["code"]) == (False, False, 0)


def test_check(server: Server) -> None:
    assert "is good" in server.text("config", "check")
    assert server.json("config", "check") == {"ok": True, "file": str(server.path), "problems": []}
    server.path.write_text("hostname = 'mail.example.org'\ndata = 'data'\n[limits]\nmessage_sise = 3\n")
    result = run("--config", str(server.path), "config", "check")
    assert result.returncode == 1
    assert (
        f"{server.path}:4: limits.message_sise: there is no such setting. Did you mean `message_size`?" in result.stdout
    )
    result = run("--config", str(server.path), "config", "check", "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["problems"][0]["line"] == 4


def test_the_example_is_good_with_and_without_its_comments(tmp_path: Path) -> None:
    text = config_command.example_text()
    settings = config.parse(text, folder=tmp_path)
    assert settings.hostname == "mail.example.org"
    bare = re.sub(r"^#(?=[a-z_\[])", "", text, flags=re.MULTILINE)
    assert bare.count("\n[") >= 8
    bare = bare.replace('key_env = "POSTHOUSE_KEY"\n', "")  # one key, from one place
    bare = re.sub("^path = .*\n", "", bare, flags=re.MULTILINE)  # a port, or a socket
    bare = re.sub("^.*  # only with .*\n", "", bare, flags=re.MULTILINE)
    full = config.parse(bare, folder=tmp_path)
    assert full.limits == settings.limits
    assert full.queue.model_copy(update={"limit": ()}) == settings.queue
    assert full.relay.smarthost is not None


def test_example_and_reference_name_every_setting(server: Server) -> None:
    example, reference = config_command.example_text(), server.text("config", "reference")
    listed = {one["key"] for one in server.json("config", "reference")}
    for path, model in config.sections():
        for name, field in config.keys(model).items():
            key = ".".join((*path, name))
            if any(other == (*path, name) for other, _ in config.sections()):
                continue
            assert key in listed
            assert f"\n{key}" in f"\n{reference}"
            assert re.search(rf"^#?{name} = \S", example, re.MULTILINE), key
            assert (field.description or "-") in example


def test_types_and_defaults_of_the_reference(server: Server) -> None:
    rows = {one["key"]: (one["type"], one["default"]) for one in server.json("config", "reference")}
    assert rows["limits.message_size"] == ("size", '"50 MiB"')
    assert rows["limits.command_timeout"] == ("time", '"5 min"')
    assert rows["queue.retry"][0] == "list of times"
    assert rows["queue.retry"][1].startswith('["1 min", "3 min", ')
    assert rows["relay.networks"] == ("list of networks", "[]")
    assert rows["relay.capture"] == ("true | false", "false")
    assert rows["log.format"] == ("human | json", '"human"')
    assert rows["tls.certificate"] == ("path", "")
    assert rows["limits.errors"] == ("number", "20")


# The program


def test_errors_are_sentences_and_exit_codes(tmp_path: Path) -> None:
    result = run("domain", "list", folder=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: posthouse.toml: there is no such configuration file.")
    assert "Traceback" not in result.stderr
    assert run("domain", "list", "--config", str(tmp_path / "x.toml")).stderr.startswith(f"error: {tmp_path}/x.toml")
    result = run("domain", "list", env={"POSTHOUSE_CONFIG": str(tmp_path / "other.toml")})
    assert "other.toml" in result.stderr
    assert run("no-such-command").returncode == 2
    assert run("domain", "add").returncode == 2


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("domain list --config a.toml", "--config a.toml domain list"),
        ("domain --config=a.toml list --no-color", "--config=a.toml --no-color domain list"),
        ("send --text x -- --config", "send --text x -- --config"),
        ("serve --config", "--config serve"),
        ("", ""),
    ],
)
def test_the_general_options_may_stand_anywhere(given: str, taken: str) -> None:
    assert leading(given.split()) == taken.split()


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    for name in ("demo", "serve", "domain", "account", "address", "queue", "send", "config"):
        assert name in shown
    assert run("--version").stdout.startswith("posthouse ")


def test_help_imports_little() -> None:
    """`posthouse --help` must be quick: what takes long to import is imported by the commands that need it."""
    script = "import sys, posthouse.cli.main; print(*(name for name in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment()
    ).stdout.split()
    heavy = {"structlog", "cryptography", "dns", "apsw", "uvloop", "argon2", "rich.table", "posthouse.app"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize("arguments", ["domain list", "domain --help", "no-such-command", "domain add nodot", "serve"])
def test_without_colours_there_is_no_escape_sequence(server: Server, arguments: str) -> None:
    server.text("domain", "add", "example.org")
    (server.path.parent / "serving").write_text("[[listen]]\n")
    path = server.path if arguments != "serve" else server.path.parent / "serving"
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        coloured = {name: value for name, value in environment().items() if name != "NO_COLOR"} | {"TERM": "xterm"}
        line = command("--no-color", "--config", str(path), *arguments.split())
        subprocess.run(line, stdin=theirs, stdout=theirs, stderr=theirs, env=coloured, timeout=60, check=False)
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := screen.read(4096):
                seen += piece
    assert seen
    assert b"\x1b" not in seen


def test_a_broken_pipe_is_no_traceback() -> None:
    line = f"{sys.executable} -m posthouse config example | head -1"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=environment())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", ["domain list", "domain list --json", "config example"])
def test_output_that_cannot_be_written(server: Server, arguments: str) -> None:
    server.text("domain", "add", "example.org")
    line = f"{sys.executable} -m posthouse --config {server.path} {arguments} > /dev/full"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=environment())
    assert result.stderr == "error: the output could not be written: No space left on device\n"
    assert result.returncode == 1


@pytest.mark.parametrize("addresses", [("not an address",), (ALICE, "bob@"), ("a b@example.org",)])
def test_send_looks_at_the_addresses_before_it_asks_for_anything(server: Server, addresses: tuple[str, ...]) -> None:
    with pytest.raises(Permanent, match="is not an address"):
        server.text("send", "--from", ALICE, "--text", "x", *addresses)


def test_send_attaches_files(tmp_path: Path) -> None:
    picture, notes = tmp_path / "grün.png", tmp_path / "notes.txt.gz"
    picture.write_bytes(bytes(range(256)) * 9)
    notes.write_bytes(b"packed")
    attachments = [send_command._attachment(path) for path in (picture, notes)]
    raw = send_command._content(None, "See there.", ALICE, ["bob@example.org"], "two files", attachments)
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    text, first, second = message.iter_parts()
    assert text.get_content().strip() == "See there."
    assert (first.get_content_type(), first.get_filename()) == ("image/png", "grün.png")
    assert first.get_content() == picture.read_bytes()
    assert (second.get_content_type(), second.get_filename()) == ("application/octet-stream", "notes.txt.gz")
    assert second.get_content() == b"packed"
    with pytest.raises(Permanent, match="cannot be attached"):
        send_command._attachment(tmp_path / "nowhere")


@pytest.mark.parametrize(("width", "terminal"), [(80, True), (40, True), (30, True), (80, False)])
def test_what_is_to_be_copied_stays_whole(width: int, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    screen = Console(file=drawn, width=width, force_terminal=terminal, no_color=True, highlight=False)
    monkeypatch.setattr(output, "console", lambda _options: screen)
    said = "450 4.2.0 " + "greylisted, come back later " * 8
    row = ("0ABCDEFGHJKMN", "2026-01-02 03:04:05", "somebody.with.a.long.name@example.org", said)
    output.show(output.Options(), False, ("Id", "Since", "Sender", "Last reply"), [row], "", folded=("Last reply",))
    lines = drawn.getvalue().splitlines()
    for cell in row[:3]:
        assert any(cell in line for line in lines)
    assert (len(lines) > 2) == terminal, "texts are folded for people only"
    assert "".join(" ".join(lines).split()).count("greylisted") == 8


def test_a_ca_that_cannot_be_used_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for name, why in (("missing.pem", "No such file"), ("no.pem", "no PEM certificate")):
        with pytest.raises(Permanent, match=why) as raised:
            server.text(
                "send", "--server", "127.0.0.1:1", "--ca", str(tmp_path / name), "--from", ALICE, "--text", "x",
                "--password-stdin", "bob@example.org", given="x\n",
            )  # fmt: skip
        assert name in str(raised.value)


def test_an_alias_does_not_lead_to_nobody_beside_somebody(server: Server) -> None:
    server.text("domain", "add", "example.org")
    server.text("account", "add", ALICE, "--generate")
    server.text("address", "add", "info@example.org", ALICE)
    with pytest.raises(Permanent, match="nobody's address here: add that account or alias first"):
        server.text("address", "add", "info@example.org", "nobody@example.org")
    assert len(server.json("address", "list")) == 2


def test_quotas_of_accounts(server: Server) -> None:
    server.text("domain", "add", "example.org")
    assert server.text("account", "quota") == "No accounts yet.\n"
    server.text("account", "add", ALICE, "--generate")
    usual = {"account": ALICE, "octets": 0, "octets_limit": 0, "messages": 0, "messages_limit": 0}
    assert server.json("account", "quota") == [usual]
    limited = usual | {"octets_limit": 5_000_000_000, "messages_limit": 1000}
    assert server.json("account", "quota", ALICE, "--storage", "5GB", "--messages", "1000") == [limited]
    assert "5 GB" in server.text("account", "quota", ALICE)
    assert server.json("account", "quota", ALICE, "--storage", "none") == [limited | {"octets_limit": 0}]
    server.path.write_text(server.path.read_text() + "[limits]\nquota_storage = '1 MiB'\n")
    assert server.json("account", "quota")[0]["octets_limit"] == 0
    assert server.json("account", "quota", ALICE, "--storage", "default", "--messages", "none")[0] == usual | {
        "octets_limit": 1 << 20
    }
    for wrong in (
        ("quota", "--storage", "1GB"),
        ("quota", ALICE, "--storage", "0"),
        ("quota", ALICE, "--storage", "much"),
        ("quota", ALICE, "--messages", "-1"),
        ("quota", ALICE, "--messages", "many"),
        ("quota", "bob@example.org"),
    ):
        with pytest.raises(PosthouseError):
            server.text("account", *wrong)


def test_mailboxes_are_shared_by_the_command(server: Server) -> None:
    server.text("domain", "add", "example.org")
    for name in (ALICE, "bob@example.org"):
        server.text("account", "add", name, "--generate")
    rows = server.json("mailbox", "list", ALICE)
    assert [row["mailbox"] for row in rows] == ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]
    assert server.text("mailbox", "acl", ALICE, "INBOX") == "Nobody but the owner.\n"
    shared = [{"account": "bob@example.org", "rights": "lrs"}]
    assert server.json("mailbox", "acl", ALICE, "inbox", "bob@example.org", "read") == shared
    everybody = {"account": "anyone", "rights": "lrswite"}
    assert server.json("mailbox", "acl", ALICE, "INBOX", "anyone", "write") == [*shared, everybody]
    assert server.json("mailbox", "acl", ALICE, "INBOX", "bob@example.org", "lrcd")[0]["rights"] == "lrkxte"
    assert "bob@example.org lrkxte, anyone lrswite" in server.text("mailbox", "list", ALICE)
    assert server.json("mailbox", "acl", ALICE, "INBOX", "bob@example.org", "none") == [everybody]
    for wrong in (
        ("INBOX", "bob@example.org"),
        ("INBOX", "bob@example.org", "everything"),
        ("INBOX", "carol@example.org", "read"),
        ("INBOX", ALICE, "read"),
        ("Nowhere",),
    ):
        with pytest.raises(PosthouseError):
            server.text("mailbox", "acl", ALICE, *wrong)
