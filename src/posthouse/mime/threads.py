"""What threads are made of: base subjects (RFC 5256 section 2.1) and message ids as numbers.

Subjects are decoded text, one line.
"""

import hashlib
import re

# subj-refwd   = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
# subj-blob    = "[" *BLOBCHAR "]" *WSP
# subj-leader  = (*subj-blob subj-refwd) / WSP
# subj-trailer = "(fwd)" / WSP
_blob = re.compile(r"\[[^\[\]]*+\][ \t]*+").match
_refwd = re.compile(r"(?i:re|fwd?)[ \t]*+(?:\[[^\[\]]*+\][ \t]*+)?:").match
_blanks = re.compile(r"\s+")
# Nothing to take off: no blanks beside each other, no blob, no "re:" or "fw:" in front, no "(fwd)" behind.
_plain = re.compile(r"(?!(?i:re|fwd?)[ \t]*+[\[:])(?:[^\s\[(]++(?: (?=[^\s]))?)++").fullmatch
_reply = re.compile(r"(?i:re|fwd?): ").match
_quoted_left = re.compile(r'"((?:[^"\\]++|\\.)*+)"(?=@)', re.DOTALL).match
_quoted_pair = re.compile(r"\\(.)", re.DOTALL)


def base_subject(subject: str) -> tuple[str, bool]:
    """The subject without what replies and forwards add to it, and whether there was any of that."""
    if _plain(subject) is not None:
        return subject, False
    if (match := _reply(subject)) is not None and _plain(subject, match.end()) is not None:
        return subject[match.end() :], True
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


def message_id_hash(message_id: str) -> int:
    """A number for a message id (without its angle brackets), never 0; however its left side is quoted, it is the
    same (RFC 5256 section 3)."""
    if message_id[:1] == '"' and (found := _quoted_left(message_id)) is not None:
        message_id = _quoted_pair.sub(r"\1", found[1]) + message_id[found.end() :]
    digest = hashlib.blake2b(message_id.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) or 1
