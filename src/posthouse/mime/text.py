"""Text that people read, out of parts: decoded, HTML reduced to its words, the preview, file names.

For search, filters, notices and previews; never for display as HTML. Nothing raises, and time is linear:
HTML is cut at its angle brackets by C code, no tree is built.
"""

import html
import re

from posthouse.mime import bodies, fields, words
from posthouse.mime.scan import Part, Scan

PREVIEW = 256  # characters: the most that RFC 8970 section 3.1 allows
_FEW_LINES = 480  # bytes

_cut_tags = re.compile(r"<([!/?a-zA-Z][^<>]*+)>").split
_tag_name = re.compile(r"/?[a-zA-Z][a-zA-Z0-9]*").match
_no_character = re.compile(r"&#[xX]?[0-9a-fA-F]{8,}+;?")  # html.unescape fails on numbers of thousands of digits
_blanks = re.compile(r"[ \t\r\n\f\v\xa0]+")
_SOFT = "\x1e"  # ends a line if it is not ended already
_cut_lines = re.compile(r"([\n\x1e])").split
# Tags that end a line, and those that end a paragraph; all others end nothing.
_LINE = frozenset(("div", "tr", "li", "dt", "dd", "option", "article", "section", "header", "footer", "hr"))
_PARAGRAPH = frozenset(("p", "table", "ul", "ol", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre"))
_CELL = frozenset(("td", "th"))
_UNSHOWN = frozenset(("script", "style", "title", "template", "noframes"))  # their content is not text

# What senders pad previews with: zero-width characters and soft hyphens.
_INVISIBLE = dict.fromkeys([0xAD, 0x34F, 0x61C, 0x2060, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F)])


def decoded(raw: bytes, encoding: bytes, charset: bytes) -> str:
    """The text of a text part from its raw body."""
    return words.decode_charset(bodies.decode(raw, encoding), charset)


def readable(part: Part, raw: bytes) -> str:
    """The words of a text part: HTML is reduced, other types of text come as they are."""
    text = decoded(raw, part.encoding, part.param(b"charset"))
    return html_to_text(text) if part.subtype == b"html" else text


def preview(scan: Scan) -> str:
    """The beginning of what a message says, on one line."""
    head = scan.head_text
    if head is None:
        return ""
    if head.subtype == b"html":
        line = _one_line(html_to_text(decoded(head.data, head.encoding, head.charset)))
    else:
        # Most messages say enough in a few lines: do not decode what is thrown away.
        line = _one_line(_without_quotes(decoded(head.data[:_FEW_LINES], head.encoding, head.charset)))
        if len(line) <= PREVIEW and len(head.data) > _FEW_LINES:
            line = _one_line(_without_quotes(decoded(head.data, head.encoding, head.charset)))
    return line if len(line) <= PREVIEW else line[: PREVIEW - 1].rstrip() + "…"


def _one_line(text: str) -> str:
    if not text.isascii():
        text = text.translate(_INVISIBLE).rstrip("\ufffd")  # the last character may be cut
    line = " ".join(text.split())
    return line if line.isprintable() else "".join([char for char in line if char.isprintable()])


def _without_quotes(text: str) -> str:
    """Without quoted lines, unless there are no others."""
    if ">" not in text:
        return text
    own = [line for line in text.splitlines() if not line.startswith(">")]
    return "\n".join(own) if any(line.strip() for line in own) else text


def html_to_text(source: str) -> str:
    """The words of an HTML document, with its line ends where it would show some."""
    pieces = _cut_tags(_without_comments(source))
    out: list[str] = [_blanks.sub(" ", pieces[0])]
    hidden = ""  # the tag in whose content we are
    for i in range(1, len(pieces), 2):
        match = _tag_name(pieces[i])
        name = match[0].lower() if match else ""
        if hidden:
            if name != "/" + hidden:
                continue
            hidden = ""
        elif name in _UNSHOWN and pieces[i][-1] != "/":
            hidden = name
            continue
        name = name.lstrip("/")
        if name == "br":
            out.append("\n")
        elif name in _LINE:
            out.append(_SOFT)
        elif name in _PARAGRAPH:
            out.append("\n\n")
        elif name in _CELL:
            out.append(" ")
        if text := pieces[i + 1]:
            out.append(_blanks.sub(" ", text))
    text = "".join(out)
    if "&" in text:
        text = html.unescape(_no_character.sub("\ufffd", text))
    return _laid_out(text)


def _laid_out(text: str) -> str:
    """Lines without blanks around them, never more than one empty one between."""
    out: list[str] = []
    hard = soft = 0
    for piece in _cut_lines(text):
        if piece == "\n":
            hard += 1
        elif piece == _SOFT:
            soft = 1
        elif line := _blanks.sub(" ", piece).strip():
            if out:
                out.append("\n\n" if hard > 1 else "\n" if hard + soft else " ")
            out.append(line)
            hard = soft = 0
    return "".join(out)


def _without_comments(source: str) -> str:
    if "<!--" not in source:
        return source
    first, *rest = source.split("<!--")
    return first + "".join([piece.partition("-->")[2] for piece in rest])


def filename(part: Part) -> str | None:
    """The name that a part gives its file, readable; of a path only the last piece."""
    _, params = fields.disposition(part.content.get(b"disposition", b""))
    name = fields.readable_parameter(params, b"filename")
    if name is None:
        name = fields.readable_parameter(part.params, b"name")
    if name is None:
        return None
    name = "".join([char for char in name if char.isprintable()]).replace("\\", "/").rpartition("/")[2].strip()
    return name or None
