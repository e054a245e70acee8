"""Where keys stand in TOML: against documents written by hand and documents made at random."""

import tomllib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.base.toml_lines import Path, lines_of

DOCUMENT = '''# a comment with [brackets] and key = 1
first = 1
"quoted key" = "with # and ] and \\" inside"
a.b.'c d' = 3
text = """
not = "a key"
[nor a table]
"""
raw = \'\'\'
x = 1\'\'\'
list = [ # comment, with ] comma
  1, "two, ]",
  [3, 4],
  { five = 5, six = { seven = 7 } },
]
inline = { x = 1, y = [1, 2] }
empty = []
date = 2024-01-01 10:00:00

[table] # comment
k = 1
[table.sub."dotted.name"]
k = 2
[[many]]
k = 1
[many.inner]
k = 2
[[many]]
k = 3
'''


def test_lines() -> None:
    tomllib.loads(DOCUMENT)
    lines = lines_of(DOCUMENT)
    expected: dict[Path, int] = {
        ("first",): 2,
        ("quoted key",): 3,
        ("a", "b", "c d"): 4,
        ("text",): 5,
        ("raw",): 9,
        ("list",): 11,
        ("list", 0): 12,
        ("list", 1): 12,
        ("list", 2, 1): 13,
        ("list", 3, "five"): 14,
        ("list", 3, "six", "seven"): 14,
        ("inline",): 16,
        ("inline", "y", 1): 16,
        ("empty",): 17,
        ("date",): 18,
        ("table",): 20,
        ("table", "k"): 21,
        ("table", "sub", "dotted.name"): 22,
        ("table", "sub", "dotted.name", "k"): 23,
        ("many", 0): 24,
        ("many", 0, "k"): 25,
        ("many", 0, "inner", "k"): 27,
        ("many", 1): 28,
        ("many", 1, "k"): 29,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("not",) not in lines
    assert ("nor a table",) not in lines


values = st.recursive(
    st.one_of(
        st.integers(-5, 5).map(str),
        st.sampled_from(['""', '"a,]}#"', "'[x'", '"""\nk = 1\n"""', "'''\n[t]\n'''", "true", "1.5", '"\\""']),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ",\n".join(items) + "]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{ " + ", ".join(f"k{n} = {item}" for n, item in enumerate(items)) + " }"
        ),
    ),
    max_leaves=8,
)


def paths_of(value: object, path: Path = ()) -> set[Path]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths_of(inner, (*path, key))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            found |= paths_of(inner, (*path, number))
    return found


@settings(suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy: that is no fault of the test
@given(st.lists(values, max_size=6))
def test_every_key_is_found(items: list[str]) -> None:
    text, starts = "", {}
    for number, item in enumerate(items):
        starts[f"key{number}"] = text.count("\n") + 1
        text += f"key{number} = {item}\n"
    lines = lines_of(text)
    assert set(lines) == paths_of(tomllib.loads(text))
    assert {key: lines[key,] for key in starts} == starts


@given(st.text(alphabet="[]{}=,.#\"'\\\n a1", max_size=200))
def test_it_ends_on_anything(text: str) -> None:
    lines_of(text)
