"""When to try again: a table of waits, and the rule how to read it. Pure: time and chance are passed in.

The first attempt is at once; the last wait repeats; the last attempt is made when the message expires.
"""

from collections.abc import Sequence

SPREAD = 0.1  # waits are longer by up to this share, so that what failed together does not come back together


def next_attempt(waits: Sequence[float], attempts: int, now: int, expires: int, chance: float) -> int | None:
    """The time (microseconds) of the next attempt after `attempts` of them, or None: it is time to give up.

    `waits` are seconds, the first after the first attempt; `chance` is in [0, 1).
    """
    if now >= expires:
        return None
    wait = waits[min(max(attempts, 1), len(waits)) - 1]
    return min(now + int(wait * (1 + SPREAD * chance) * 1_000_000), expires)
