"""Threads, against a version that does literally what RFC 5256 says."""

import struct
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.imap import threads
from posthouse.imap.threads import Member


@dataclass(eq=False)
class Node:
    """A message, or a dummy (number -1)."""

    number: int  # by sent date
    subject: bytes = b""
    reply: bool = False
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)

    @property
    def dummy(self) -> bool:
        return self.number < 0

    def holds(self, other: "Node") -> bool:
        return other is self or any(child.holds(other) for child in self.children)

    @property
    def key(self) -> int:
        return self.number if not self.dummy else min(child.number for child in self.children)

    @property
    def head(self) -> "Node":
        """Who says the subject of the thread."""
        return self if not self.dummy else min(self.children, key=lambda child: child.number)


def adopt(parent: Node, child: Node) -> None:
    child.parent = parent
    parent.children.append(child)


def orphan(child: Node) -> None:
    if child.parent is not None:
        child.parent.children.remove(child)
        child.parent = None


def slow_links(members: list[Member], order: list[int]) -> list[Node]:
    """Steps 1 to 4: the roots, sorted."""
    nodes = [Node(n, member.subject, member.reply) for n, member in enumerate(members)]
    by_id: dict[int, Node] = {}
    unpacked = [struct.unpack(f">{len(m.ids) // 8}Q", m.ids) for m in members]
    for n in order:
        if unpacked[n][0]:
            by_id.setdefault(unpacked[n][0], nodes[n])
    everyone = list(nodes)
    for n in order:
        chain = []
        for reference in unpacked[n][1:]:
            if reference not in by_id:
                by_id[reference] = Node(-1)
                everyone.append(by_id[reference])
            chain.append(by_id[reference])
        for parent, child in pairwise(chain):
            if child.parent is None and not child.holds(parent):
                adopt(parent, child)
        me = nodes[n]
        orphan(me)
        if chain and not me.holds(chain[-1]):
            adopt(chain[-1], me)
    roots: list[Node] = []

    def prune(node: Node, top: bool) -> list[Node]:
        below = [kept for child in list(node.children) for kept in prune(child, False)]
        node.children = below
        for child in below:
            child.parent = node
        if not node.dummy or (top and len(below) > 1):
            return [node]
        return below

    for node in everyone:
        if node.parent is None:
            for kept in prune(node, True):
                kept.parent = None
                roots.append(kept)
    return sorted(roots, key=lambda root: root.key)


def shown(roots: list[Node]) -> str:
    """The THREAD response, recursively."""

    def members(node: Node) -> str:
        below = sorted(node.children, key=lambda child: child.number)
        text = "" if node.dummy else str(node.number)
        if len(below) == 1:
            return f"{text} {members(below[0])}"
        if below:
            return text + (" " if text else "") + "".join(f"({members(child)})" for child in below)
        return text

    return "".join(f"({members(root)})" for root in roots)


def slow_references(members: list[Member], order: list[int]) -> str:
    roots = slow_links(members, order)
    table: dict[bytes, Node] = {}
    for root in roots:
        subject = root.head.subject
        if not subject:
            continue
        known = table.get(subject)
        if known is None or (not known.dummy and (root.dummy or (known.reply and not root.reply))):
            table[subject] = root
    final = list(roots)
    for root in roots:
        subject = root.head.subject
        if not subject or table[subject] is root:
            continue
        known = table[subject]
        final.remove(root)
        if root.dummy and known.dummy:
            for child in list(root.children):
                adopt(known, child)
        elif known.dummy or (root.reply and not known.reply):
            adopt(known, root)
        else:
            dummy = Node(-1)
            final.remove(known)
            final.append(dummy)
            adopt(dummy, known)
            adopt(dummy, root)
            table[subject] = dummy
    return shown(sorted(final, key=lambda root: root.key))


def slow_refs(members: list[Member], order: list[int], arrived: list[int]) -> str:
    age = {number: place for place, number in enumerate(arrived)}

    def newest(node: Node) -> int:
        return max([age.get(node.number, -1), *map(newest, node.children)])

    return shown(sorted(slow_links(members, order), key=newest))


def ids(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}Q", *numbers)


def labels(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


def text_of(forest: threads.Forest) -> str:
    return threads.format_forest(forest, labels(forest.size)).decode()


some_ids = st.integers(0, 7)
some_members = st.lists(
    st.builds(
        Member,
        st.builds(lambda own, refers: ids(own, *refers), some_ids, st.lists(st.integers(1, 9), max_size=4)),
        st.sampled_from([b"", b"A", b"B"]),
        st.booleans(),
    ),
    max_size=9,
)


@settings(max_examples=600, deadline=None)
@given(some_members, st.randoms(use_true_random=False))
def test_references_are_what_the_rfc_says(members: list[Member], random: object) -> None:
    order = list(range(len(members)))
    random.shuffle(order)  # type: ignore[attr-defined]
    arrived = list(range(len(members)))
    random.shuffle(arrived)  # type: ignore[attr-defined]
    assert text_of(threads.references(members, order)) == slow_references(members, order)
    assert text_of(threads.refs(members, order, arrived)) == slow_refs(members, order, arrived)


@given(st.lists(st.sampled_from([b"", b"A", b"B", b"C"]), max_size=20))
def test_ordered_subject(subjects: list[bytes]) -> None:
    groups: list[list[int]] = []
    for subject in dict.fromkeys(subjects):
        groups.append([n for n, one in enumerate(subjects) if one == subject])
    expected = ""
    for group in groups:
        first, *rest = map(str, group)
        below = f" {rest[0]}" if len(rest) == 1 else " " + "".join(f"({one})" for one in rest) if rest else ""
        expected += f"({first}{below})"
    assert text_of(threads.ordered_subject(subjects)) == expected


def test_the_example_of_the_rfc_is_written_as_there() -> None:
    forest = threads.Forest([0, 1, 9], {1: [2], 2: [3, 5], 3: [4], 5: [6], 6: [7], 9: [0, 8]}, 9)
    assert (
        threads.format_forest(forest._replace(roots=[0, 1]), [b"2", b"3", b"6", b"4", b"23", b"44", b"7", b"96", b"8"])
        == b"(2)(3 6 (4 23)(44 7 96))"
    )
    assert threads.format_forest(threads.Forest([2], {2: [0, 1]}, 2), [b"3", b"5"]) == b"((3)(5))"


def test_a_deep_thread_is_no_recursion() -> None:
    count = 5000
    members = [Member(ids(n + 1, *([n] if n else [])), b"S", n > 0) for n in range(count)]
    assert text_of(threads.references(members, range(count))) == f"({' '.join(map(str, range(count)))})"


def test_looks_for_loops_are_bounded() -> None:
    """Many messages, each with an answer, hang themselves below a thread that is as deep as there are messages."""
    depth = 3000
    deep = [Member(ids(n + 1, *([n] if n else [])), b"", False) for n in range(depth)]
    answers = [Member(ids(0, 10_000 + n), b"", False) for n in range(depth)]
    asked = [Member(ids(10_000 + n, depth), b"", False) for n in range(depth)]
    members = [*deep, *answers, *asked]
    parents = threads._link(members, range(len(members)))
    hung = sum(parent == depth - 1 for parent in parents)
    assert hung == (threads.LOOKS * len(members) + 10_000) // depth < depth
