"""When to try again: a pure table of waits. The first attempt is at once; the last wait repeats."""

from collections.abc import Sequence


def next_attempt(waits: Sequence[float], attempts: int, now: int, jitter: float) -> int:
    """The time (microseconds) of the attempt after `attempts` failed ones.

    `waits` are seconds, the first after the first attempt; `jitter` in [0, 1) spreads recipients that failed
    together over a tenth of the wait, so that they do not come back together.
    """
    wait = waits[min(max(attempts, 1), len(waits)) - 1]
    return now + int(wait * (1 + jitter / 10) * 1_000_000)
