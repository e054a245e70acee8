"""The messages of a mailbox as one POP3 session sees them: numbered once, when it opened (RFC 1939 section 4).

It knows sizes and unique ids, and which messages are marked for deletion. Listings come in slices, so that
a mailbox of a million messages is told in bounded memory.
"""

from array import array
from collections.abc import Iterator

SLICE = 1000  # lines


class Maildrop:
    """Message `n` (from 1) has `uids[n - 1]` and `sizes[n - 1]`."""

    __slots__ = ("_deleted", "_deleted_size", "_size", "sizes", "uids", "uidvalidity")

    def __init__(self, uidvalidity: int, uids: "array[int]", sizes: "array[int]") -> None:
        self.uidvalidity = uidvalidity
        self.uids = uids
        self.sizes = sizes
        self._size = sum(sizes)
        self._deleted: set[int] = set()
        self._deleted_size = 0

    @property
    def count(self) -> int:
        """Messages that are not marked."""
        return len(self.uids) - len(self._deleted)

    @property
    def size(self) -> int:
        """Their octets."""
        return self._size - self._deleted_size

    @property
    def deleted(self) -> tuple[int, ...]:
        """The numbers of the marked messages, ascending."""
        return tuple(sorted(self._deleted))

    def __contains__(self, number: int) -> bool:
        return 0 < number <= len(self.uids)

    def is_deleted(self, number: int) -> bool:
        """Whether a message is marked for deletion."""
        return number in self._deleted

    def delete(self, number: int) -> None:
        """Mark a message, once."""
        self._deleted.add(number)
        self._deleted_size += self.sizes[number - 1]

    def reset(self) -> None:
        """Unmark all."""
        self._deleted.clear()
        self._deleted_size = 0

    def list_line(self, number: int) -> bytes:
        """A scan listing."""
        return b"%d %d" % (number, self.sizes[number - 1])

    def uidl_line(self, number: int) -> bytes:
        """A unique-id listing: UIDVALIDITY and UID, so it never changes and never comes again."""
        return b"%d %d.%d" % (number, self.uidvalidity, self.uids[number - 1])

    def listing(self, unique_ids: bool) -> Iterator[bytes]:
        """All lines of LIST or UIDL with their line ends, a slice at a time."""
        for first in range(0, len(self.uids), SLICE):
            numbers = range(first + 1, min(first + SLICE, len(self.uids)) + 1)
            template = b"%%d %d.%%d\r\n" % self.uidvalidity if unique_ids else b"%d %d\r\n"
            values = self.uids if unique_ids else self.sizes
            gone = self._deleted
            yield b"".join([template % (n, values[n - 1]) for n in numbers if n not in gone])
