"""The DNS as it is asked about one message: so many questions, until a moment, and every answer remembered.

Whoever asks through it needs no time of his own and no list of what he was told: SPF, keys, policies and names are all
asked for through one `Asked`, and the trace shows its answers. What comes too late, or is one question too many, is
`Unavailable` like a name server that is silent. A question that the cache does not answer takes one of each of `places`
while it is on its way: a sender whose name servers are silent must not keep everybody else from asking.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from posthouse.net.dns import Answer, NoSuchDomain, Questions, Resolver, Unavailable, normal

MOST = 300  # questions about one message: SPF may need 110 for each identity, 20 signatures need 20
MORE = 150  # after `extend`; DMARC may need 8 of each of 5 authors and of 10 other domains
NO_SUCH_DOMAIN, NO_ANSWER = "no such domain", "no answer"


class Asked(Questions):
    """Asks `resolver` until `deadline`, in the time of the event loop; None: nobody is asked, only its cache."""

    def __init__(self, resolver: Resolver, deadline: float | None, places: Sequence[asyncio.Semaphore] = ()) -> None:
        self.had_turn = True  # False: some questions never found a place
        self._places = places
        self._resolver = resolver
        self._deadline = deadline
        self._most = MOST
        self.seen: dict[tuple[str, str], Answer | str] = {}  # by name and kind: the answer, or why there is none

    def extend(self, deadline: float) -> None:
        """There is time until then at least, and room for `MORE` questions: what was asked before, which the sender
        chose, takes nothing from what comes."""
        self._most = len(self.seen) + MORE
        if self._deadline is not None:
            self._deadline = max(self._deadline, deadline)

    @property
    def has_answers(self) -> bool:
        """Whether the DNS said anything at all."""
        return any(said is not NO_ANSWER for said in self.seen.values())

    def kept(self, name: str, kind: str) -> Answer | NoSuchDomain | None:
        """What the cache of the resolver has, which needs no time and no task."""
        look = getattr(self._resolver, "kept", None) if len(self.seen) < self._most else None
        found: Answer | NoSuchDomain | None = look(name, kind) if look is not None else None
        if found is not None:
            self.seen[normal(name), kind] = found if isinstance(found, Answer) else NO_SUCH_DOMAIN
        return found

    async def answer(self, name: str, kind: str) -> Answer:
        question = (normal(name), kind)
        kept = self.kept(name, kind)
        if isinstance(kept, Answer):
            return kept
        if kept is not None:
            raise NoSuchDomain(str(kept))
        if self._deadline is None:
            self.seen[question] = NO_ANSWER
            raise Unavailable("the DNS is not asked: too much mail waits for its answers")
        if len(self.seen) >= self._most and question not in self.seen:
            raise Unavailable(f"more than {self._most} questions to the DNS about one message")
        asks = getattr(self._resolver, "asks", None)
        is_on_its_way = asks is not None and asks(name, kind)
        try:
            async with asyncio.timeout_at(self._deadline), contextlib.AsyncExitStack() as taken:
                for place in () if is_on_its_way else self._places:
                    await taken.enter_async_context(place)
                is_on_its_way = True
                found = await self._resolver.answer(name, kind)
        except NoSuchDomain:
            self.seen[question] = NO_SUCH_DOMAIN
            raise
        except Unavailable:
            self.seen[question] = NO_ANSWER
            raise
        except TimeoutError:
            self.seen[question] = NO_ANSWER
            self.had_turn = self.had_turn and is_on_its_way
            raise Unavailable(f"no answer from the DNS for {name[:255]} {kind} in time") from None
        self.seen[question] = found
        return found
