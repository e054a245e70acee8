"""`posthouse doctor`: each check finds what is right and what is wrong, in bounded time, asking only the resolver."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from posthouse import config
from posthouse.base.clock import SystemClock
from posthouse.base.ids import IdSource
from posthouse.base.settings import Settings
from posthouse.cli import doctor
from posthouse.cli.doctor import Around, Seen, examine
from posthouse.cli.main import app
from posthouse.cli.resolver import name_server
from posthouse.net.dns import SystemResolver
from posthouse.servers.admin import Action, AdminSocket
from posthouse.store import accounts, dkim_keys, events, outbox, pauses
from posthouse.store.database import Tx
from posthouse.store.dkim_keys import DkimKey
from posthouse.store.outbox import NewMessage
from posthouse.store.sqlite import SqliteDatabase
from tests.queue.site import To
from tests.support.certificates import NOW, Pair, issue, root
from tests.support.loop import on_loop
from tests.support.nameserver import NameServer, Table
from tests.support.signing import new_keys, table
from tests.support.store import put_blob

HOUR = 3600 * 1_000_000
NAME = "mail.example.test"
GOOD: Table = {
    (f"{NAME}.", "A"): ["127.0.0.1"],
    ("iana.org.", "A"): ["SECURE", "192.0.2.1"],
    ("dnssec-failed.org.", "A"): "SERVFAIL",
}


def settings_of(folder: Path, **options: Any) -> Settings:
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    listen = [{"service": "imap", "address": "127.0.0.1", "port": 1143}]
    return Settings.model_validate({"hostname": NAME, "data": data, "listen": listen, **options})


@asynccontextmanager
async def around(
    settings: Settings, table: Table | None = None, *, validating: bool | None = None, now: int = NOW
) -> AsyncIterator[Around]:
    server = NameServer(GOOD if table is None else table)
    port = await server.start()
    system = SystemResolver(SystemClock(), ["127.0.0.1"], port=port, timeout=0.2, validating=validating)
    try:
        yield Around(settings, system, system, now, lambda: True)
    finally:
        await server.stop()


async def seen(check: str, settings: Settings, table: Table | None = None, **options: Any) -> Seen:
    async with around(settings, table, **options) as here:
        return await doctor.CHECKS[check](here)


async def with_store(settings: Settings, work: Any) -> None:
    database = await SqliteDatabase.open(settings.data, NOW)
    try:
        await database.write(work)
    finally:
        await database.close()


def files(folder: Path, pair: Pair) -> dict[str, Path]:
    """A certificate and its key as settings want them."""
    folder.joinpath("c.pem").write_bytes(pair.certificate.public_bytes(serialization.Encoding.PEM))
    folder.joinpath("k.pem").write_bytes(
        pair.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    folder.joinpath("k.pem").chmod(0o600)
    return {"certificate": folder / "c.pem", "key": folder / "k.pem"}


@on_loop
async def test_all_is_well(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, tls=files(tmp_path, issue(NAME, root())))
    await with_store(settings, lambda tx: None)
    admin = AdminSocket(settings.data / "admin.sock", {})
    await admin.open()
    async with around(settings) as here:
        found = dict(await examine(here))
    await admin.close()
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(doctor.CHECKS, "ok") | {
        "reverse name": "untested",  # 127.0.0.1 is nobody's
        "port 25": "untested",
        "certificate": "warn",
    }
    assert "in 9 days" in found["certificate"].says or "in 10 days" in found["certificate"].says
    assert "DANE is on" in found["DNSSEC"].says


# The DNS


@pytest.mark.parametrize(
    ("change", "validating", "state", "words"),
    [
        ({}, None, "ok", "DANE is on"),
        ({}, False, "warn", "DANE is off: the resolver validates, but its answers could be changed"),
        ({("iana.org.", "A"): ["192.0.2.1"]}, None, "warn", "DANE is off: the resolver is not known to validate"),
        ({("iana.org.", "A"): "SERVFAIL"}, None, "warn", "DANE is off: the resolver is not known to validate"),
        ({("dnssec-failed.org.", "A"): ["192.0.2.1"]}, None, "fail", "says that it validates, and does not"),
        ({("dnssec-failed.org.", "A"): "SILENCE"}, True, "warn", "DANE is on: iana.org is marked as validated; no"),
    ],
)
@on_loop
async def test_dnssec(tmp_path: Path, change: Table, validating: bool | None, state: str, words: str) -> None:
    found = await seen("DNSSEC", settings_of(tmp_path), GOOD | change, validating=validating)
    assert found.state == state
    assert words in found.says


@on_loop
async def test_dane_may_be_off_on_purpose(tmp_path: Path) -> None:
    found = await seen("DNSSEC", settings_of(tmp_path, transport_security={"dane": False}))
    assert found == Seen("ok", "DANE is off, as transport_security.dane says")


@pytest.mark.parametrize(("answer", "state"), [(["192.0.2.1"], "ok"), ("NXDOMAIN", "ok"), ("SERVFAIL", "fail")])
@on_loop
async def test_the_resolver(tmp_path: Path, answer: Any, state: str) -> None:
    assert (await seen("resolver", settings_of(tmp_path), {(f"{NAME}.", "A"): answer})).state == state


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (["127.0.0.1"], "ok", "is 127.0.0.1"),
        (["192.0.2.1"], "warn", "which this machine has not"),
        ("NXDOMAIN", "fail", "has no address"),
        ([], "fail", "has no address"),
        ("SERVFAIL", "untested", "gave no answer"),
    ],
)
@on_loop
async def test_the_host_name(tmp_path: Path, answer: Any, state: str, words: str) -> None:
    found = await seen("host name", settings_of(tmp_path), {(f"{NAME}.", "A"): answer})
    assert found.state == state
    assert words in found.says


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        ([f"{NAME}."], "ok", f"9.9.9.9: {NAME}"),
        (["other.test."], "warn", "9.9.9.9 is called other.test"),
        ("NXDOMAIN", "warn", "9.9.9.9 has no name"),
        ("SERVFAIL", "untested", "gave no answer"),
    ],
)
@on_loop
async def test_the_reverse_name(tmp_path: Path, answer: Any, state: str, words: str) -> None:
    table: Table = {(f"{NAME}.", "A"): ["9.9.9.9"], ("9.9.9.9.in-addr.arpa.", "PTR"): answer}
    found = await seen("reverse name", settings_of(tmp_path), table)
    assert found.state == state
    assert words in found.says


@on_loop
async def test_a_bounded_number_of_names_is_asked_for(tmp_path: Path) -> None:
    table: Table = {(f"{NAME}.", "A"): [f"9.9.9.{n}" for n in range(1, 30)]}
    found = await seen("reverse name", settings_of(tmp_path), table)
    assert found.says.count("has no name") == doctor.MOST_ADDRESSES


@on_loop
async def test_a_resolver_that_is_silent_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    questions = [(f"{NAME}.", "A"), (f"{NAME}.", "AAAA"), ("iana.org.", "A")]
    async with around(settings, dict.fromkeys(questions, "SILENCE")) as here:
        assert here.system is not None
        here.system._timeout = 1000.0
        found = dict(await examine(here, 0.05))
    for check in ("resolver", "DNSSEC", "host name", "reverse name"):
        assert found[check].state == "fail"
        assert "no result within 0.05 s" in found[check].says
    assert found["configuration"].state != "fail"


# Files


@pytest.mark.parametrize(
    ("pair", "state", "words"),
    [
        (issue(NAME, root()), "warn", "ends on"),  # ten days are few
        (issue(NAME, root(), expired=True), "fail", "ended on"),
        (issue("x.test", root()), "fail", f"is for x.test, not for {NAME}"),
    ],
)
@on_loop
async def test_the_certificate(tmp_path: Path, pair: Pair, state: str, words: str) -> None:
    found = await seen("certificate", settings_of(tmp_path, tls=files(tmp_path, pair)))
    assert found.state == state
    assert words in found.says


@on_loop
async def test_the_certificate_that_ends_first_counts(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    named = files(tmp_path / "other", issue("x.test", root(), expired=True))
    tls = files(tmp_path, issue(NAME, root())) | {"named": [{"names": ["x.test"], **named}]}
    found = await seen("certificate", settings_of(tmp_path, tls=tls))
    assert found.state == "fail"
    assert "other/c.pem ended on" in found.says
    later = files(tmp_path / "other", issue("x.test", root()))
    tls = files(tmp_path, issue(NAME, root())) | {"named": [{"names": ["x.test"], **later}]}
    assert (await seen("certificate", settings_of(tmp_path, tls=tls), now=NOW - 200 * 24 * HOUR)).state == "ok"


@on_loop
async def test_a_self_made_certificate(tmp_path: Path) -> None:
    from posthouse.net.tls import self_made

    settings = settings_of(tmp_path)
    assert "none yet" in (await seen("certificate", settings)).says
    self_made(settings.data / "tls", [NAME])
    found = await seen("certificate", settings)
    assert found.state == "warn"
    assert "self-made" in found.says


@pytest.mark.parametrize(("part", "state"), [(100, "ok"), (2, "warn"), (0.5, "fail")])
@on_loop
async def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float, state: str) -> None:
    settings = settings_of(tmp_path)
    usage = type("Usage", (), {"free": int(settings.storage.reserve * part)})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert (await seen("disk", settings)).state == state


@on_loop
async def test_the_data_folder(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert (await seen("data folder", settings)).state == "ok"
    settings.data.chmod(0o755)
    assert (await seen("data folder", settings)).state == "warn"
    settings.data.chmod(0o700)
    key = settings.data / "tls" / "server.key"
    key.parent.mkdir()
    key.write_text("secret")
    key.chmod(0o640)
    found = await seen("data folder", settings)
    assert found.state == "fail"
    assert f"chmod go= {key}" in found.cure
    key.chmod(stat.S_IRUSR)
    assert (await seen("data folder", settings)).state == "ok"
    none = settings.model_copy(update={"data": tmp_path / "none"})
    assert (await seen("data folder", none)).state == "warn"
    assert (await seen("data folder", none.model_copy(update={"data": key}))).state == "fail"


@on_loop
async def test_a_data_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: os.stat(settings.data).st_uid + 1)
    assert (await seen("data folder", settings)).state == "fail"


# The server


@on_loop
async def test_the_queue(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert (await seen("queue", settings)).state == "untested"

    def add(tx: Tx, number: int, age: int, destination: str, due: int = 0) -> None:
        blob_id = put_blob(tx, b"x%d" % number)
        message = NewMessage(number, "a@b.test", None, blob_id, b"", 1, NOW - age, NOW + HOUR, 0, "", due)
        outbox.add(tx, message, [To(f"x{number}@{destination}", destination)])

    def fresh(tx: Tx) -> None:
        add(tx, 1, HOUR, "young.test")
        add(tx, 2, 9 * HOUR, "later.test", NOW + HOUR)  # held until then by its sender
        add(tx, 3, 9 * HOUR, "held.test")
        tx.run("UPDATE recipient SET state = 'held' WHERE queue_id = 3")

    await with_store(settings, fresh)
    found = await seen("queue", settings)
    assert (found.state, found.says) == (
        "ok",
        "3 messages; recipients: 1 due, 1 to be tried again, 0 under way, 1 held",
    )

    await with_store(settings, lambda tx: pauses.pause(tx, "a.test", NOW - HOUR, NOW - 1))
    await with_store(settings, lambda tx: pauses.pause(tx, "*", NOW))
    found = await seen("queue", settings)
    assert (found.state, found.says.partition(". ")[2]) == ("warn", "Paused: everything"), "one is over"
    assert "pause --list" in found.cure
    await with_store(settings, lambda tx: pauses.resume(tx, "*"))

    def old(tx: Tx) -> None:
        for number in range(4, 10):
            add(tx, number, 5 * HOUR, f"d{number // 2}.test")

    await with_store(settings, old)
    found = await seen("queue", settings)
    assert found.state == "warn"
    assert found.says.endswith("6 wait for more than 4 h: d2.test (2), d3.test (2), d4.test (2)")


@on_loop
async def test_the_clock(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert (await seen("clock", settings)).state == "ok"
    assert (await seen("clock", settings, now=HOUR)).state == "fail"
    await with_store(settings, lambda tx: events.add(tx, IdSource().next(NOW), 1, "accepted", {}))
    assert (await seen("clock", settings)).state == "ok"
    assert (await seen("clock", settings, now=NOW - HOUR)).state == "fail"
    async with around(settings) as here:
        assert (await doctor.clock(here._replace(synchronised=lambda: False))).state == "warn"
        assert (await doctor.clock(here._replace(synchronised=lambda: None))).state == "ok"
    assert doctor.kernel_synchronised() in (True, False, None)


@on_loop
async def test_a_server_that_is_not_there_or_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path)
    assert (await seen("server", settings)).state == "warn"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        with monkeypatch.context() as there:
            there.chdir(settings.data)
            dead.bind("admin.sock")  # the whole path may be too long
        assert (await seen("server", settings)).state == "warn"
        dead.listen()

        async def hang_up() -> None:
            client, _ = await asyncio.to_thread(dead.accept)
            client.close()

        hanging = asyncio.ensure_future(hang_up())
        assert (await seen("server", settings)).state == "fail"
        await hanging


@pytest.mark.parametrize(("said", "state"), [({"draining": True}, "warn"), ({"draining": False}, "ok")])
@on_loop
async def test_a_server_that_is_drained(tmp_path: Path, said: dict[str, Any], state: str) -> None:
    settings = settings_of(tmp_path)
    admin = AdminSocket(settings.data / "admin.sock", {"queue.state": Action(lambda: said)})
    await admin.open()
    try:
        assert (await seen("server", settings)).state == state
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("relay", "state"),
    [({}, "untested"), ({"capture": True}, "ok"), ({"smarthost": {"host": "smtp.example.test"}}, "ok")],
)
@on_loop
async def test_port_25(tmp_path: Path, relay: Any, state: str) -> None:
    assert (await seen("port 25", settings_of(tmp_path, relay=relay))).state == state


@on_loop
async def test_what_the_file_says(tmp_path: Path) -> None:
    assert (await seen("configuration", settings_of(tmp_path))).state == "ok"
    for text in (None, "no certificate"):
        if text is not None:
            (tmp_path / "ca.pem").write_text(text)
        found = await seen("configuration", settings_of(tmp_path, transport_security={"ca": tmp_path / "ca.pem"}))
        assert found.state == "fail"
        assert "transport_security.ca" in found.says


# As a command


@on_loop
async def test_the_command(tmp_path: Path) -> None:
    """It asks nobody but the resolver that it is told."""
    path = tmp_path / "posthouse.toml"
    path.write_text(f"hostname = '{NAME}'\ndata = 'data'\n[[listen]]\nservice = 'imap'\nport = 1143\n")
    server = NameServer(GOOD)
    port = await server.start()

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["-c", str(path), "doctor", *arguments], env={"NO_COLOR": "1"})

    result = await asyncio.to_thread(run, "--resolver", f"127.0.0.1:{port}", "--json")
    told = json.loads(result.stdout)
    assert (told["ok"], result.exit_code) == (True, 0)
    assert [one["check"] for one in told["checks"]] == list(doctor.CHECKS)
    assert {one["state"] for one in told["checks"]} <= {"ok", "warn", "untested"}
    assert not (tmp_path / "data").exists(), "nothing is made"
    asked = {name for _, name, _ in server.questions}
    assert asked == {f"{NAME}.", "iana.org.", "dnssec-failed.org."}
    server.table = {}
    result = await asyncio.to_thread(run, "--resolver", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert "has no address in the DNS" in result.stdout
    assert "DANE is off" in result.stdout
    for wrong in ("resolver.test", "127.0.0.1:0", "127.0.0.1:x", "[::1]:99999"):
        assert (await asyncio.to_thread(run, "--resolver", wrong)).exit_code == 2
    await server.stop()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 53),
        ("127.0.0.1:5353", "127.0.0.1", 5353),
        ("::1", "::1", 53),
        ("[::1]:54", "::1", 54),
        ("[::1]", "::1", 53),
    ],
)
def test_how_a_resolver_is_written(text: str, host: str, port: int) -> None:
    assert name_server(text) == ([host], port)


@on_loop
async def test_a_check_that_fails_itself_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Around) -> Seen:
        raise RuntimeError("oops")

    monkeypatch.setitem(doctor.CHECKS, "disk", broken)
    async with around(settings_of(tmp_path)) as here:
        found = dict(await examine(here))
    assert "oops" in found["disk"].says
    assert found["clock"].state == "ok"


def test_only_the_zone_of_the_settings(tmp_path: Path) -> None:
    settings = config.parse(
        "hostname='a.test'\n[dns]\nonly_zone = true\nzone = { 'a.test' = { A = ['127.0.0.1'] } }", "x"
    )
    here = doctor._around(settings, "")
    assert here.system is None
    assert asyncio.run(doctor.resolver(here)).state == "ok"
    assert asyncio.run(doctor.dnssec(here)).state == "warn"
    assert asyncio.run(doctor.host_name(here)).state == "ok"


@on_loop
async def test_domains_and_their_keys(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert (await seen("domains", settings)).state == "untested"
    await with_store(settings, lambda tx: None)
    assert (await seen("domains", settings)).says == "there are no domains yet"
    await with_store(settings, lambda tx: accounts.add_domain(tx, "example.test", NOW))
    found = await seen("domains", settings)
    assert (found.state, found.says) == ("warn", "example.test lacks MX, SPF, DMARC, any key to sign with")
    assert "posthouse domain dns" in found.cure
    keys: list[DkimKey] = []
    await with_store(settings, lambda tx: keys.extend(dkim_keys.add(tx, "example.test", new_keys(), NOW)))
    published: Table = GOOD | {
        ("example.test.", "MX"): [f"10 {NAME}."],
        ("example.test.", "TXT"): ['"v=spf1 mx -all"'],
        ("_dmarc.example.test.", "TXT"): ['"v=DMARC1; p=none"'],
    }
    found = await seen("domains", settings, published)
    assert found.says == f"example.test lacks DKIM ({keys[0].selector}), DKIM ({keys[1].selector})"
    assert (await seen("domains", settings, published | table(keys))).state == "ok"
    assert (await seen("domains", settings, dict.fromkeys(published | table(keys), "SERVFAIL"))).state == "untested"
    never = settings_of(tmp_path, signing={"sign": "never"})
    assert (await seen("domains", never, published)).state == "ok"
