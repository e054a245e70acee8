"""Whose turn it is: lanes of senders in this process, and how much of its room each may fill."""

import random
from collections import Counter

from posthouse.queue.holding import MOST, Holding
from posthouse.queue.jobs import Job
from posthouse.queue.turns import Turns
from posthouse.store.outbox import Claim, Message, Taken


def job(hop: str, lane: int, number: int = 0) -> Job:
    message = Message(number, "", None, 0, b"", 0, 0, 0, 0, "")
    return Job(hop, message, [claim("x.test", lane)], 0, None, lane)


def claim(destination: str, lane: int) -> Claim:
    return Claim(0, f"a@{destination}", destination, 0, "", Message(0, "", None, 0, b"", 0, 0, 0, 0, ""), "", lane)


def run(turns: Turns, hops: list[str]) -> list[tuple[str, int, int]]:
    """Everything, with all next hops open all the time."""
    order: list[tuple[str, int, int]] = []
    while True:
        for hop in hops:
            turns.open(hop)
        one = turns.take()
        if one is None:
            return order
        order.append((one.next_hop, one.lane, one.message.id))


def test_lanes_of_one_next_hop_take_turns() -> None:
    turns = Turns()
    for number in range(5):
        turns.add(job("a", 1, number))
    for number in range(2):
        turns.add(job("a", 2, number))
    turns.add(job("a", 3))
    assert [(lane, number) for _, lane, number in run(turns, ["a"])] == [
        (1, 0),
        (2, 0),
        (3, 0),
        (1, 1),
        (2, 1),
        (1, 2),
        (1, 3),
        (1, 4),
    ]
    assert "a" not in turns
    assert not turns.is_ready


def test_many_next_hops_of_one_sender_keep_nobody_waiting() -> None:
    turns = Turns()
    hops = [f"d{n}" for n in range(100)]
    for hop in hops:
        turns.add(job(hop, 1))
        turns.open(hop)
    first = turns.take()
    assert first is not None
    turns.add(job("z", 2))
    turns.open("z")
    second = turns.take()
    assert second is not None
    assert (second.next_hop, second.lane) == ("z", 2)
    turns.add(job("d50", 3))  # to one that is open already
    third = turns.take()
    assert third is not None
    assert (third.next_hop, third.lane) == ("d50", 3)
    assert len(run(turns, hops)) == 99


def test_a_next_hop_runs_only_when_it_is_open() -> None:
    turns = Turns()
    turns.open("a")  # nothing waits for it
    assert turns.take() is None
    turns.add(job("a", 1))
    turns.add(job("a", 1))
    assert turns.take() is None
    turns.open("a")
    turns.open("a")
    assert turns.take() is not None
    assert turns.take() is None
    assert turns.waiting() == {"a": 1}
    assert len(turns.jobs()) == 1


def test_it_is_the_slow_obvious_thing() -> None:
    """Against one that looks at everything: of all jobs that may run, that of the lane served longest ago."""
    chance = random.Random(5)
    for _ in range(200):
        turns, waiting, opened, served, number = Turns(), list[Job](), set[str](), Counter[int](), 0
        enough: set[int] = set()
        for _ in range(chance.randrange(120)):
            match chance.randrange(4):
                case 2:
                    enough = set(chance.sample(range(4), chance.choice((0, 0, 1, 2, 4))))
                case 0:
                    one = job(chance.choice("abcd"), chance.randrange(4), number)
                    number += 1
                    turns.add(one)
                    waiting.append(one)
                case 1:
                    hop = chance.choice("abcd")
                    turns.open(hop)
                    if any(one.next_hop == hop for one in waiting):
                        opened.add(hop)
                case _:
                    taken = turns.take(enough.__contains__)
                    may = [one for one in waiting if one.next_hop in opened and one.lane not in enough]
                    assert (taken is None) == (not may)
                    if taken is None:
                        continue
                    assert taken.next_hop in opened
                    assert served[taken.lane] == min(served[one.lane] for one in may)
                    first = next(o for o in waiting if (o.next_hop, o.lane) == (taken.next_hop, taken.lane))
                    assert first is taken
                    waiting.remove(taken)
                    opened.discard(taken.next_hop)
                    number += 1
                    served[taken.lane] = number
                    for lane in [lane for lane in served if all(one.lane != lane for one in waiting)]:
                        del served[lane]  # who has nothing here begins anew
            assert turns.is_ready == bool(opened)
            assert sum(turns.waiting().values()) == len(waiting)


def taken(*claims: Claim, left: tuple[int, ...] = (), full: bool = False) -> Taken:
    return Taken(list(claims), frozenset(left), full, False, 0, "")


def test_room_is_bounded() -> None:
    assert Holding(1, 1).most == 200
    assert Holding(1000, 100).most == MOST
    holding = Holding(1000, 100)
    holding.took(taken(*(claim("a.test", n) for n in range(MOST)), full=True))
    assert holding.room() is None


def test_when_another_look_is_worth_it() -> None:
    holding = Holding(10, 2)  # 200, 20 for one destination
    mine, slow = [claim("a.test", 1)] * 10, [claim(f"d{n}.test", 2) for n in range(50)]
    holding.took(taken(*mine, *slow, left=(1,)))
    assert holding.has_more(1)
    assert not holding.has_more(2)
    for _ in range(4):
        holding.let_go(mine[:1])
        assert not holding.is_due(mine[:1])
    holding.let_go(slow[:9])
    assert not holding.is_due(slow[:9])  # nothing more of that lane
    holding.let_go(mine[:1])
    assert holding.is_due(mine[:1])  # half of it is gone, however slow the others are


def test_a_destination_that_had_enough_gets_more_when_half_is_done() -> None:
    holding = Holding(10, 2)
    many = [claim("a.test", n) for n in range(20)]
    holding.took(taken(*many))
    room = holding.room()
    assert room is not None
    assert list(room.busy) == ["a.test"]
    holding.let_go(many[:9])
    assert not holding.is_due(many[:1])
    holding.let_go(many[9:10])
    assert holding.is_due(many[:1])


def test_a_full_room_is_filled_up_in_parts() -> None:
    holding = Holding(10, 2)
    many = [claim(f"d{n}.test", n) for n in range(200)]
    holding.took(taken(*many, full=True))
    holding.let_go(many[:19])
    assert not holding.is_due(many[:1])
    holding.let_go(many[19:20])
    assert holding.is_due(many[:1])
