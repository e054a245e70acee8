"""Programs and libraries that read over IMAP, against the whole server: IMAPClient, aioimaplib, imaplib with our
extensions, mbsync, offlineimap, imapflow.

Which of them are missing, and what follows, is tests/support/clients.py.
"""

import asyncio
import imaplib
import re
import subprocess
from pathlib import Path
from typing import Any

import aioimaplib
import imapclient
import pytest
from imapclient import imapclient as special

from tests.clients.test_clients import BOB, call, fill, run
from tests.support.clients import client, missing
from tests.support.house import PASSWORD, House, opened


def test_gmail_methods_of_imapclient(tmp_path: Path) -> None:
    def test(house: House, _: str) -> None:
        fill(house, 3)
        with imapclient.IMAPClient("localhost", house.ports["imap"], ssl=False, timeout=30) as imap:
            imap.starttls(house.context)
            imap.login(BOB, PASSWORD)
            assert imap.has_capability("X-GM-EXT-1")
            imap.select_folder("INBOX")
            assert imap.get_gmail_labels([1, 2]) == {1: [], 2: []}
            assert imap.add_gmail_labels([1, 2], ["Grüße", "\\Starred"]) == {
                1: ["Grüße", "\\Starred"],
                2: ["Grüße", "\\Starred"],
            }
            assert imap.folder_exists("Grüße")
            assert imap.set_gmail_labels([2], ['a "b"', "\\Sent"]) == {2: ["\\Sent", 'a "b"']}
            assert imap.remove_gmail_labels([1], ["Grüße"], silent=True) is None
            assert imap.get_gmail_labels([1, 3]) == {1: ["\\Starred"], 3: []}
            assert imap.gmail_search('label:a-"b" subject:number') == []
            assert imap.gmail_search("in:sent -from:nobody@example.org") == [2]
            assert imap.gmail_search("Grüße OR is:starred") == [1]
            found = imap.fetch([1], ["X-GM-MSGID", "X-GM-THRID"])[1]
            assert imap.search(["X-GM-MSGID", str(found[b"X-GM-MSGID"])]) == [1]
            assert imap.search(["X-GM-THRID", str(found[b"X-GM-THRID"])]) == [1]

    run(tmp_path, test, imap={"gmail": True})


def fill_many(house: House, count: int) -> None:
    """Many messages with few commands: MULTIAPPEND (RFC 3502)."""
    with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
        imap.login(BOB, PASSWORD)
        for start in range(0, count, 500):
            imap.send(b"m APPEND INBOX")
            for n in range(start, min(start + 500, count)):
                text = f"Subject: number {n}\r\nMessage-ID: <{n}@example.com>\r\n\r\nbody {n}\r\n".encode()
                imap.send(b" (%b) {%d+}\r\n%b" % (b"\\Seen" if n % 2 else b"", len(text), text))
            imap.send(b"\r\n")
            while not (line := imap.readline()).startswith(b"m "):
                assert line
            assert line.startswith(b"m OK"), line


@pytest.mark.parametrize("service", ["imap", "imaps"])
def test_imapclient(tmp_path: Path, service: str) -> None:
    ssl = service == "imaps"

    def test(house: House, ca: str) -> None:
        fill(house, 5)
        context = house.context if ssl else None
        with imapclient.IMAPClient("localhost", house.ports[service], ssl=ssl, ssl_context=context, timeout=30) as imap:
            if not ssl:
                imap.starttls(house.context)
            imap.login(BOB, PASSWORD)
            assert imap.namespace().personal == (("", "/"),)
            name = "Grüße"
            imap.create_folder(name)
            imap.subscribe_folder(name)
            assert name in [found for _, _, found in imap.list_folders()]
            assert name in [found for _, _, found in imap.list_sub_folders()]
            assert imap.find_special_folder(special.SENT) == "Sent"
            assert imap.folder_status("INBOX", "MESSAGES")[b"MESSAGES"] == 5
            assert imap.select_folder("INBOX")[b"EXISTS"] == 5
            assert imap.search(["SUBJECT", "number 3"]) == [4]
            assert imap.search(["SUBJECT", "Grüße"], "UTF-8") == []
            assert imap.sort("REVERSE ARRIVAL") == [5, 4, 3, 2, 1]
            assert sorted(sum(imap.thread("REFERENCES"), ())) == [1, 2, 3, 4, 5]
            found = imap.fetch([2], ["ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE", "RFC822.SIZE"])[2]
            assert found[b"ENVELOPE"].subject == b"number 1"
            assert found[b"BODYSTRUCTURE"][0] == b"text"
            imap.add_flags([1, 2], [imapclient.SEEN, b"$own"])
            assert set(imap.get_flags([2])[2]) >= {imapclient.SEEN, b"$own"}
            changed = imap.fetch([1, 2], ["MODSEQ"])[2][b"MODSEQ"][0]
            imap.add_flags([3], ["$other"])
            assert list(imap.fetch(range(1, 6), ["FLAGS"], [f"CHANGEDSINCE {changed}"])) == [3]
            imap.copy([1, 2], name)
            assert b"APPENDUID" in imap.append(name, b"Subject: new\r\n\r\nx\r\n", flags=[imapclient.FLAGGED])
            imap.move([4], name)
            imap.idle()
            fill(house, 1)
            assert (5, b"EXISTS") in imap.idle_check(timeout=20)
            imap.idle_done()
            imap.delete_messages([5])
            imap.uid_expunge([5])
            assert imap.search() == [1, 2, 3, 6]
            imap.unselect_folder()
            assert imap.folder_status(name)[b"MESSAGES"] == 4
            assert imap.get_quota_root("INBOX")
            imap.delete_folder(name)

    run(tmp_path, test)


def test_aioimaplib(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(tmp_path) as house:
            await asyncio.to_thread(fill, house, 5)
            imap = aioimaplib.IMAP4_SSL("localhost", house.ports["imaps"], ssl_context=house.context)
            await imap.wait_hello_from_server()
            assert (await imap.login(BOB, PASSWORD)).result == "OK"
            assert imap.has_capability("IDLE")
            assert imap.has_capability("MOVE")
            assert (await imap.select("INBOX")).result == "OK"
            assert (await imap.uid_search("SUBJECT", '"number 2"')).lines[0] == b"3"
            lines = (await imap.uid("fetch", "3", "(FLAGS BODY.PEEK[])")).lines
            assert any(b"body 2" in line for line in lines)
            assert (await imap.uid("store", "1", "+FLAGS (\\Flagged)")).result == "OK"
            assert (await imap.create("Kept")).result == "OK"
            assert (await imap.uid("move", "1", "Kept")).result == "OK"
            assert (await imap.uid("copy", "2:3", "Kept")).result == "OK"
            idle = await imap.idle_start(timeout=30)
            await asyncio.to_thread(fill, house, 1)
            pushed: list[bytes] = []
            while not any(line.endswith(b"EXISTS") for line in pushed):
                pushed += await imap.wait_server_push()
            assert b"5 EXISTS" in pushed
            imap.idle_done()
            await asyncio.wait_for(idle, 20)
            assert (await imap.append(b"Subject: x\r\n\r\ny\r\n", "Kept", "\\Seen")).result == "OK"
            status = await imap.status("Kept", "(MESSAGES UNSEEN)")
            assert b"MESSAGES 4 UNSEEN 3" in status.lines[0]
            assert (await imap.logout()).result == "OK"

    asyncio.run(main())


def raw(imap: imaplib.IMAP4, line: str) -> str:
    """A command that imaplib does not know; all that is answered."""
    imap.send(b"r " + line.encode() + b"\r\n")
    said = ""
    while not said.splitlines()[-1:] or not said.splitlines()[-1].startswith("r "):
        piece = imap.readline()
        assert piece, said
        said += piece.decode()
    assert said.splitlines()[-1].startswith("r OK"), said
    return said


def test_imaplib_resynchronizes(tmp_path: Path) -> None:
    """CONDSTORE and QRESYNC with commands as they stand in RFC 7162, beside a client that knows nothing of them."""

    def test(house: House, ca: str) -> None:
        fill(house, 10)
        with (
            imaplib.IMAP4_SSL("localhost", house.ports["imaps"], ssl_context=house.context) as one,
            imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as other,
        ):
            for imap in (one, other):
                imap.login(BOB, PASSWORD)
            other.select("INBOX")
            assert "ENABLED QRESYNC" in raw(one, "ENABLE QRESYNC").replace("CONDSTORE ", "")
            said = raw(one, "SELECT INBOX")
            validity, state = (re.findall(rf"\[{name} (\d+)\]", said)[0] for name in ("UIDVALIDITY", "HIGHESTMODSEQ"))
            raw(one, "UNSELECT")
            other.uid("STORE", "2,3,9", "+FLAGS", "(\\Deleted)")
            other.expunge()
            other.uid("STORE", "5", "+FLAGS", "(\\Flagged $word)")
            said = raw(one, f"SELECT INBOX (QRESYNC ({validity} {state}))")
            assert "* VANISHED (EARLIER) 2:3,9" in said
            assert re.findall(r"\* (\d+) FETCH \(UID (\d+) FLAGS \(\\Flagged \$word\)", said) == [("3", "5")]
            assert said.count("FETCH") == 1
            modseq = re.findall(r"MODSEQ \((\d+)\)", said)[0]
            other.uid("STORE", "5", "-FLAGS", "(\\Flagged)")
            said = raw(one, f"UID STORE 5,6 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Answered)")
            assert "[MODIFIED 5]" in said
            assert re.search(r"FETCH \(UID 6 MODSEQ \(\d+\)\)", said)
            said = raw(one, f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
            assert sorted(re.findall(r"\(UID (\d+)", said)) == ["5", "6"]
            assert "VANISHED" not in said
            other.uid("STORE", "10", "+FLAGS", "(\\Deleted)")
            other.expunge()
            assert "* VANISHED 10" in raw(one, "NOOP")
            assert re.search(r"SEARCH.* \(?MODSEQ \d+", raw(one, f"UID SEARCH MODSEQ {modseq}"))
            assert re.search(r"HIGHESTMODSEQ \d+", raw(one, "STATUS INBOX (HIGHESTMODSEQ MESSAGES)"))

    run(tmp_path, test)


def files(folder: Path) -> list[str]:
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.parent.name in ("cur", "new"))


def flagged(house: House, what: str) -> int:
    with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
        imap.login(BOB, PASSWORD)
        imap.select("INBOX", readonly=True)
        return len(imap.search(None, what)[1][0].split())


def state(house: House) -> list[Any]:
    """What a change of anything would change."""
    with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
        imap.login(BOB, PASSWORD)
        names = [line.decode().split(' "/" ')[1] for line in imap.list()[1]]  # type: ignore[union-attr]
        return [imap.status(name, "(MESSAGES UIDNEXT HIGHESTMODSEQ)")[1] for name in names]


def test_mbsync_with_many_messages(tmp_path: Path) -> None:
    mbsync, count = client("mbsync"), 5000

    def test(house: House, ca: str) -> None:
        fill_many(house, count)
        mail = tmp_path / "mail"
        mail.mkdir()
        config = tmp_path / "mbsyncrc"
        config.write_text(
            f"IMAPAccount house\nHost localhost\nPort {house.ports['imaps']}\nUser {BOB}\nPass {PASSWORD}\n"
            f"SSLType IMAPS\nCertificateFile {ca}\n\nIMAPStore remote\nAccount house\n\n"
            f"MaildirStore local\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n"
            "Channel all\nMaster :remote:\nSlave :local:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n"
        )
        command = [mbsync, "-c", str(config), "all"]
        both_ways(house, mail, lambda: call(*command), count)

    run(tmp_path, test)


def test_offlineimap(tmp_path: Path) -> None:
    # It takes far longer for each message than mbsync.
    offlineimap, count = client("offlineimap"), 1000

    def test(house: House, ca: str) -> None:
        fill_many(house, count)
        mail = tmp_path / "mail"
        config = tmp_path / "offlineimaprc"
        config.write_text(
            f"[general]\naccounts = house\nmetadata = {tmp_path}/meta\nui = quiet\n"
            "[Account house]\nlocalrepository = local\nremoterepository = remote\n"
            f"[Repository local]\ntype = Maildir\nlocalfolders = {mail}\n"
            f"[Repository remote]\ntype = IMAP\nremotehost = localhost\nremoteport = {house.ports['imaps']}\n"
            f"remoteuser = {BOB}\nremotepass = {PASSWORD}\nssl = yes\nsslcacertfile = {ca}\n"
        )
        command = ["env", f"HOME={tmp_path}", offlineimap, "-c", str(config), "-o"]
        both_ways(house, mail, lambda: call(*command), count)

    run(tmp_path, test)


def both_ways(house: House, mail: Path, sync: Any, count: int) -> None:
    """Everything comes; a second time there is nothing to do; then changes go in both directions, and that is all."""
    sync()
    first, there = files(mail), state(house)
    assert len(first) == count
    assert sum(1 for name in first if re.search(r":2,\w*S", name)) == count // 2
    sync()
    assert files(mail) == first
    assert state(house) == there
    folder = mail / "INBOX"
    # Any that was read, any that was not; where those are depends on the program.
    gone = next(one for one in sorted((folder / "cur").iterdir()) if one.name.endswith("S"))
    read = next(one for sub in ("new", "cur") for one in sorted((folder / sub).iterdir()) if not one.name.endswith("S"))
    gone.unlink()
    read.rename(folder / "cur" / (read.name.split(":2,")[0] + ":2,FS"))
    (folder / "new" / "1.local").write_bytes(b"Subject: from here\nMessage-ID: <here@example.com>\n\nlocal\n")
    with imaplib.IMAP4("127.0.0.1", house.ports["imap"]) as imap:
        imap.login(BOB, PASSWORD)
        imap.select("INBOX")
        imap.uid("STORE", f"{count - 10}:{count - 1}", "+FLAGS", "(\\Answered)")
        imap.uid("STORE", f"{count - 20}:{count - 11}", "+FLAGS", "(\\Deleted)")
        imap.expunge()
    sync()
    assert len(files(mail)) == count - 10
    assert flagged(house, "ALL") == count - 10
    assert flagged(house, "FLAGGED SEEN") == 1
    assert flagged(house, 'SUBJECT "from here"') == 1
    assert sum(1 for name in files(mail) if re.search(r":2,\w*R", name)) == 10
    sync()
    first, there = files(mail), state(house)
    sync()
    assert files(mail) == first
    assert state(house) == there


NODE = """
const {ImapFlow} = require('imapflow');
const assert = require('assert');
const fs = require('fs');
const [port, secure, ca] = process.argv.slice(2);
const connect = more => new ImapFlow({
  host: 'localhost', port: Number(port), secure: secure === 'yes', doSTARTTLS: secure === 'yes' ? undefined : true,
  auth: {user: '%s', pass: '%s'}, tls: {ca: fs.readFileSync(ca)}, logger: false, ...more,
});
async function main() {
  const client = connect({qresync: true});
  await client.connect();
  assert(client.secureConnection);
  for (const one of ['CONDSTORE', 'QRESYNC']) assert(client.enabled.has(one), one);
  const lock = await client.getMailboxLock('INBOX');
  const before = {...client.mailbox};
  assert.strictEqual(before.exists, 5);
  assert(before.highestModseq > 0n);
  const found = await client.search({subject: 'number 2'}, {uid: true});
  assert.deepStrictEqual(found, [3]);
  const query = {uid: true, flags: true, envelope: true, bodyStructure: true, size: true, threadId: true, source: true};
  const seen = [];
  for await (const message of client.fetch('1:*', query)) seen.push(message);
  assert.strictEqual(seen.length, 5);
  assert.strictEqual(seen[1].envelope.subject, 'number 1');
  assert.strictEqual(seen[1].bodyStructure.type, 'text/plain');
  assert(seen[1].emailId);
  assert(seen[1].source.includes('body 1'));
  assert(await client.messageFlagsAdd('2', ['\\\\Flagged', '$own'], {uid: true}));
  const since = [];
  for await (const one of client.fetch('1:*', {uid: true, flags: true}, {changedSince: before.highestModseq}))
    since.push(one.uid);
  assert.deepStrictEqual(since, [2]);
  const name = 'Grüße';
  const made = await client.mailboxCreate(name);
  assert(made.created);
  const copied = await client.messageCopy('1:2', name, {uid: true});
  assert.deepStrictEqual([...copied.uidMap.keys()], [1, 2]);
  const moved = await client.messageMove('4', name, {uid: true});
  assert.strictEqual(moved.uidMap.get(4), 3);
  const added = await client.append(name, Buffer.from('Subject: x\\r\\n\\r\\ny\\r\\n'), ['\\\\Seen']);
  assert.strictEqual(added.uid, 4);
  const {content} = await client.download('1', undefined, {uid: true});
  let text = '';
  for await (const piece of content) text += piece;
  assert(text.includes('body 0'));
  const boxes = await client.list({statusQuery: {messages: true, unseen: true, highestModseq: true}});
  assert.strictEqual(boxes.find(box => box.path === name).status.messages, 4);
  assert(boxes.find(box => box.specialUse === '\\\\Sent'));
  // What another does is heard in IDLE.
  const other = connect({});
  await other.connect();
  await other.mailboxOpen('INBOX');
  const heard = event => new Promise(resolve => client.once(event, resolve));
  // It does not count what VANISHED took away: with one it would think that nothing is new.
  await other.append('INBOX', Buffer.from('Subject: y\\r\\n\\r\\ny\\r\\n'));
  const exists = heard('exists'), expunged = heard('expunge'), flags = heard('flags');
  client.idle();
  await other.append('INBOX', Buffer.from('Subject: z\\r\\n\\r\\ny\\r\\n'));
  assert.strictEqual((await exists).count, 6);
  await other.messageFlagsAdd('3', ['\\\\Answered'], {uid: true});
  assert((await flags).flags.has('\\\\Answered'));
  await other.messageDelete('3', {uid: true});
  const gone = await expunged;
  assert(gone.vanished ? gone.uid === 3 : gone.seq === 3, JSON.stringify(gone));
  await other.logout();
  lock.release();
  assert(await client.getQuota('INBOX'));
  await client.mailboxDelete(name);
  await client.logout();
}
main().then(() => process.exit(0), error => { console.error(error); process.exit(1); });
"""


def test_imapflow(tmp_path: Path) -> None:
    node, npm = client("node"), client("npm")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "imapflow@1.0.171"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        missing(f"imapflow cannot be installed: {done.stderr.strip()[-300:] or 'no package registry'}")
    (tmp_path / "read.js").write_text(NODE % (BOB, PASSWORD))
    for service, secure in (("imap", "no"), ("imaps", "yes")):

        def test(house: House, ca: str, service: str = service, secure: str = secure) -> None:
            fill(house, 5)
            call(node, "read.js", str(house.ports[service]), secure, ca, cwd=tmp_path)

        (tmp_path / service).mkdir()
        run(tmp_path / service, test)
