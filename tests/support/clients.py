"""Programs and packages of other people: where they are, and what to do where they are not.

A program or package that is not installed, or lacks the part that a test needs, is skipped with the reason; where
POSTHOUSE_TEST_CLIENTS=required (.ci/run) it fails.
"""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

# Some are Python packages, installed beside this interpreter.
PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin"


def missing(what: str) -> NoReturn:
    """Skip the test, or fail where nothing may be missing."""
    if os.environ.get("POSTHOUSE_TEST_CLIENTS") == "required":
        pytest.fail(f"{what}, and it is required here")
    pytest.skip(what, allow_module_level=True)


def package(name: str) -> Any:
    """A Python package, which is a judge of ours; also for the head of a module."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"the Python package {name.partition('.')[0]} is not installed (pip install '.[dev]')")


def client(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name, path=PATH)
    if path is None:
        missing(f"{name} is not installed")
    if name == "swaks" and "TLS supported" not in _support(path):
        # Debian only recommends what swaks needs for TLS.
        missing("swaks has no TLS: the Perl module Net::SSLeay (libnet-ssleay-perl) is not installed")
    return path


def _support(swaks: str) -> str:
    return subprocess.run([swaks, "--support"], capture_output=True, text=True, timeout=30, check=False).stdout
