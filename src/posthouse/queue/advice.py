"""What follows from the meaning of a reply for the next attempt. Pure.

The rules of retrying stay those of the settings (`queue.retry`); a known reply bends them: a server that asks to come
again in a few minutes is asked again in a few minutes, one that is given too much is left alone for longer.
"""

from collections.abc import Iterable, Sequence

from posthouse.queue.patterns import RATE_LIMITED, Meaning

SOON = 600.0  # seconds at the most until a server that does not know us yet is asked again
SOON_ATTEMPTS = 12  # so often; one that still asks to wait then is treated as any other
SLOW = 1800.0  # seconds at the least until a server that got too much is tried again


def waits(usual: Sequence[float], meaning: Meaning | None, attempts: int) -> Sequence[float]:
    """The waits (seconds) to go by after `attempts` of them; for `queue/schedule.py`."""
    retry = meaning.retry if meaning is not None else "usual"
    if retry == "soon" and attempts <= SOON_ATTEMPTS:
        return [min(wait, SOON) for wait in usual]
    if retry in ("slow", "later"):
        return [max(wait, SLOW) for wait in usual]
    return usual


def slow_down(meanings: Iterable[Meaning | None]) -> bool:
    """Whether a server said that it gets too much of us: for those who decide how much goes there at a time."""
    return any(meaning is not None and meaning.meaning == RATE_LIMITED for meaning in meanings)
