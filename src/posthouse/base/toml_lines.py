"""On which line of a TOML document each key stands; the standard library's parser does not say.

It is for documents that `tomllib` has taken already, so it looks only for where things are and never
complains: on text that is not TOML it gives fewer or wrong lines, and ends. One pass, linear time.
"""

import re
import tomllib

Path = tuple[str | int, ...]
"""Keys, and the places in arrays: ("listen", 0, "port")."""

_blank = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_space = re.compile(r"[ \t]*")
_key = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
# A string of any of the four kinds, or anything up to the end of a plain value.
_scalar = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:'{0,2})'''
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^,\]}#\n]*""",
    re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    """Path of each key, table and array item -> its line, counted from 1."""
    return _Locator(text).document()


class _Locator:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self._lines: dict[Path, int] = {}
        self._array_lengths: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(_blank) < len(self._text):
            before = self._at
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
            if self._at == before:  # not TOML: never stay in place
                self._at += 1
        return self._lines

    def _skip(self, pattern: re.Pattern[str]) -> int:
        if found := pattern.match(self._text, self._at):
            self._at = found.end()
        return self._at

    def _take(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _mark(self, path: Path) -> None:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self._lines.setdefault(path, self._line)

    def _header(self) -> Path:
        is_array = self._take("[[")
        if not is_array:
            self._take("[")
        keys = self._dotted()
        self._take("]]" if is_array else "]")
        path = self._enter((), keys[:-1])
        path = (*path, *keys[-1:])
        self._mark(path)
        if is_array:
            number = self._array_lengths.get(path, 0)
            self._array_lengths[path] = number + 1
            path = (*path, number)
            self._mark(path)
        return path

    def _enter(self, path: Path, keys: list[str]) -> Path:
        """Follow keys as a table header does: a name of an array of tables means its last table."""
        for key in keys:
            path = (*path, key)
            if path in self._array_lengths:
                path = (*path, self._array_lengths[path] - 1)
            self._mark(path)
        return path

    def _dotted(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_space)
            found = _key.match(self._text, self._at)
            if found is None:
                return keys
            self._at = found.end()
            keys.append(_unquote(found[0]))
            self._skip(_space)
            if not self._take("."):
                return keys

    def _pair(self, table: Path) -> None:
        path = table
        for key in self._dotted():
            path = (*path, key)
            self._mark(path)
        if self._take("="):
            self._value(path)

    def _value(self, path: Path) -> None:
        """Pass over a value, marking what lies in arrays and inline tables on the way."""
        pending: list[tuple[Path, int]] = []  # open brackets: their path, and items seen (-1: inline table)
        while True:
            before = self._at
            self._skip(_blank)
            if self._take("["):
                pending.append((path, 0))
            elif self._take("{"):
                pending.append((path, -1))
            else:
                self._skip(_scalar)
            if not pending:
                return
            following = self._following(pending)
            if following is None or self._at == before:  # the end, or no TOML: never stay in place
                return
            path = following

    def _following(self, pending: list[tuple[Path, int]]) -> Path | None:
        """Go over commas and closing brackets to the next value: its path, or None at the end."""
        while pending:
            self._skip(_blank)
            path, items = pending[-1]
            if self._take("]") or self._take("}"):
                pending.pop()
                continue
            if self._take(","):
                self._skip(_blank)
                if items >= 0:
                    pending[-1] = (path, items + 1)
                    items += 1
            if self._text.startswith(("]", "}"), self._at):
                continue
            if items >= 0:
                path = (*path, items)
                self._mark(path)
                return path
            for key in self._dotted():
                path = (*path, key)
                self._mark(path)
            self._skip(_space)
            return path if self._take("=") else None
        return None


def _unquote(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] == '"':
        try:
            return next(iter(tomllib.loads(key + " = 0")))
        except tomllib.TOMLDecodeError:
            return key[1:-1]
    return key
