"""Encoded words (RFC 2047) and charsets: raw header text to readable text, and back.

Decoding takes words in every state of disrepair: unknown charsets, characters cut in two between words,
missing padding or end marks, blanks inside, words glued to others. It never raises; bytes that mean
nothing become U+FFFD. Encoding gives UTF-8.
"""

import base64
import binascii
import codecs
import re
from functools import lru_cache

# encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="   (RFC 2047, RFC 2231)
# Loosened: blanks and "?" inside the text; without an end mark it goes on to the next word or the end.
_START = rb"=\?[^?\s]{1,80}+\?[bBqQ]\?"
_encoded_word = re.compile(
    rb"=\?([^?\s]{1,80}+)\?([bBqQ])\?((?:[^?=]++|(?!\?=|" + _START + rb")[?=])*+)(\?=)?"
).finditer
_line_end = re.compile(rb"\r*+\n")
_q_escape = re.compile(rb"=([0-9A-Fa-f]{2})")
_not_base64 = bytes(sorted(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")))

# Charset names as they are met -> what Python reads them with. Where a label is commonly put on a
# superset (as browsers know), the superset is used.
_ALIASES = {
    "": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "ansi_x3.4-1968": "utf-8",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "windows-874": "cp874",
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "gbk": "gb18030",
    "cp936": "gb18030",
    "x-gbk": "gb18030",
    "big5": "big5hkscs",
    "x-x-big5": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "windows-949": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "cp50220": "iso2022_jp_ext",
    "iso-2022-jp": "iso2022_jp_ext",
    "x-euc-jp": "euc_jp",
    "macintosh": "mac_roman",
    "x-mac-roman": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
    "unicode-1-1-utf-7": "utf-7",
    "utf-8mb4": "utf-8",
    "utf8mb4": "utf-8",
    "cp65001": "utf-8",
    "unknown-8bit": "utf-8",
    "x-unknown": "utf-8",
    "default": "utf-8",
    "default_charset": "utf-8",
}
# In Python's tables, but no charsets of mail: slow, or able to do more than decode.
_REFUSED = frozenset(("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"))


@lru_cache(256)
def _codec(charset: bytes) -> str:
    """The name of Python's codec for a charset name, "" if there is none."""
    name = charset.decode("latin-1").partition("*")[0].strip(" \t\r\n\"'").lower()
    name = _ALIASES.get(name, name)
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError, UnicodeError):
        return ""
    # _is_text_encoding is what bytes.decode itself goes by: it keeps out "hex", "zip" and the like.
    return "" if info.name.replace("-", "_") in _REFUSED or not getattr(info, "_is_text_encoding", True) else info.name


def decode_charset(data: bytes, charset: bytes) -> str:
    """Text in a charset. A wrong name, or bytes that do not fit: as UTF-8 if it is that, else the best there is."""
    codec = _codec(charset) if len(charset) <= 80 else ""
    if codec:
        try:
            text = data.decode(codec)
        except (UnicodeError, ValueError):
            pass
        else:
            return text if codec != "utf-7" else _without_halves(text)
    if codec != "utf-8":
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            if codec:
                return _without_halves(data.decode(codec, "replace"))
    elif charset.lower() == b"utf-8":
        return data.decode("utf-8", "replace")
    return data.decode("cp1252", "replace")


def _without_halves(text: str) -> str:
    """Without surrogates: UTF-7 can spell half a pair, and what holds one cannot be written as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decode(value: bytes) -> str:
    """The readable text of an unstructured field, or of a display name: unfolded, no controls."""
    if b"\n" in value:
        value = _line_end.sub(b"", value)
    value = value.strip(b" \t\r")
    if b"=?" not in value:
        return _clean(_raw(value))
    out: list[str] = []
    at = 0
    run: list[bytes] = []  # bytes of adjacent words in one charset: characters may be cut in two
    run_charset = b""
    for match in _encoded_word(value):
        between = value[at : match.start()]
        charset, encoding, text, end = match.groups()
        at = match.end()
        if end is None:  # it ends at a blank
            used = len(text.partition(b" ")[0])
            at = match.start(3) + used
            text = text[:used]
        data = _from_b(text) if encoding in b"bB" else _from_q(text)
        charset = charset.partition(b"*")[0].lower()
        if run and (charset != run_charset or between.strip(b" \t\r")):
            out.append(decode_charset(b"".join(run), run_charset))
            run.clear()
        elif run:
            between = b""
        # Blanks between encoded words are not shown (RFC 2047 section 6.2).
        if between and (not out or between.strip(b" \t\r")):
            out.append(_raw(between))
        run.append(data)
        run_charset = charset
    if run:
        out.append(decode_charset(b"".join(run), run_charset))
    out.append(_raw(value[at:]))
    return _clean("".join(out))


def _raw(value: bytes) -> str:
    return value.decode("ascii") if value.isascii() else decode_charset(value, b"")


def _clean(text: str) -> str:
    return text if text.isprintable() else "".join([" " if c < " " or "\x7f" <= c <= "\x9f" else c for c in text])


def _from_q(text: bytes) -> bytes:
    return _q_escape.sub(lambda match: bytes((int(match[1], 16),)), text.replace(b"_", b" "))


def _from_b(text: bytes) -> bytes:
    text = text.translate(None, _not_base64)
    extra = len(text) % 4
    text = text[:-1] if extra == 1 else text + b"=" * (-extra % 4)
    try:
        return base64.b64decode(text)
    except binascii.Error:  # cannot be: letters and padding are right
        return b""


def is_plain(text: str) -> bool:
    """True if the text may stand in a header as it is: ASCII, and nothing that looks like an encoded word."""
    return text.isascii() and text.isprintable() and "=?" not in text


def encode(text: str) -> str:
    """Header text as ASCII: as it is, or as encoded words of at most 75 characters with blanks between."""
    if is_plain(text):
        return text
    data = text.encode("utf-8", "replace")
    plain = sum(byte in _Q_PLAIN for byte in data)
    return " ".join(_q_words(text) if len(data) - plain <= len(data) // 4 + 2 else _b_words(text))


# RFC 2047 section 5 (3): what may stand unencoded in an encoded word in any place, phrases too.
_Q_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/ ")
_Q = [chr(b) if b in _Q_PLAIN and b != 32 else "_" if b == 32 else f"={b:02X}" for b in range(256)]
_ROOM = 75 - len("=?utf-8?q?" + "?=")


def _q_words(text: str) -> list[str]:
    words, current = [], ""
    for char in text:
        piece = "".join([_Q[byte] for byte in char.encode("utf-8", "replace")])
        if len(current) + len(piece) > _ROOM:
            words.append(current)
            current = ""
        current += piece
    return [f"=?utf-8?q?{word}?=" for word in [*words, current]]


def _b_words(text: str) -> list[str]:
    words, current = [], b""
    for char in text:
        piece = char.encode("utf-8", "replace")
        if len(current) + len(piece) > _ROOM // 4 * 3:
            words.append(current)
            current = b""
        current += piece
    return [f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in [*words, current]]
