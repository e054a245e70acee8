"""SASLprep: names and passwords as SCRAM compares them (RFC 4013, a profile of RFC 3454).

Two keyboards may write one letter in two ways; after it they are the same. Text that may not be used at all is None.
"""

import stringprep
import unicodedata

# RFC 4013 section 2.3
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool = False) -> str | None:
    """The prepared text; `stored` forbids letters that Unicode 3.2 does not know (RFC 3454 section 7)."""
    if text.isascii():
        return text if text.isprintable() else None
    # Section 2.1: spaces become SPACE, what commonly means nothing goes; then NFKC.
    mapped = [" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)]
    prepared = unicodedata.normalize("NFKC", "".join(mapped))
    if any(table(c) for c in prepared for table in _PROHIBITED):
        return None
    if stored and any(stringprep.in_table_a1(c) for c in prepared):
        return None
    # RFC 3454 section 6: right-to-left text has no left-to-right letter, and begins and ends right-to-left.
    if any(stringprep.in_table_d1(c) for c in prepared):
        if any(stringprep.in_table_d2(c) for c in prepared):
            return None
        if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
            return None
    return prepared
