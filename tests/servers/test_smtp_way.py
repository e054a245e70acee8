"""What contents pass on their way into the store: what may take long is done on a thread, nothing else is."""

from pathlib import Path

import pytest

from posthouse.servers.smtp.authentication import Passage
from posthouse.servers.smtp.signed import LONG_HEADER, MANY_LINES, Way
from tests.servers.test_authentication import message, run, send
from tests.support.house import House

HEADER = b"From: ann@example.org\r\nSubject: hi\r\n"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([HEADER + b"\r\nhello\r\n"], [False]),
        ([HEADER, HEADER, b"\r\nhello\r\n", b"a\r\n" * 10_000], [False] * 4),
        ([HEADER + b"\r\n" + b"a\r\n" * 10_000, b"a\r\n" * 10_000], [False, False]),
        ([b"a:\r\n" * (MANY_LINES + 1)], [True]),
        ([b"a:\r\n" * (MANY_LINES + 1) + b"\r\n", b"a\r\n" * 10_000], [True, False]),
        ([b"a:\r\n" * MANY_LINES] * 20, [False] * 13 + [True] * 7),
        ([b"a" * LONG_HEADER, b"a", b"\r\n\r\n", b"a"], [False, True, True, False]),
        ([b"\n" + b"a:\n" * 10_000, b"a:\n" * 10_000], [False, False]),
    ],
)
def test_long_headers_are_looked_at_on_a_thread(pieces: list[bytes], expected: list[bool]) -> None:
    way = Way(Passage("mail.posthouse.test", "mail.posthouse.test", verify=True), None)
    assert [way.takes_long(piece) for piece in pieces] == expected


def test_a_message_with_many_fields_comes_in_as_it_is(tmp_path: Path) -> None:
    many = b"".join(b"X-%d: a\r\n" % number for number in range(15_000))

    async def test(house: House) -> None:
        for raw in (message("ann@good.test", above=many), message("ann@good.test")[:-9] + many):
            assert (await send(house, "ann@good.test", raw)).startswith("250 ")
            (kept,) = (await house.inbox("bob"))[-1:]
            assert kept.endswith(raw)

    run(tmp_path, test)
