"""The change feed: who wants to know what was committed, told on the event loop after each commit.

A listener must be quick and must not raise; one that raises is logged by the event loop and the
others are told all the same.
"""

import asyncio
from collections.abc import Callable

from posthouse.store.model import Change

Listener = Callable[[list[Change]], None]


class ChangeFeed:
    """Listeners by account; account 0 stands for changes that belong to none."""

    def __init__(self) -> None:
        self._listeners: dict[int, dict[Listener, None]] = {}

    def subscribe(self, account_id: int, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the changes of an account from now on; the returned function ends that."""
        self._listeners.setdefault(account_id, {})[listener] = None

        def unsubscribe() -> None:
            listeners = self._listeners.get(account_id)
            if listeners is not None:
                listeners.pop(listener, None)
                if not listeners:
                    del self._listeners[account_id]

        return unsubscribe

    def publish(self, changes: list[Change]) -> None:
        """Tell the listeners of each account about its changes."""
        by_account: dict[int, list[Change]] = {}
        for change in changes:
            by_account.setdefault(getattr(change, "account_id", 0), []).append(change)
        for account_id, mine in by_account.items():
            for listener in list(self._listeners.get(account_id, ())):
                try:
                    listener(mine)
                except Exception as error:
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": "a listener of the change feed failed", "exception": error}
                    )
