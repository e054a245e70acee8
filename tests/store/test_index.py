"""The search index says what reading the messages says; it is made anew when it must be."""

import asyncio
import base64
import functools
import quopri
import random
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.imap import keys
from posthouse.imap.keys import Key
from posthouse.mime.folding import fold, fold_wanted
from posthouse.store.blobs.files import BlobFiles, Keys
from posthouse.store.database import Tx
from posthouse.store.index import file as index_file
from posthouse.store.index import query, rows
from posthouse.store.index.gather import gather
from posthouse.store.index.rows import Mark, Said
from posthouse.store.sqlite import SqliteFile
from tests.support.imap_site import ImapSite
from tests.support.indexed import Indexed, found
from tests.support.store import opened

# Pieces that make trouble: case and forms of Unicode, scripts without blanks, marks of the question language, blanks.
PIECES = [
    "abc", "ABCD", "bcd", "zeppelin", "Straße", "STRASSE", "ﬁnal", "final", "İstanbul", "istanbul", "ǅ", "ſ", "é",
    "e\u0301",
    "山田", "山", "田太郎", "カタカナ", "ｶﾀｶﾅ", "서울", "서", "ไทย", "ภาษา", "𠮷野家", "😀", "😀😀",
    '"', '""', "'", "*", "^", "(", ")", "{a}", "col:", ":", "+", "-", "AND", "OR", "NOT", "NEAR(", "%", "_", "\\", "/",
    " ", "  ", "\t", "\u00a0", "\u3000", "\u2003", "\u200b", "\ufeff", "\u0000", "\u001f", "a.b@c.example", "@", "x",
    "a", "ab", "ba",
    "<b>", "</b>", "&amp;", "&#65;", "<script>", "=?utf-8?q?abc?=", "=", "=41", "--x", "\ufffd",
]  # fmt: skip
NAMES = ["Subject", "From", "To", "Cc", "Bcc", "X-Spam", "SUBJECT", "Sender"]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6).map("".join)
letters = st.sampled_from([p for p in PIECES if p.strip() and p.isprintable()])


def clean(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace").decode()


@st.composite
def mails(draw: st.DrawFn) -> bytes:
    """A mail with headers and texts in several encodings."""
    lines: list[bytes] = []
    for name in draw(
        st.lists(st.sampled_from(["Subject", "From", "To", "Cc", "Bcc", "X-Spam", "SUBJECT", "Sender"]), max_size=6)
    ):
        text = clean(draw(texts)).replace("\0", "")
        form = draw(st.integers(0, 3))
        if form == 0:
            value = b"=?utf-8?b?" + base64.b64encode(text.encode()) + b"?="
        elif form == 1:
            value = text.encode()
        elif form == 2:
            value = text.encode() + b"\r\n " + draw(letters).encode()
        else:
            value = b'"' + text.replace('"', "").encode() + b'" <a.b (note) @ c.example>, (x) bob@d.example'
        lines.append(name.encode() + b": " + value + b"\r\n")
    body = draw(texts)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return b"".join(lines) + b"\r\n" + body.encode()
    if kind == 1:
        lines.append(b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n")
        return b"".join(lines) + b"\r\n" + base64.encodebytes(f"<p>{body}</p>".encode())
    if kind == 2:
        lines.append(b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n")
        return b"".join(lines) + b"\r\n" + quopri.encodestring(body.encode())
    inner = draw(texts).encode()
    lines.append(b"Content-Type: multipart/mixed; boundary=x\r\n")
    file_name = clean(draw(texts)).replace('"', "").encode()
    return (
        b"".join(lines)
        + b"\r\n--x\r\n\r\n"
        + body.encode()
        + b'\r\n--x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="'
        + file_name
        + b'"\r\n\r\nbinary\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: in '
        + draw(letters).encode()
        + b"\r\n\r\n"
        + inner
        + b"\r\n--x--\r\n"
    )


def _ids(question: query.Question, tx: Tx) -> list[int]:
    [(table, match)] = question.asked
    return list(rows.ids(tx, 2, table, match))


def test_the_index_knows_exactly_which_texts_hold_a_text(tmp_path: Path) -> None:
    """Thousands of texts against as many questions, on the tables themselves."""
    dice = random.Random(5)
    bodies = ["".join(dice.choices(PIECES, k=dice.randint(1, 5))) for _ in range(1500)]
    bodies[:7] = ["山x田", "山 田", "田山", "山\n田", "山田", "山a山田", "ｶﾞ山"]
    said = [Said(2, n + 1, fold(text), "", "", "", "", "", fold(text)) for n, text in enumerate(bodies)]
    said += [one._replace(account_id=account) for account in (1, 3) for one in said[:50]]
    wanted = [*PIECES, *(a + b for a in PIECES for b in dice.sample(PIECES, 8))]
    wanted += [text[at : at + 3] for text in bodies[::10] for at in range(len(text))]
    file = SqliteFile(tmp_path / "search.db", Keys(b"a key"), BlobFiles(tmp_path, Keys(None)))
    file.write(lambda tx: rows.make(tx, "1", "x"))
    file.write(lambda tx: rows.put(tx, said))
    asked = 0
    for text in dict.fromkeys(wanted):
        for key in (keys.Text(keys.Scope.BODY, text), keys.Header("subject", text)):
            question = query.question(key)
            if question is None or text == "":
                continue
            assert question.exact
            ids = file.read(functools.partial(_ids, question))
            assert ids == [one.email_id for one in said[:1500] if fold_wanted(text) in one.body], text
            asked += bool(ids)
    assert asked > 500
    file.close()


DATA = st.data()
leaf: st.SearchStrategy[Key] = st.one_of(
    st.builds(keys.Header, st.sampled_from(["subject", "from", "to", "cc", "bcc", "x-spam", "sender", "a b"]), texts),
    st.builds(keys.Text, st.sampled_from(list(keys.Scope)), texts),
    st.builds(keys.Text, st.sampled_from(list(keys.Scope)), letters),
    st.builds(keys.Header, st.sampled_from(["subject", "from"]), letters),
    st.sampled_from(
        [keys.All(), keys.Flag(1, True), keys.Flag(4, False), keys.Size(True, 300), keys.Day(keys.Field.SENT, 1, None)]
    ),
    st.integers(1, 8).map(lambda low: keys.Uids(((low, low + 3),))),
)
trees: st.SearchStrategy[Key] = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds(keys.Not, inner),
        st.builds(keys.Or, inner, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: keys.And(tuple(parts))),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(mails(), min_size=1, max_size=10),
    st.lists(trees, min_size=1, max_size=25),
    st.integers(0, 4),
    st.booleans(),
    st.data(),
)
def test_index_and_scan_find_the_same(
    many: list[bytes], wanted: list[Key], later: int, halves: bool, data: st.DataObject
) -> None:
    async def main() -> None:
        async with opened() as database:
            site = await ImapSite.make(database)
            async with Indexed(database) as indexed:
                flags = random.Random(1)
                for number, mail in enumerate(many):
                    if number == len(many) - later:
                        await indexed.catch_up()
                    await site.deliver(mail, flags=flags.choice(["", "\\Seen", "\\Flagged"]))
                if not later:
                    await indexed.catch_up()
                said = (await database.read(gather, Mark(0, 0), None, 60.0)).said
                for one in said:
                    for name in ("subject", "from_", "cc", "body", "header"):
                        text = getattr(one, name)
                        at, length = data.draw(st.tuples(st.integers(0, len(text)), st.integers(1, 8)))
                        piece = text[at : at + length]
                        if name in ("body", "header"):
                            wanted.append(keys.Text(keys.Scope.BODY if name == "body" else keys.Scope.TEXT, piece))
                        else:
                            wanted.append(keys.Header(name.strip("_"), piece))
                for key in wanted:
                    scanned = await database.read(found, key, False)
                    assert await database.read(found, key, True) == scanned, key

    with patch.object(index_file, "LARGE", 1 if halves else 20_000):
        asyncio.run(main())
