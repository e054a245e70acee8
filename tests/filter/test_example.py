"""The example of a policy works."""

from pathlib import Path

from posthouse.filter import hooks

EXAMPLE = Path(__file__).parents[2] / "examples" / "policy.py"


def test_the_example() -> None:
    found = hooks.load(EXAMPLE)
    assert set(found) == {"mail", "recipient", "headers", "deliver"}
    mail = hooks.Mail("s", "smtp", "192.0.2.1", "", "", "mx.test", "", "a@partner.example", None)
    assert found["mail"](mail).action == "refuse"
    base = ("s", "smtp", "192.0.2.1", "", "TLSv1.3", "mx.test", "", "a@partner.example", None)
    assert found["mail"](hooks.Mail(*base)) is None
    assert found["recipient"](hooks.Rcpt(*base, "everybody@example.org", ())).text == "This list is for members"
    words = ("pass", "pass", "pass")
    copy = hooks.Deliver(
        *base, ("b@example.org",), *words, (("List-Unsubscribe", "<https://x.example>"),), "b@example.org"
    )
    assert found["deliver"](copy) == hooks.into("Archive")
