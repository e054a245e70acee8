"""Five days in an internet that misbehaves (`world.py`), with an operator who pauses, holds, reroutes and restarts.

Whatever happens, of each recipient one of these is true in the end, and the queue is empty: a server said 250, once,
and nobody heard of a failure; or no server did and the sender got exactly one bounce (none for the null sender). A
server that took the content and whose answer was lost may have it besides.
"""

import random
import re
from collections import Counter

import pytest

from posthouse.queue import operating
from posthouse.smtp.client import TIMEOUTS
from posthouse.store.outbox_admin import Filter
from tests.queue.site import ALICE, DAYS, Site, site
from tests.queue.test_secured import LAB
from tests.queue.world import World
from tests.support.certificates import NOW
from tests.support.loop import on_loop

HOUR = 3600.0
MESSAGES = 20
# Only where a server of the world is silent; nothing was taken by then, however slow the machine is.
PATIENCE = {**TIMEOUTS, "MAIL": 0.05}
_SUBJECT = re.compile(r"^Subject: (m[0-9]+)\r?$", re.M)
_FAILED = re.compile(r"^Final-Recipient: [a-z0-9-]+; (\S+)\r?\nAction: failed\r?$", re.M)


async def send(here: Site, world: World, number: int, owed: set[tuple[str, str]], nobody: set[str]) -> None:
    chance = world.chance
    subject = f"m{number}"
    many = chance.choice((1, 1, 2, 5))
    recipients = {f"r{chance.randrange(3)}@{chance.choice(world.domains)}" for _ in range(many)}
    owed |= {(subject, one) for one in recipients}
    body = chance.choice(("Hello", "Gr\u00fc\u00dfe " * 10, "a line\r\n" * 9000, ".\r\n..\r\n"))
    text = f"Subject: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n--end--\r\n"
    null = chance.random() < 0.2
    if null:
        nobody.add(subject)
    await here.queue(*sorted(recipients), sender="" if null else ALICE, content=text.encode(), submitted=not null)


async def operate(here: Site, chance: random.Random, domains: list[str]) -> None:
    """An operator does something, mostly pointless."""
    domain, now = chance.choice(domains), here.clock.now()
    chosen = Filter(domain=domain)
    match chance.randrange(9):
        case 0:
            await here.database.write(operating.pause, domain, now, HOUR * chance.choice((1, 20)), "")
        case 1:
            await operating.act(here.database, here.clock, "hold", chosen)
        case 2 | 3:
            await operating.act(here.database, here.clock, "release", Filter())
        case 4:
            await operating.act(here.database, here.clock, "retry", Filter())
        case 5:
            route = operating.route(to=chance.choice(("mx0.net.test", "", "[::1]:9")))
            await operating.act(here.database, here.clock, "reroute", chosen, route=route)
        case 6:
            await here.manager.drain()
            here.manager.undrain()
        case 7:
            await here.manager.close(0.1)
            here.manager = here.new_manager(PATIENCE)
            await here.manager.start()
        case 8:
            pass
    here.manager.wake()


async def bounced(here: Site) -> Counter[tuple[str, str]]:
    """What Alice heard of failures: subject and recipient."""
    heard: Counter[tuple[str, str]] = Counter()
    for raw in await here.bounces():
        text = raw.decode("ascii")
        subjects = _SUBJECT.findall(text)
        assert len(subjects) == 1, text
        heard.update((subjects[0], recipient) for recipient in _FAILED.findall(text))
    return heard


@pytest.mark.parametrize("seed", range(3))
@on_loop
async def test_every_recipient_has_the_message_or_its_sender_one_bounce(seed: int) -> None:
    chance = random.Random(seed)
    async with site(PATIENCE, **LAB) as here:
        here.clock.move((NOW - here.clock.now()) / 1e6)
        world = World(chance, here.clock, here.zone)
        for name, server in world.servers(8).items():
            here.port = await server.start(f"127.0.0.{len(here.remotes) + 2}", here.port)
            here.remotes[name] = server
            here.zone[name] = {"A": [f"127.0.0.{len(here.remotes) + 1}"]}
        world.make_domains(20, list(here.remotes), here.publish)
        owed: set[tuple[str, str]] = set()
        nobody: set[str] = set()
        for number in range(MESSAGES):
            await send(here, world, number, owed, nobody)
            if chance.random() < 0.3:
                await here.pass_time(chance.choice((1, 60, HOUR)))
                await operate(here, chance, world.domains)
            world.turn()
        for _ in range(24):
            await here.pass_time(2 * HOUR)
            world.turn()
            if chance.random() < 0.3:
                await operate(here, chance, world.domains)
        await operating.act(here.database, here.clock, "release", Filter())
        here.manager.wake()
        await here.pass_time(5.5 * DAYS / 1e6)
        assert await here.waiting() == {}
        heard = await bounced(here)
    tally = world.tally
    for one in sorted(owed):
        told = 0 if one[0] in nobody else 1
        outcome = (tally.answered[one], heard[one])
        assert outcome in ((1, 0), (0, told)), (one, outcome, tally.lost[one])
    assert set(heard) | set(tally.answered) | set(tally.lost) <= owed
    assert tally.answered
    assert heard
