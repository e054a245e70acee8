"""How hard a password is to guess, in words that say what would be better.

The estimate is zxcvbn's: it knows the passwords that everybody uses, names, words, dates and walks on the keyboard,
and counts how many guesses are needed. Its lists take some memory, so they are loaded where somebody chooses a
password and nowhere else.
"""

_LONGEST = 72  # characters that are looked at: the estimate takes time with the square of the length
_NAMES = (
    "can be guessed at once",
    "can be guessed within minutes",
    "can be guessed within hours",
    "is fair",
    "is good",
)


def weakness(password: str, least: int, about: tuple[str, ...] = ()) -> str:
    """Why a password is too weak, and what would be better; "" if it is not. `least` is 0 (anything) to 4 (more than
    10^10 guesses); `about` are words that are easy to guess, such as the owner's name."""
    if least <= 0:
        return ""
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]

    words = [word for text in about for word in (text, *text.replace("@", " ").replace(".", " ").split()) if word]
    found = zxcvbn(password[:_LONGEST], user_inputs=words)
    score = int(found["score"])
    if score >= least:
        return ""
    warning = str(found["feedback"]["warning"] or "").rstrip(".")
    advice = " ".join(str(one) for one in found["feedback"]["suggestions"])
    why = f" ({warning[:1].lower()}{warning[1:]})" if warning else ""
    return f"the password {_NAMES[score]}{why}. {advice or 'Use four or five words that have nothing to do together.'}"
