"""For all tests: every one begins with the log in a memory of its own, whatever the one before did to it."""

import io

import pytest

from posthouse.base import log


@pytest.fixture(autouse=True)
def _own_log() -> None:
    log.configure("json", "warning", io.BytesIO())
