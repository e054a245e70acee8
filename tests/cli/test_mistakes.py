"""Mistakes in configuration, filters and calls are told where they are made."""

from pathlib import Path

import pytest

from posthouse import config
from posthouse.base.filter_settings import Rate
from posthouse.cli.main import leading
from posthouse.filter.hooks import load, where
from posthouse.filter.limits import Limiter


def problems(tmp_path: Path, text: str) -> str:
    text = f"hostname = 'mail.example.org'\ndata = '{tmp_path}'\n{text}"
    found = config.check(config.parse(text, "x.toml", tmp_path), "x.toml", text)
    return "\n".join(str(one) for one in found)


def test_the_policy_is_loaded_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text("def on_mial(mail):\n    return None\n")
    assert "on_mial" in problems(tmp_path, "[filter]\npolicy = 'policy.py'\n")
    (tmp_path / "policy.py").write_text("def on_mail(mail)\n")
    assert "policy.py:1" in problems(tmp_path, "[filter]\npolicy = 'policy.py'\n")


def test_missing_files_are_told_at_their_own_lines(tmp_path: Path) -> None:
    text = "[[tls.named]]\nnames = ['a.example']\ncertificate = 'no.pem'\nkey = 'no.key'\n"
    said = problems(tmp_path, text)
    assert "x.toml:5: tls.named.certificate" in said
    assert "x.toml:6: tls.named.key" in said
    oauth = "[auth.oauth]\nissuer = 'https://i.example'\njwks = 'keys.json'\naudience = 'posthouse'\n"
    assert f"auth.oauth.jwks: {tmp_path / 'keys.json'}: there is no such file" in problems(tmp_path, oauth)


@pytest.mark.parametrize("value", ['"yes"', '"true"', "1"])
def test_truth_has_one_spelling(value: str) -> None:
    with pytest.raises(config.ConfigError, match="true or false"):
        config.parse(f"[dns]\nonly_zone = {value}\n")


def test_a_failing_hook_is_named_with_its_innermost_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.py").write_text("def on_mail(mail):\n    return inner()\n\n\ndef inner():\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    for path in (Path("policy.py"), tmp_path / "policy.py"):
        with pytest.raises(ZeroDivisionError) as raised:
            load(path)["mail"](None)
        assert where(raised.value, path).startswith(f"{path}:6: ZeroDivisionError")


def test_nobody_waits_longer_than_the_period() -> None:
    limiter = Limiter(Rate(messages_per_hour=1), "account")
    assert limiter.admit("1", "alice", 0, messages=1) is None
    over = limiter.admit("1", "alice", 1, messages=1)
    assert over is not None
    assert over.reply.text.endswith("try again in 60 min")


def test_the_configuration_may_be_named_last() -> None:
    assert leading(["config", "check", "-c", "x.toml"]) == ["-c", "x.toml", "config", "check"]
