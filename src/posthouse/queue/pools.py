"""Own addresses to connect from: each connection takes the next one, and says the name that goes with it.

A pool has addresses of one family or of both; with addresses of one only, nothing of the other family is connected to:
mail must not leave from an address that nobody chose. Whether they are on this machine is looked at by `config check`;
if one is not, connections from it fail, and the next attempt takes the next address.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple


class Source(NamedTuple):
    """An address and its name in EHLO."""

    address: str
    helo: str


class Pool:
    """One pool. It remembers whose turn it is, so there is one object for all routes that use it."""

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        self.name = name
        self._names = {source.address: source.helo for source in sources}
        self._turns = [deque(s.address for s in sources if (":" in s.address) is six) for six in (True, False)]

    def __repr__(self) -> str:
        return f"Pool({self.name!r})"

    def turn(self) -> tuple[str, ...]:
        """The addresses for the next connection: one of each family that there is."""
        chosen = []
        for turns in self._turns:
            if turns:
                chosen.append(turns[0])
                turns.rotate(-1)
        return tuple(chosen)

    def reaches(self, address: str) -> bool:
        """Whether there is an address of its family."""
        return bool(self._turns[0 if ":" in address else 1])

    def helo(self, address: str) -> str:
        """What to call ourselves on a connection from this address."""
        return self._names[address]

    @property
    def names(self) -> frozenset[str]:
        """All names in it."""
        return frozenset(self._names.values())
