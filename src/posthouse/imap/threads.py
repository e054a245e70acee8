"""Messages to threads: ORDEREDSUBJECT and REFERENCES (RFC 5256 section 3), REFS (draft-ietf-morg-inthread).

Messages are numbers: their places by sent date, from 0. So whatever goes through them in order finds siblings and
threads sorted, and nothing is sorted twice. What a message refers to and is not there is a dummy: a number from
`count` on. In the end dummies are left only at the top, with two or more messages below.

Time is linear in the messages and what they refer to, but for one look: that a link makes no loop. Looks that are not
over at once share `LOOKS` steps a message; when these are used up, a link that would need one more is left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from posthouse.imap.headings import unpack_ids

LOOKS = 100  # steps from children to parents a message, on average


class Member(NamedTuple):
    """A message: what `headings.Heading` holds of it."""

    ids: bytes
    subject: bytes
    reply: bool


class Forest(NamedTuple):
    """Threads in order, and the children of whatever has some, in order."""

    roots: list[int]
    children: dict[int, list[int]]
    size: int  # how many messages there are: numbers from there on are dummies


def ordered_subject(subjects: Sequence[bytes]) -> Forest:
    """Messages with the same base subject, one below the first of them."""
    threads: dict[bytes, list[int]] = {}
    for number, subject in enumerate(subjects):
        threads.setdefault(subject, []).append(number)
    roots = [members[0] for members in threads.values()]
    return Forest(roots, {members[0]: members[1:] for members in threads.values() if len(members) > 1}, len(subjects))


def references(members: Sequence[Member], order: Sequence[int]) -> Forest:
    """By what messages refer to, then threads of the same base subject together. `order`: the messages as they stand
    in the mailbox."""
    forest = _gather(_link(members, order), len(members))
    return _merge_subjects(forest, members)


def refs(members: Sequence[Member], order: Sequence[int], arrived: Sequence[int]) -> Forest:
    """By what messages refer to only; the thread with the newest message (the last of its messages in `arrived`, all
    messages by arrival) comes last."""
    count = len(members)
    parents = _link(members, order)
    top = _tops(parents)
    forest = _gather(parents, count)
    # A dummy with one message below was replaced by it.
    shown = {top[root if root < count else forest.children[root][0]]: root for root in forest.roots}
    newest: dict[int, None] = {}
    for number in reversed(arrived):
        newest.setdefault(shown[top[number]])
    return forest._replace(roots=list(newest)[::-1])


def _link(members: Sequence[Member], order: Sequence[int]) -> list[int]:
    """The parent of each message and dummy, -1 for none (RFC 5256 section 3, REFERENCES, step 1)."""
    count = len(members)
    refers: list[tuple[int, ...]] = [()] * count
    places: dict[int, int] = {}  # of message ids
    for number in order:
        own, *rest = unpack_ids(members[number].ids)
        if own:
            places.setdefault(own, number)  # of several with one id the first has it
        refers[number] = tuple(rest)
    parents = [-1] * count
    degrees = [0] * count  # how many children each has
    looks = LOOKS * count + 10_000

    def below(one: int, other: int) -> bool:
        """Is it the other, or below it?"""
        nonlocal looks
        if one == other or not degrees[other]:
            return one == other
        while one >= 0:
            if one == other:
                return True
            looks -= 1
            if looks < 0:
                return True
            one = parents[one]
        return False

    for number in order:
        last = -1
        for reference in refers[number]:
            place = places.get(reference, -1)
            if place < 0:
                place = places[reference] = len(parents)
                parents.append(-1)
                degrees.append(0)
            if last >= 0 and parents[place] < 0 and not below(last, place):
                parents[place] = last
                degrees[last] += 1
            last = place
        before = parents[number]
        if before == last:
            continue
        if before >= 0:
            parents[number] = -1
            degrees[before] -= 1
        if last >= 0 and not below(last, number):
            parents[number] = last
            degrees[last] += 1
    return parents


def _tops(parents: Sequence[int]) -> list[int]:
    """The message or dummy at the top of each one's thread."""
    tops = [-1] * len(parents)
    for number in range(len(parents)):
        path = []
        at = number
        while tops[at] < 0 and parents[at] >= 0:
            path.append(at)
            at = parents[at]
        top = tops[at] if tops[at] >= 0 else at
        tops[at] = top
        for passed in path:
            tops[passed] = top
    return tops


def _gather(parents: list[int], count: int) -> Forest:
    """Threads without needless dummies, sorted (steps 2 to 4)."""
    # Whatever is below a dummy that is not at the top moves up to what is above it.
    above = list(parents)
    for number in range(count, len(parents)):
        path = []
        at = number
        while at >= count and above[at] >= 0:
            path.append(at)
            at = above[at]
        for passed in path:
            above[passed] = at
    children: dict[int, list[int]] = {}
    roots: list[int] = []
    for number in range(count):
        parent = above[number]
        if parent >= count and above[parent] >= 0:
            parent = above[parent]
        if parent < 0:
            roots.append(number)
            continue
        siblings = children.get(parent)
        if siblings is None:
            children[parent] = [number]
            if parent >= count:
                roots.append(parent)
        else:
            siblings.append(number)
    for at, root in enumerate(roots):
        if root >= count and len(children[root]) == 1:
            roots[at] = children.pop(root)[0]
    return Forest(roots, children, count)


def _merge_subjects(forest: Forest, members: Sequence[Member]) -> Forest:
    """Threads of one base subject become one (steps 5 and 6)."""
    roots, children, count = forest
    table: dict[bytes, int] = {}
    for root in roots:
        member = members[root if root < count else children[root][0]]
        if not member.subject:
            continue
        known = table.get(member.subject)
        if known is None or (known < count and (root >= count or (members[known].reply and not members[root].reply))):
            table[member.subject] = root
    gone: set[int] = set()
    mixed: dict[int, None] = {}  # whose children are to be sorted again
    made = first_made = max(count, max(children, default=-1) + 1)  # dummies that are made here
    for root in roots:
        subject = members[root if root < count else children[root][0]].subject
        if not subject:
            continue
        known = table[subject]
        if known == root:
            continue
        gone.add(root)
        if known < count and not (members[root].reply and not members[known].reply):
            # Neither answers the other: siblings under a dummy.
            gone.add(known)
            children[made] = [known, root]
            mixed[made] = None
            table[subject] = made
            made += 1
            continue
        if root >= count:
            children[known] += children.pop(root)
        else:
            children.setdefault(known, []).append(root)
        mixed[known] = None
    if not gone:
        return forest
    for number in mixed:
        children[number].sort()
    in_order = [-1] * count
    for root in (*roots, *range(first_made, made)):
        if root not in gone:
            in_order[root if root < count else children[root][0]] = root
    return Forest([root for root in in_order if root >= 0], children, count)


def format_forest(forest: Forest, labels: Sequence[bytes]) -> bytes:
    """The threads as a THREAD response has them; `labels`: what stands for each message."""
    roots, children, count = forest
    out: list[bytes] = []
    waiting: list[int] = []
    for root in roots:
        waiting.append(root)
        while waiting:
            at = waiting.pop()
            if at < 0:
                out.append(b")")
                continue
            out.append(b"(")
            waiting.append(-1)
            while True:
                below = children.get(at)
                if at < count:
                    out.append(labels[at])
                    if below:
                        out.append(b" ")
                if not below:
                    break
                if len(below) > 1:
                    waiting += reversed(below)
                    break
                at = below[0]
    return b"".join(out)
