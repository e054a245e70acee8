"""A judge that is not there must be missed where nothing may be missing: tests are skipped by `support/clients.py`,
which fails them in .ci/run, and by nothing else but what says something about the machine.
"""

import re
from pathlib import Path

import pytest

from tests.support import clients

HERE = Path(__file__).parent
# No program is missing there: a machine without IPv6, a system without /proc.
ALLOWED = {"cli/test_demo.py": 1, "cli/test_serve.py": 1, "support/clients.py": 1}
_skips = re.compile(r"importor" r"skip|pytest\.skip\(|mark\.skip|unittest\.skip|SkipTest").findall


def test_only_one_place_skips() -> None:
    found = {
        path.relative_to(HERE).as_posix(): len(skips)
        for path in sorted(HERE.rglob("*.py"))
        if path != Path(__file__) and (skips := _skips(path.read_text("utf-8")))
    }
    assert found == ALLOWED


def test_what_is_missing_fails_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, kind in (("required", pytest.fail.Exception), ("", pytest.skip.Exception)):
        monkeypatch.setenv("POSTHOUSE_TEST_CLIENTS", value)
        with pytest.raises(kind, match="no-such-program is not installed"):
            clients.client("no-such-program")
        with pytest.raises(kind, match="no_such_package is not installed"):
            clients.package("no_such_package.part")


def test_all_programs_are_installed_where_they_are_required() -> None:
    script = (HERE.parent / ".ci/run").read_text("utf-8")
    texts = [path.read_text("utf-8") for path in HERE.rglob("test_*.py") if path != Path(__file__)]
    wanted = {name for text in texts for name in re.findall(r"(?<!\.)\bclient\(\"([a-z-]+)\"\)", text)}
    wanted -= {"getmail"}  # of the extra "dev"
    needed = set(re.findall(r"[ (\n]([a-z-]+):[a-z0-9-]+", script))
    needed |= {"smtp-sink"} if "smtp-source" in needed else set()  # both of Postfix
    assert wanted <= needed, f".ci/run does not install {sorted(wanted - needed)}"
