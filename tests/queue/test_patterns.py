"""What replies mean: a table of real-looking ones, no row of the data is dead, and hostile texts cost little."""

import re
from pathlib import Path

import pytest

from posthouse.queue import patterns
from posthouse.queue.patterns import MAX_TEXT, check_regex, match, parse

Row = tuple[str, str, int, str, str]


def rows() -> list[Row]:
    found = []
    for line in (Path(__file__).parents[1] / "tables" / "replies.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, host, code, status, text = [part.strip() for part in line.split("|", 4)]
            found.append((name, host, int(code), status, text.replace(" / ", "\n")))
    return found


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{row[2]}")
def test_a_reply_is_understood(row: Row) -> None:
    name, host, code, status, text = row
    found = match(host, code, status, text)
    assert (found.id if found is not None else "-") == name
    if found is not None:
        # A permanent code is tried again only where that is known to help; a temporary one is not given up here.
        assert found.retry in (("never", "later") if code >= 500 else ("usual", "soon", "slow"))
        for sentence in (found.what, found.sender, found.operator):
            assert sentence.endswith((".", ":"))
            assert len(sentence) < 300


def test_no_pattern_is_dead() -> None:
    assert {pattern.id for pattern in patterns.patterns()} == {row[0] for row in rows()} - {"-"}


def test_what_is_known_to_pass_is_tried_again_although_its_code_is_final() -> None:
    found = {p.id for p in patterns.patterns() if p.permanent.retry == "later"}
    assert found == {"gmail-recipient-busy", "microsoft-recipient-busy", "greylisted-for-good", "qq-frequency"}


def test_a_host_is_one_of_a_name_and_below_it_only() -> None:
    text = "The email account that you tried to reach is over quota."
    for host in ("google.com", "Gmail-SMTP-In.l.Google.com."):
        found = match(host, 552, "", text)
        assert found is not None
        assert found.id == "gmail-full"
    for host in ("", "google.com.example.net", "notgoogle.com", "com", ".", "a." * 200 + "example"):
        found = match(host, 552, "", text)
        assert found is not None
        assert found.id == "mailbox-full"


def test_only_the_beginning_of_a_text_is_looked_at() -> None:
    assert match("mx.example", 550, "", "x" * (MAX_TEXT - 12) + "user unknown") is not None
    assert match("mx.example", 550, "", "x" * (MAX_TEXT - 11) + "user unknown") is None
    # The cost is that of the part that is looked at: a megabyte is cut before anything is searched in it.
    for text in ("\0" * 2**20, "recipients" * 2**17, "permanent failure for one or more recipients " * 2**15):
        match("x.ess.barracudanetworks.com", 550, "5.0.0", text)
    assert match("mx.example", 250, "", "user unknown") is None
    assert match("mx.example", 999, "", "user unknown") is None


@pytest.mark.parametrize(
    "regex",
    [
        "a*",
        "(?:a|b)+",
        "a{1,2}b{1,2}",
        "(?:ab){1,9}",
        "a{1,999}",
        "a{3}",
        "a?b?c?d?e?",
        "(?=a)",
        "(a)\\1",
        "\\w",
        "a*?",
    ],
)
def test_an_expression_that_could_cost_much_is_refused(regex: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        check_regex(regex)


@pytest.mark.parametrize("regex", ["recipients.{0,80}:blocked", r"(?:a|b) \(s[*+]c\)", r"1\.2", "colou?r"])
def test_an_expression_with_a_bound_is_taken(regex: str) -> None:
    check_regex(regex)
    re.compile(regex)


HEAD = """
[hosts]
here = ["here.test"]
[meaning.full]
what = "Full."
sender = "Wait."
operator = "Nothing."
[[pattern]]
id = "one"
provider = ""
meaning = "full"
codes = [5]
"""


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("", "match everything"),
        ('has = ["Full"]', "lower case"),
        ('has = ["ab"]', "three letters"),
        ('has = ["full"]\ntext = "a*"', "without bound"),
        ('has = ["full"]\nretry = "often"', "retry is one of"),
        ('has = ["full"]\nhosts = "there"', "there"),
        ('has = ["full"]\ncolour = "red"', "colour"),
        ('has = ["full"]\n[[pattern]]\nid = "one"\nprovider = ""\nmeaning = "full"\ncodes = [4]\nhas = ["x y"]', "two"),
    ],
)
def test_a_mistake_in_the_data_is_named(rest: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="pattern one") as caught:
        parse(HEAD + rest)
    assert complaint in str(caught.value)


def test_a_pattern_may_say_it_in_other_words() -> None:
    (one,) = parse(HEAD + 'has = ["full"]\nhosts = "here"\nwhat = "Really full."')
    assert one.permanent == ("one", "", "full", "Really full.", "Wait.", "Nothing.", "never")
    assert one.temporary.retry == "usual"
    assert one.hosts == ("here.test",)
