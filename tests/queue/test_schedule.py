"""The table of retries."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.base.settings import Settings
from posthouse.queue.schedule import SPREAD, next_attempt
from tests.support.clock import START

SECOND = 1_000_000
WAITS = Settings().queue.retry
DAY = 86_400 * SECOND


def attempts_of(lifetime: int, chance: float = 0.0) -> list[int]:
    """Seconds after the start of each attempt of a message that is never taken."""
    now, expires, times = START, START + lifetime, [0]
    while (at := next_attempt(WAITS, len(times), now, expires, chance)) is not None:
        assert at > now
        times.append((at - START) // SECOND)
        now = at
    return times


def test_the_first_day() -> None:
    minutes = [second // 60 for second in attempts_of(5 * DAY)]
    assert minutes[:6] == [0, 1, 4, 11, 26, 56]
    assert minutes[6:16] == [56 + 60 * n for n in range(1, 11)]
    assert minutes[16:18] == [656 + 240, 656 + 480]


def test_the_last_attempt_is_when_the_message_expires() -> None:
    times = attempts_of(5 * DAY)
    assert times[-1] == 5 * 86_400
    assert len(times) < 60
    assert attempts_of(30 * SECOND) == [0, 30]


def test_expired_is_the_end() -> None:
    assert next_attempt(WAITS, 1, START, START, 0.0) is None
    assert next_attempt(WAITS, 1, START + 1, START, 0.0) is None


def test_own_waits() -> None:
    assert next_attempt([5, 7], 1, 0, DAY, 0.0) == 5 * SECOND
    assert next_attempt([5, 7], 9, 0, DAY, 0.0) == 7 * SECOND


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_chance_spreads_but_never_shortens(attempts: int, chance: float) -> None:
    wait = WAITS[min(attempts, len(WAITS)) - 1]
    at = next_attempt(WAITS, attempts, START, START + 30 * DAY, chance)
    assert at is not None
    assert wait * SECOND <= at - START <= wait * (1 + SPREAD) * SECOND
