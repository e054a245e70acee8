"""Run an async test: `@on_loop` on asyncio's own loop, `@on_both_loops` on it and then on uvloop.

A test that hangs fails after 20 seconds instead of stopping the whole run.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop


def _run(test: Callable[..., Awaitable[None]], factory: Any, args: Any, kwargs: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test(*args, **kwargs)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(limited())


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what happens beside; the test's time is the limit."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        _run(test, asyncio.new_event_loop, args, kwargs)

    return run


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        _run(test, asyncio.new_event_loop, args, kwargs)
        _run(test, uvloop.new_event_loop, args, kwargs)

    return run
