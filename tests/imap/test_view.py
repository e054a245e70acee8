"""The view: whatever happens in a mailbox, a client's numbers stay right."""

from array import array
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.imap.numbers import SequenceSet, parse_set
from posthouse.imap.view import MAX_CHANGED, USUAL, Manner, UidList, View

REV2 = Manner(recent=False)


def make(*uids: int) -> View:
    return View(UidList(array("I", uids)), len(uids), 1, [])


def the_set(text: bytes) -> SequenceSet:
    found = parse_set(text)
    assert found is not None
    return found


def test_numbers_and_uids() -> None:
    view = make(3, 5, 9)
    assert view.find(the_set(b"1:2"), False, []) == [(0, 2)]
    assert view.find(the_set(b"*"), False, []) == [(2, 3)]
    assert view.find(the_set(b"2:*"), False, []) == [(1, 3)]
    assert view.find(the_set(b"4"), False, []) is None
    assert view.find(the_set(b"3:100"), False, []) == [(2, 3)]
    assert view.find(the_set(b"4:*"), False, []) == [(2, 3)]
    assert view.find(the_set(b"4:5,9"), True, []) == [(1, 3)]
    assert view.find(the_set(b"100:*"), True, []) == [(2, 3)]
    assert view.find(the_set(b"100:200,6"), True, []) == []
    assert view.find(the_set(b"$"), True, [3, 9]) == [(0, 1), (2, 3)]
    assert make().find(the_set(b"1:*"), False, []) == []
    assert make().find(the_set(b"*"), False, []) == []
    assert make().find(the_set(b"1"), False, []) is None


@given(st.sets(st.integers(1, 200)), st.sets(st.integers(1, 200)), st.integers(0, 200))
def test_uids_that_are_known_and_their_numbers(there: set[int], asked: set[int], count: int) -> None:
    uids = sorted(there)
    view = View(UidList(array("I", uids)), min(count, len(uids)), 1, [])
    uids = uids[:count]
    known = view.known(array("I", sorted(asked)))
    assert list(known) == sorted(asked.intersection(uids))
    assert list(view.numbers_of(known)) == [uids.index(uid) + 1 for uid in known]


def test_expunges_wait_for_leave_and_then_go_from_the_end() -> None:
    view = make(1, 2, 3, 4)
    view.expunged((2, 3))
    view.added((5,))
    assert view.tell(expunges=False, manner=USUAL) == [b"* 5 EXISTS\r\n", b"* 0 RECENT\r\n"]
    assert view.find(the_set(b"5"), False, []) == [(4, 5)]
    assert view.tell(expunges=True, manner=USUAL) == [b"* 3 EXPUNGE\r\n", b"* 2 EXPUNGE\r\n"]
    assert list(view.uids[: view.count]) == [1, 4, 5]


def test_what_came_and_went_is_never_mentioned() -> None:
    view = make(1)
    view.added((2, 3))
    view.expunged((2,))
    assert view.tell(expunges=True, manner=REV2) == [b"* 2 EXISTS\r\n"]
    assert list(view.uids[: view.count]) == [1, 3]


def test_flags_are_told_once_and_not_to_the_one_who_changed_them() -> None:
    view = make(7, 8)
    view.flags_changed([(7, 5, 1, ""), (8, 6, 2, "word")])
    view.told([(7, 5, 1, "")])
    assert view.tell(expunges=False, manner=REV2) == [b"* 2 FETCH (UID 8 FLAGS (\\Answered word))\r\n"]
    assert view.tell(expunges=False, manner=REV2) == []
    view.told([(7, 9, 0, "")])  # before the feed has brought it
    view.flags_changed([(7, 9, 0, "")])
    assert not view.pending
    view.told([(7, 10, 0, "")])  # and somebody changed it again after us
    view.flags_changed([(7, 11, 4, "")])
    assert view.pending


def test_a_silent_change_hides_nothing_that_others_did() -> None:
    view = make(7, 8, 9, 10)
    view.flags_changed([(7, 5, 1, ""), (7, 6, 3, ""), (8, 6, 2, "")])
    view.told([(7, 6, 3, ""), (8, 6, 2, "")], silent_after=5)  # both were ours, one was another's before
    assert view.tell(expunges=False, manner=REV2) == [b"* 1 FETCH (UID 7 FLAGS (\\Answered \\Seen))\r\n"]
    view.flags_changed([(9, 7, 1, "")])
    view.told([(9, 7, 1, "")], silent_after=7)  # it had these flags already
    assert view.tell(expunges=False, manner=REV2) == [b"* 3 FETCH (UID 9 FLAGS (\\Seen))\r\n"]
    view.flags_changed([(10, 8, 1, "")])
    view.told([(10, 9, 3, "")], silent_after=8)  # before the feed has brought ours
    view.flags_changed([(10, 9, 3, "")])
    assert view.tell(expunges=False, manner=REV2) == [b"* 4 FETCH (UID 10 FLAGS (\\Answered \\Seen))\r\n"]
    assert not view.pending


def test_a_deaf_client_costs_bounded_memory() -> None:
    view = make(*range(1, 10_001))
    view.flags_changed((uid, uid + 100, 1, "") for uid in range(1, 10_001))
    assert len(view._changed) == MAX_CHANGED
    assert view.lost_flags == 101 + MAX_CHANGED


def test_views_share_one_array() -> None:
    first = UidList(array("I", range(1, 1001)))
    views = [View(first, 1000, 1, []) for _ in range(10)]
    for view in views:
        view.added((2000,))
        view.expunged((5, 6, 700))
        view.added((2001, 2002))
        view.tell(expunges=True, manner=USUAL)
    assert len({id(view.shared) for view in views}) == 1
    assert views[0].count == 1000


def test_recent_is_counted_in_the_view() -> None:
    view = View(UidList(array("I", [4, 8, 9])), 3, 1, [(8, 11)])
    assert view.recent_count() == 2
    view.expunged((8,))
    view.added((12,))
    assert view.tell(True, USUAL, recent_from=1) == [b"* 2 EXPUNGE\r\n", b"* 3 EXISTS\r\n", b"* 2 RECENT\r\n"]
    assert view.is_recent(12)
    assert not view.is_recent(4)


@dataclass
class Client:
    """What a client makes of our responses, and nothing else: the judge of the view."""

    uids: list[int | None]  # None: announced by EXISTS, its UID not known yet
    flags: dict[int, int] = field(default_factory=dict)

    def hear(self, lines: list[bytes], truth: list[int]) -> None:
        for line in lines:
            words = line.strip(b"* \r\n").split(b" ")
            if words[1] == b"EXPUNGE":
                assert 1 <= int(words[0]) <= len(self.uids)
                del self.uids[int(words[0]) - 1]
            elif words[1] == b"EXISTS":
                assert int(words[0]) >= len(self.uids)
                self.uids += truth[len(self.uids) : int(words[0])]
            elif words[1] == b"FETCH":
                assert self.uids[int(words[0]) - 1] == int(words[3])
                self.flags[int(words[3])] = 4 if b"Flagged" in line else 0


# A step is (kind, which view, which message).
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "expunge", "flag", "tell", "tell all", "expunge told"]),
        st.integers(0, 2),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(st.integers(0, 6), STEPS)
@settings(max_examples=300)
def test_no_interleaving_makes_a_number_wrong(start: int, steps: list[tuple[str, int, int]]) -> None:
    """Three views of one mailbox, changes and tellings in any order: each client's list equals its view's, and
    once all was told it equals the mailbox."""
    live = list(range(1, start + 1))
    shared = UidList(array("I", live))
    views = [View(shared, start, 1, []) for _ in range(3)]
    clients = [Client(list(live)) for _ in range(3)]
    uidnext, modseq = start + 1, 1
    flags: dict[int, int] = {}

    def tell(which: int, expunges: bool) -> None:
        lines = views[which].tell(expunges, manner=REV2)
        if not expunges:
            assert not any(b"EXPUNGE" in line for line in lines)
        clients[which].hear(lines, list(views[which].uids[: views[which].count]))
        assert clients[which].uids == list(views[which].uids[: views[which].count])

    for kind, which, number in steps:
        modseq += 1
        if kind == "add":
            new = tuple(range(uidnext, uidnext + number % 3 + 1))
            uidnext = new[-1] + 1
            live += new
            for view in views:
                view.added(new)
        elif kind in ("expunge", "expunge told") and live:
            gone = tuple(sorted({live[number % len(live)], live[(number // 3) % len(live)]}))
            live = [uid for uid in live if uid not in gone]
            for view in views:
                view.expunged(gone)
            if kind == "expunge told":
                views[which].expunged(gone)  # told twice: by the command and by the feed
                tell(which, True)
        elif kind == "flag" and live:
            uid = live[number % len(live)]
            flags[uid] = 4 if number % 2 else 0
            for view in views:
                view.flags_changed([(uid, modseq, flags[uid], "")])
        elif kind == "tell":
            tell(which, False)
        elif kind == "tell all":
            tell(which, True)
        for view in views:
            view.heard(modseq)
            told = view.uids[: view.count]
            assert list(told) == sorted(set(told))
    for which in range(3):
        tell(which, True)
        assert clients[which].uids == live
        assert not views[which].pending
        for uid, value in clients[which].flags.items():
            if uid in live:
                assert flags[uid] == value
