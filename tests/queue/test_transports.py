"""Routes of the settings at work: smart hosts, LMTP, posts, discards, errors, and pools of addresses."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from posthouse.base import ids, signatures
from posthouse.base.errors import Permanent
from posthouse.base.settings import Settings
from posthouse.queue import transports_webhook
from posthouse.queue.route_table import own_names, table_of
from posthouse.smtp.params import NO_MAIL_PARAMS, NO_RCPT_PARAMS, MailParams, RcptParams
from posthouse.store import outbox
from posthouse.store.database import Tx
from posthouse.store.envelope import pack_mail, pack_rcpt
from posthouse.store.model import QueueChanged
from posthouse.store.outbox import NewMessage
from tests.queue.site import ALICE, MESSAGE, PREFIX, Site, To, site
from tests.support.certificates import root_file, server_context
from tests.support.loop import on_loop
from tests.support.ports import free_port
from tests.support.remote import DROP, Remote
from tests.support.store import put_blob
from tests.support.webserver import DROP as CUT
from tests.support.webserver import TRICKLE, Answer, WebServer

BOB = "bob@there.test"
SECRET = "a secret of the receiver"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return str(file)


@asynccontextmanager
async def posting(secret: str, *answers: Answer) -> AsyncIterator[tuple[Site, WebServer]]:
    """A site that posts bob's mail to a web server."""
    async with WebServer(*answers) as web, site(route=[a_route("webhook", url=web.url, secret_file=secret)]) as here:
        yield here, web


def a_route(via: str, **options: Any) -> dict[str, Any]:
    return {"name": "special", "to": ["there.test"], "via": via, **options}


# Which mail takes one


@on_loop
async def test_only_what_fits_takes_a_route(tmp_path: Path) -> None:
    smart = a_route("smarthost", host="127.0.0.9", port=free_port(), tls="none")
    async with site(route=[smart]) as here:
        other = await here.remote("other.test")
        special = Remote()
        await special.start("127.0.0.9", smart["port"])
        here.remotes["special"] = special
        trace = await here.run(BOB, "ann@other.test", "carol@there.test")
        assert [taken.recipients for taken in special.taken] == [(BOB, "carol@there.test")]
        assert [taken.recipients for taken in other.taken] == [("ann@other.test",)]
        assert {event.data["host"] for event in await here.attempts(trace)} == {"127.0.0.9", "other.test"}


@on_loop
async def test_capture_wins_over_every_route(secret: str) -> None:
    async with WebServer() as web:
        routes = [a_route("webhook", url=web.url, secret_file=secret)]
        async with site(route=routes, relay={"capture": True}) as here:
            await here.run(BOB)
            assert len(here.captured) == 1
        assert web.requests == []


@on_loop
async def test_several_smart_hosts_in_order() -> None:
    port = free_port()
    async with site(route=[a_route("smarthost", host=["127.0.0.8", "127.0.0.9"], port=port, tls="none")]) as here:
        second = Remote()
        await second.start("127.0.0.9", port)
        here.remotes["second"] = second
        await here.run(BOB)
        assert len(second.taken) == 1
        first = Remote()
        await first.start("127.0.0.8", port)
        here.remotes["first"] = first
        await here.manager._sender.sessions.close()
        await here.run(BOB)
        assert len(first.taken) == 1


@pytest.mark.parametrize("route", ["", "host:gone.test"])
@on_loop
async def test_a_server_that_we_named_and_that_is_not_there_bounces_nothing(route: str) -> None:
    """A typing error in the settings or in `queue reroute` is not the senders' fault."""
    async with site(route=[a_route("smarthost", host="gone.test", tls="none")]) as here:
        await here.queue(BOB)
        if route:
            await here.database.write(lambda tx: tx.run("UPDATE recipient SET route = ?", route))
        await here.settled()
        row = (await here.waiting())[BOB]
        text = "There is no host gone.test, which the settings or an operator name"
        assert (row.last_code, row.last_status, row.last_text) == (451, "4.3.5", text)
        assert await here.bounces() == []


@on_loop
async def test_a_smart_host_with_a_ca_of_its_own() -> None:
    for ca, taken in ((str(root_file()), 1), (None, 0)):
        port = free_port()
        route = a_route("smarthost", host="localhost", port=port, **({"ca": ca} if ca else {}))
        async with site(route=[route]) as here:
            here.zone["localhost"] = {"A": ["127.0.0.9"]}
            remote = Remote(tls=server_context("localhost"))
            await remote.start("127.0.0.9", port)
            here.remotes["x"] = remote
            await here.run(BOB)
            assert len(remote.taken) == taken
            assert len(await here.waiting()) == 1 - taken


@on_loop
async def test_direct_with_tls_that_must_be() -> None:
    async with site(route=[a_route("direct", tls="starttls")]) as here:
        remote = await here.remote("there.test")
        other = await here.remote("other.test")
        await here.run(BOB, "ann@other.test")
        assert (len(remote.taken), len(other.taken)) == (0, 1)
        assert (await here.waiting())[BOB].last_status.startswith("4.7.")


@on_loop
async def test_a_name_of_the_dns_is_not_certain_enough_for_requiretls() -> None:
    async with site(route=[a_route("direct", tls="starttls")]) as here:
        remote = await here.remote("there.test", tls=server_context("there.test"))
        await queued(here, BOB, mail=MailParams(requiretls=True))
        assert not remote.connections
        (bounce,) = await here.bounces()
        assert b"5.7.30" in bounce


# LMTP


@on_loop
async def test_lmtp_has_a_reply_for_each_recipient(tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    async with site(route=[a_route("lmtp", path=str(path))]) as here:
        script: Any = {"end no@there.test": "550 5.1.1 nobody", "end later@there.test": "452 4.2.2 full"}
        remote = Remote(script, lmtp=True)
        await remote.start_on(str(path))
        here.remotes["lmtp"] = remote
        trace = await here.run("yes@there.test", "no@there.test", "later@there.test")
        assert remote.commands[0] == "LHLO mail.here.test"
        assert remote.taken[0].recipients == ("yes@there.test",)
        assert remote.taken[0].content == PREFIX + MESSAGE
        waiting = await here.waiting()
        assert list(waiting) == ["later@there.test"]
        assert waiting["later@there.test"].last_text == "full"
        (bounce,) = await here.bounces()
        assert b"no@there.test" in bounce
        assert b"yes@there.test" not in bounce
        (event,) = await here.attempts(trace)
        assert event.data["host"] == "localhost"
        assert str(path) in event.data["address"]


@on_loop
async def test_lmtp_over_tcp_and_a_connection_that_breaks() -> None:
    port = free_port()
    async with site(route=[a_route("lmtp", host="127.0.0.9", port=port)]) as here:
        remote = Remote({"end b@there.test": DROP}, lmtp=True)
        await remote.start("127.0.0.9", port)
        here.remotes["lmtp"] = remote
        await here.run("a@there.test", "b@there.test")
        assert list(await here.waiting()) == ["b@there.test"]  # who was answered is done


@on_loop
async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    async with site(route=[a_route("lmtp", path=str(tmp_path / "none.sock"))]) as here:
        await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert row.last_status == "4.4.1"
        assert "no such file" in row.last_text


# Posts


@on_loop
async def test_a_message_is_posted(secret: str) -> None:
    async with posting(secret, (202, "text/plain", b"")) as (here, web):
        trace = await here.run(BOB, "grüße@there.test")
        assert await here.waiting() == {}
        (request,) = web.requests
        assert (request.method, request.path) == ("POST", "/mail?key=hidden")
        assert request.body == PREFIX + MESSAGE
        assert request.headers["content-type"] == "message/rfc822"
        envelope = json.loads(request.headers["x-posthouse-envelope"])
        assert envelope["sender"] == ALICE
        assert envelope["recipients"] == [BOB, "grüße@there.test"]
        assert envelope["id"] == request.headers["x-posthouse-id"]
        now = here.clock.now() // 1_000_000
        signature = request.headers["x-posthouse-signature"]
        assert signatures.verify(SECRET.encode(), signature, request.body, now)
        (event,) = await here.attempts(trace)
        assert event.data["host"] == "127.0.0.1"
        assert "hidden" not in str(event.data)
        assert SECRET not in str(event.data)


@pytest.mark.parametrize(
    ("status", "code", "enhanced"),
    [
        (400, 550, ""),
        (404, 550, ""),
        (410, 550, ""),
        (422, 550, ""),
        (408, 451, "4.3.0"),
        (425, 451, "4.3.0"),
        (429, 451, "4.3.2"),
        (301, 451, "4.3.0"),
        (307, 451, "4.3.0"),
        (500, 451, "4.3.0"),
        (503, 451, "4.3.2"),
    ],
)
@on_loop
async def test_what_a_status_means(secret: str, status: int, code: int, enhanced: str) -> None:
    async with posting(secret, (status, "text/plain; charset=utf-8", b"no such\x00 list\r\nmore")) as (here, web):
        await here.run(BOB)
        assert len(web.requests) == 1  # redirects are not followed
        waiting = await here.waiting()
        if code == 550:
            assert waiting == {}
            (bounce,) = await here.bounces()
            assert f"127.0.0.1 answered HTTP {status}: no such  list".encode() in bounce
            assert b"more" not in bounce
            assert b"hidden" not in bounce
        else:
            row = waiting[BOB]
            assert (row.last_code, row.last_status) == (code, enhanced)
            assert f"HTTP {status}" in row.last_text
            assert await here.bounces() == []


@on_loop
async def test_a_post_without_an_answer_is_tried_again(secret: str) -> None:
    async with posting(secret, CUT, (200, "text/plain", b"")) as (here, web):
        await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert row.last_status == "4.4.1"
        assert "gives no answer" in row.last_text
        assert "hidden" not in row.last_text
        await here.pass_time(70)
        assert await here.waiting() == {}
        assert web.requests[0].headers["x-posthouse-id"] == web.requests[1].headers["x-posthouse-id"]


@on_loop
async def test_an_answer_that_never_ends_is_cut(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports_webhook, "PATIENCE", 0.05)
    async with posting(secret, TRICKLE) as (here, _):
        await here.run(BOB)
        assert (await here.waiting())[BOB].last_status == "4.4.1"


@on_loop
async def test_an_answer_that_is_too_long(secret: str) -> None:
    async with posting(secret, (200, "text/plain", b"x" * 70_000)) as (here, _):
        await here.run(BOB)
        assert "more than 65536 octets" in (await here.waiting())[BOB].last_text


@on_loop
async def test_many_recipients_go_in_several_posts(secret: str) -> None:
    people = [f"{'a-long-name-of-somebody' * 2}{n}@there.test" for n in range(95)]
    async with posting(secret, (200, "text/plain", b""), (404, "text/plain", b"gone")) as (here, web):
        await here.run(*people)
        posted = [json.loads(request.headers["x-posthouse-envelope"])["recipients"] for request in web.requests]
        assert [one for some in posted for one in some] == people
        assert len(posted) > 1
        assert all(len(request.headers["x-posthouse-envelope"]) <= 4096 for request in web.requests)
        (bounce,) = await here.bounces()
        assert posted[0][0].encode() not in bounce
        assert posted[1][0].encode() in bounce.replace(b"\r\n", b"")


@on_loop
async def test_few_large_messages_at_a_time(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports_webhook, "LARGE", 10)
    async with posting(secret) as (here, web):
        web.gate = asyncio.Event()
        for _ in range(5):
            await here.queue(BOB)
        await web.wait_for(2)
        web.gate.set()
        await here.settled()
        assert len(web.requests) == 5
        assert web.most_open == 2


@on_loop
async def test_https_with_a_ca(secret: str) -> None:
    for ca, posts in ((str(root_file()), 1), (None, 0)):
        async with WebServer(tls=server_context("localhost")) as web:
            route = a_route("webhook", url=web.url, secret_file=secret, **({"ca": ca} if ca else {}))
            async with site(route=[route]) as here:
                await here.run(BOB)
                assert len(web.requests) == posts
                assert len(await here.waiting()) == 1 - posts


@on_loop
async def test_what_must_go_by_tls_is_not_posted_without(secret: str) -> None:
    async with posting(secret) as (here, web):
        await queued(here, BOB, mail=MailParams(requiretls=True))
        assert web.requests == []
        (bounce,) = await here.bounces()
        assert b"5.7.10" in bounce


async def queued(
    here: Site, *recipients: str, mail: MailParams = NO_MAIL_PARAMS, rcpt: RcptParams = NO_RCPT_PARAMS
) -> int:
    """Queue a message that asks for something."""
    now = here.clock.now()
    trace = here.ids.next(now)

    def work(tx: Tx) -> None:
        size = len(PREFIX) + len(MESSAGE)
        blob = put_blob(tx, MESSAGE)
        message = NewMessage(
            trace, ALICE, here.alice, blob, PREFIX, size, now, now + 432_000_000_000, options=pack_mail(mail)
        )
        outbox.add(tx, message, [To(r, r.rpartition("@")[2], pack_rcpt(rcpt)) for r in recipients])
        tx.publish(QueueChanged(trace))

    await here.database.write(work)
    await here.settled()
    return trace


# Nowhere


@on_loop
async def test_discarded_and_nobody_is_told_otherwise() -> None:
    async with site(route=[a_route("discard")]) as here:
        remote = await here.remote("there.test")
        trace = await queued(here, BOB, rcpt=RcptParams(notify=("SUCCESS",)))
        assert not remote.connections
        assert await here.waiting() == {}
        assert await here.bounces() == []
        (event,) = await here.attempts(trace)
        assert event.data["results"][BOB]["state"] == "delivered"
        assert event.data["results"][BOB]["text"] == "Discarded by route special"
        assert event.data["route"] == "special"


@on_loop
async def test_an_error_that_is_for_good() -> None:
    async with site(route=[a_route("error", reply="550 5.7.1 Not from here")]) as here:
        trace = await here.run(BOB)
        assert await here.waiting() == {}
        (bounce,) = await here.bounces()
        assert b"Not from here" in bounce
        assert b"Status: 5.7.1" in bounce
        assert b"This server is set up not to send mail this way" in bounce
        assert b"other server refused" not in bounce, "none was asked"
        assert f"say this: {ids.to_text(trace)}, ".encode() in bounce, "it is what `posthouse explain` takes"
        (event,) = await here.attempts(trace)
        assert event.data["route"] == "special"
        assert event.data["results"][BOB]["rule"] is True


@on_loop
async def test_an_error_that_is_for_now() -> None:
    async with site(route=[a_route("error", reply="450 4.7.1 Not today")]) as here:
        await here.run(BOB)
        row = (await here.waiting())[BOB]
        assert (row.last_code, row.last_status, row.last_text) == (450, "4.7.1", "Not today")


# Pools


def a_pool(*sources: tuple[str, str], name: str = "bulk") -> dict[str, Any]:
    return {"name": name, "sources": [{"address": address, "helo": helo} for address, helo in sources]}


@on_loop
async def test_connections_leave_from_the_addresses_of_the_pool_in_turn() -> None:
    pool = a_pool(("127.0.0.51", "one.here.test"), ("127.0.0.52", "two.here.test"))
    async with site(pool=[pool], route=[a_route("direct", pool="bulk")]) as here:
        remote = await here.remote("there.test")
        other = await here.remote("other.test")
        for _ in range(3):
            await here.run(BOB, "ann@other.test")
            await here.manager._sender.sessions.close()
        assert remote.peers == ["127.0.0.51", "127.0.0.52", "127.0.0.51"]
        said = [line for line in remote.commands if line.startswith("EHLO")]
        assert said == ["EHLO one.here.test", "EHLO two.here.test", "EHLO one.here.test"]
        assert not {"127.0.0.51", "127.0.0.52"} & set(other.peers)
        assert "EHLO mail.here.test" in other.commands


@on_loop
async def test_a_pool_for_everything_but_who_has_one() -> None:
    pools = [a_pool(("127.0.0.51", "one.here.test"), name="all"), a_pool(("127.0.0.52", "two.here.test"))]
    async with site(pool=pools, relay={"pool": "all"}, route=[a_route("direct", pool="bulk")]) as here:
        remote = await here.remote("there.test")
        other = await here.remote("other.test")
        await here.run(BOB, "ann@other.test")
        assert (remote.peers, other.peers) == (["127.0.0.52"], ["127.0.0.51"])


@on_loop
async def test_two_routes_to_one_server_share_nothing() -> None:
    """Connections, pace and limits are those of a route and a destination: a login or a source is never mixed up."""
    pools = [a_pool(("127.0.0.51", "one.here.test"), name="one"), a_pool(("127.0.0.52", "two.here.test"), name="two")]
    routes = [
        {"name": "one", "from": ["here.test"], "via": "direct", "pool": "one"},
        {"name": "two", "via": "direct", "pool": "two"},
    ]
    async with site(pool=pools, route=routes) as here:
        remote = await here.remote("there.test")
        for sender in (ALICE, "x@far.test", ALICE, "x@far.test"):
            await here.run(BOB, sender=sender)
        assert remote.peers == ["127.0.0.51", "127.0.0.52"]  # both kept, each used again
        assert set(here.manager._paces) >= {"there.test route:one", "there.test route:two"}


@on_loop
async def test_families_race_each_from_its_own_source() -> None:
    pool = a_pool(("127.0.0.51", "four.here.test"), ("::1", "six.here.test"))
    async with site(pool=[pool], relay={"pool": "bulk"}) as here:
        four = await here.remote("there.test")
        here.zone["there.test"] = {"A": ["127.0.0.2"], "AAAA": ["::1"]}
        await here.run(BOB)  # nobody listens on ::1
        assert four.peers == ["127.0.0.51"]
        assert "EHLO four.here.test" in four.commands
        six = Remote()
        await six.start("::1", here.port)
        here.remotes["six"] = six
        await here.manager._sender.sessions.close()
        await here.run(BOB)
        assert six.peers == ["::1"]
        assert "EHLO six.here.test" in six.commands


@on_loop
async def test_a_source_that_is_not_ours_fails_for_now_and_the_next_is_tried() -> None:
    pool = a_pool(("192.0.2.77", "gone.here.test"), ("127.0.0.51", "one.here.test"))
    async with site(pool=[pool], relay={"pool": "bulk"}) as here:
        remote = await here.remote("there.test")
        await here.run(BOB)
        assert (await here.waiting())[BOB].last_status == "4.4.1"
        await here.pass_time(70)
        assert remote.peers == ["127.0.0.51"]
        assert await here.waiting() == {}


# Loops


@on_loop
async def test_nothing_behind_an_address_of_ours_is_tried() -> None:
    listen = [{"service": "smtp", "address": "127.0.0.40", "port": 25}]
    async with site(listen=listen) as here:
        farther = await here.remote("backup.test")
        here.zone["us.test"] = {"A": ["127.0.0.40"]}
        here.domain("there.test", "us.test", "backup.test")
        await here.run(BOB)
        assert not farther.connections
        (bounce,) = await here.bounces()
        assert b"5.4.6" in bounce


# Settings


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("short")
    for file in (short, tmp_path / "none"):
        route = a_route("webhook", url="https://x.test/", secret_file=str(file))
        with pytest.raises(Permanent, match="route special"):
            table_of(Settings.model_validate({"route": [route]}))
    short.write_text("\n")
    route = a_route("smarthost", host="x.test", user="me", password_file=str(short))
    with pytest.raises(Permanent, match="is empty"):
        table_of(Settings.model_validate({"route": [route]}))


def test_secrets_are_not_shown(secret: str) -> None:
    routes = [
        a_route("webhook", url="https://x.test/hidden", secret_file=secret),
        a_route("smarthost", host="x.test", user="me", password_file=secret) | {"name": "smart"},
    ]
    table = table_of(Settings.model_validate({"route": routes}))
    shown = repr([table.named("special"), table.named("smart")])
    assert SECRET not in shown
    assert "hidden" not in shown


def test_own_names() -> None:
    settings = Settings.model_validate(
        {
            "hostname": "mail.here.test",
            "pool": [a_pool(("127.0.0.51", "one.here.test"))],
            "tls": {"named": [{"names": ["mx.else.test", "*.x.test"], "certificate": "c", "key": "k"}]},
        }
    )
    assert own_names(settings) == {"mail.here.test", "one.here.test", "mx.else.test"}
