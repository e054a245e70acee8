"""FUZZY asked of the index: which emails are like what a key looks for, and how much."""

import dataclasses
from array import array
from collections.abc import Callable

from posthouse.imap import keys
from posthouse.store.database import Tx
from posthouse.store.index import fuzzy, query, rows

MAX_LOOKED = 5000  # words of the index looked at for one word, of each beginning
MAX_ALIKE = 200  # of them that are asked for

Ask = Callable[[str, str], "array[int]"]


def scores(tx: Tx, ask: Ask, key: keys.Fuzzy) -> dict[int, int]:
    """Scores by email. `ask` gives the emails that answer to a question in a table."""
    inner = key.key
    assert isinstance(inner, keys.Header | keys.Text)
    if isinstance(inner, keys.Header):
        letters = rows.LETTERS[inner.name]
    else:
        letters = rows.LETTERS["body"] if inner.scope is keys.Scope.BODY else "".join(rows.LETTERS.values())
    of_words = [_of_word(tx, ask, inner, word, letters) for word in fuzzy.wanted(inner)]
    shared = set(of_words[0]).intersection(*of_words[1:])
    return {email_id: fuzzy.mean(one[email_id] for one in of_words) for email_id in shared}


def _of_word(tx: Tx, ask: Ask, inner: keys.Header | keys.Text, word: str, letters: str) -> dict[int, int]:
    alike: dict[int, list[str]] = {fuzzy.TYPO: [], fuzzy.STEM: [], fuzzy.SAME: []}
    for letter in letters:
        others = {word}
        for start, least, most in fuzzy.beginnings(word):
            others.update(
                other for other in rows.beginning(tx, letter, start, MAX_LOOKED) if least <= len(other) <= most
            )
        for other in sorted(others):
            found = fuzzy.likeness(word, other)
            if found in alike and len(alike[found]) < MAX_ALIKE:
                alike[found].append(letter + other)
    result: dict[int, int] = {}
    for score in sorted((*alike, fuzzy.INSIDE)):
        if score == fuzzy.INSIDE:
            question = query.question(dataclasses.replace(inner, text=word))
            asked = question.asked if question is not None and len(word) >= query.GRAM else ()
        else:
            asked = (("word", " OR ".join([f'"{term}"' for term in alike[score]])),) if alike[score] else ()
        for table, match in asked:
            result.update(dict.fromkeys(ask(table, match), score))
    return result
