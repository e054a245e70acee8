"""What threads are made of: the base subject (RFC 5256 section 2.1). Takes decoded text, one line."""

import re

# subj-refwd   = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
# subj-blob    = "[" *BLOBCHAR "]" *WSP
# subj-leader  = (*subj-blob subj-refwd) / WSP
# subj-trailer = "(fwd)" / WSP
_blob = re.compile(r"\[[^\[\]]*+\][ \t]*+").match
_refwd = re.compile(r"(?i:re|fwd?)[ \t]*+(?:\[[^\[\]]*+\][ \t]*+)?:").match
_blanks = re.compile(r"\s+")


def base_subject(subject: str) -> tuple[str, bool]:
    """The subject without what replies and forwards add to it, and whether there was any of that."""
    text = _blanks.sub(" ", subject)
    at, end = 0, len(text)
    is_reply = False
    while True:
        # Trailers (step 2)
        while True:
            if end > at and text[end - 1] == " ":
                end -= 1
            elif end - 5 >= at and text[end - 5 : end].lower() == "(fwd)":
                end -= 5
                is_reply = True
            else:
                break
        # Leaders (step 3), then blobs that have something behind them (step 4), as long as there are any (step 5)
        while True:
            while at < end and text[at] == " ":
                at += 1
            start = at
            while (match := _blob(text, start, end)) is not None:
                start = match.end()
            if (match := _refwd(text, start, end)) is not None:
                at = match.end()
                is_reply = True
            else:
                while (match := _blob(text, at, end)) is not None and match.end() < end:
                    at = match.end()
                break
        # "[fwd: ...]" (step 6)
        if text[at : at + 5].lower() == "[fwd:" and text[end - 1 : end] == "]" and end - at >= 6:
            at += 5
            end -= 1
            is_reply = True
        else:
            return text[at:end], is_reply
