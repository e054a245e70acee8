"""Does the cost of something grow with its input, or with the square of it?"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def cost(work: Callable[[], object]) -> float:
    """CPU time of the quickest of three runs."""
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def assert_linear(work: Callable[[T], object], make: Callable[[int], T], size: int = 500) -> None:
    """Eight times the input may cost eight times as much, not sixty-four: 25 leaves room for noise."""
    small, large = make(size), make(size * 8)
    assert cost(lambda: work(large)) < 25 * cost(lambda: work(small)) + 0.005
