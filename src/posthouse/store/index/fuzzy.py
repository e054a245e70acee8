"""What FUZZY (RFC 6203) takes for alike: the word itself, a word of the same stem, a text around it, one typing error.

A text is its words; a message is alike if each of them has a word there that is like it, in any order. How much so is
its score, from 1 to 100. Stems are those of several languages at once (snowballstemmer), as nobody says which one a
mail is in: words are alike if any of these says so. Scripts without blanks have no words here: there a text is
looked for as it is.
"""

import functools
import operator
import re
import threading
from collections.abc import Callable, Iterable, Iterator

from posthouse.imap import keys
from posthouse.imap.keys import Key
from posthouse.mime.folding import fold_wanted
from posthouse.store.index.query import GRAM
from posthouse.store.index.rows import LONGEST, SHORTEST, find_words, is_unspaced, words

SAME, STEM, INSIDE, TYPO = 100, 75, 50, 25  # scores
MAX_WORDS = 12  # of a text that are looked for; beyond that it is looked for as it is
LEADING = 2  # letters that a typing error leaves alone
LONGER = 6  # letters that a word of the same stem may have more
_LONG_ENOUGH = 4  # letters in a word that may have a typing error

_LATIN = ("english", "german", "french", "spanish", "italian", "portuguese", "dutch", "swedish")
_cyrillic = re.compile("[\u0400-\u04ff]").search


def wanted(key: keys.Header | keys.Text) -> list[str]:
    """The words that a key looks for; none: it is looked for as it is."""
    folded = fold_wanted(key.text)
    found = find_words(folded)
    if not 0 < len(found) <= MAX_WORDS or any(is_unspaced(word[0]) or len(word) > LONGEST for word in found):
        return []
    return [word for word in dict.fromkeys(found) if len(word) >= SHORTEST]


def spread(key: Key, fuzzy: bool = False) -> Key:
    """A tree in which FUZZY stands only around texts that it means something for, each by itself (RFC 6203 section 5:
    the others are matched exactly)."""
    match key:
        case keys.Fuzzy(inner):
            return spread(inner, True)
        case keys.And(parts):
            return keys.And(tuple(spread(part, fuzzy) for part in parts))
        case keys.Or(one, other):
            return keys.Or(spread(one, fuzzy), spread(other, fuzzy))
        case keys.Not(inner):
            return keys.Not(spread(inner, fuzzy))
        case keys.Text() if fuzzy and wanted(key):
            return keys.Fuzzy(key)
        case keys.Header(name, _) if fuzzy and name in ("subject", "from", "to", "cc", "bcc") and wanted(key):
            return keys.Fuzzy(key)
    return key


def likeness(word: str, other: str) -> int:
    """How much another word is like one: a score, 0 if it is not. (What is `INSIDE`, texts tell.)"""
    if word == other:
        return SAME
    related = len(other) <= len(word) + LONGER and other.startswith(_beginning(word))
    if related and any(map(operator.eq, stems(word), stems(other))):
        return STEM
    return TYPO if is_typo(word, other) else 0


def is_typo(word: str, other: str) -> bool:
    """Is one letter left out, put in, another one, or changed places with its neighbour?"""
    short, long = (word, other) if len(word) <= len(other) else (other, word)
    if len(long) - len(short) > 1 or len(word) < _LONG_ENOUGH or word[:LEADING] != other[:LEADING]:
        return False
    at = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    return short[at + 1 :] == long[at + 1 :] or (
        short[at : at + 2] == long[at : at + 2][::-1] and short[at + 2 :] == long[at + 2 :]
    )


@functools.lru_cache(20_000)
def stems(word: str) -> tuple[str, ...]:
    """What each language makes of a word; of what is no word of letters, nothing."""
    if not word.isalpha() or len(word) < 3:
        return ()
    if _cyrillic(word):
        return (_stemmer("russian")(word),)
    return tuple(_stemmer(language)(word) for language in _LATIN)


@functools.lru_cache
def _stemmer(language: str) -> Callable[[str], str]:
    import snowballstemmer  # all its languages are loaded: only who searches so needs them

    # A stemmer holds the word that it works on: each thread has its own.
    local = threading.local()

    def stem(word: str) -> str:
        if not hasattr(local, "stemmer"):
            local.stemmer = snowballstemmer.stemmer(language)
        return str(local.stemmer.stemWord(word))

    return stem


def score(key: keys.Header | keys.Text, found: Iterable[tuple[str, bool]]) -> int:
    """How much folded texts are like what a key looks for: the mean of its words, 0 if one is like nothing there. With
    each text it says whether it is looked at word by word, or only for what it holds."""
    best = dict.fromkeys(wanted(key), 0)
    for text, by_word in found:
        some = words(text) if by_word else set()
        for word, so_far in best.items():
            if word in some:
                best[word] = SAME
            elif so_far < STEM:
                near = [likeness(word, other) for other in some if other[0] == word[0]]
                if len(word) >= GRAM and word in text:
                    near.append(INSIDE)
                best[word] = max(so_far, *near, 0)
    return mean(best.values())


def mean(scores: Iterable[int]) -> int:
    """The score of several words."""
    found = list(scores)
    return 0 if not found or 0 in found else max(1, sum(found) // len(found))


@functools.lru_cache(1000)
def _beginning(word: str) -> str:
    """How words of the same stem begin: as the shortest stem does, whose last letter may be another one."""
    shortest = min((len(stem) for stem in stems(word)), default=len(word))
    return word[: max(3, min(shortest, len(word)) - 1)]


def beginnings(word: str) -> Iterator[tuple[str, int, int]]:
    """Where words like this one stand in a list of words in order: how they begin, and their least and greatest length
    in letters."""
    yield _beginning(word), SHORTEST, len(word) + LONGER  # of the same stem
    if len(word) >= _LONG_ENOUGH:
        yield word[:LEADING], len(word) - 1, len(word) + 1  # with a typing error
