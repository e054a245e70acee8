"""What the queue tells and notes besides a bounce: a warning of delay once, double bounces, bad addresses."""

from posthouse.smtp.params import NO_MAIL_PARAMS, MailParams
from posthouse.store import accounts, outbox, suppression
from posthouse.store.envelope import AUTHENTIC, JUNK, UNAUTHENTIC, is_unauthentic, marks_of, pack_mail, unpack_mail
from posthouse.store.suppression import Entry
from tests.queue.site import ALICE, DAYS, site
from tests.support.loop import on_loop

BOB, CAROL = "bob@there.test", "carol@far.test"


@on_loop
async def test_a_sender_is_told_of_a_delay_once_about_all_who_wait() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "450 4.2.0 come back later"})
        await here.remote("far.test", {"RCPT": "451 4.3.0 Temporary lookup failure"})
        await here.run(BOB, CAROL)
        await here.pass_time(4 * 3600 - 60)
        assert await here.bounces() == []
        await here.pass_time(2 * 3600)
        (warning,) = await here.bounces()
        assert b"Subject: Delayed, still trying: hello" in warning
        assert b"Action: delayed" in warning
        assert b"Will-Retry-Until: " in warning
        assert b"<bob@there.test>" in warning
        assert b"<carol@far.test>" in warning
        await here.pass_time(4 * 86_400)
        assert len(await here.bounces()) == 1
        await here.pass_time(2 * 86_400)
        assert len(await here.bounces()) > 1
        assert await here.waiting() == {}


@on_loop
async def test_strangers_hear_of_a_delay_only_if_the_mail_is_theirs() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "450 4.2.0 come back later"})
        for marks, warnings in (([], 0), ([UNAUTHENTIC], 0), ([JUNK], 0), ([AUTHENTIC], 1)):
            trace = await here.queue(BOB, submitted=False)
            await here.database.write(outbox.set_options, trace, pack_mail(NO_MAIL_PARAMS, marks))
            await here.settled()
            await here.pass_time(5 * 3600)
            assert len(await here.bounces()) == warnings, marks


@on_loop
async def test_no_warning_where_it_is_off_or_there_is_no_sender() -> None:
    async with site(queue={"delay_warning": "0"}) as here:
        await here.remote("there.test", {"RCPT": "450 4.2.0 come back later"})
        await here.run(BOB)
        await here.run(BOB, sender="")
        await here.pass_time(86_400)
        assert await here.bounces() == []


@on_loop
async def test_the_postmaster_hears_of_mail_that_nobody_can_be_told_about() -> None:
    async with site(queue={"double_bounces": True}) as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 User unknown"})
        await here.run(BOB, sender="")
        (report,) = await here.bounces()
        assert b"To: postmaster@mail.here.test" in report
        assert b"Not delivered, and nobody to tell" in report


@on_loop
async def test_a_double_bounce_that_fails_causes_no_other() -> None:
    async with site(queue={"double_bounces": True}) as here:
        remote = await here.remote("there.test", {"RCPT": "550 5.1.1 User unknown"})
        await here.database.write(accounts.add_address, "postmaster@here.test", "root@there.test")
        here.settings = here.settings.model_copy(update={"hostname": "here.test"})
        await here.manager.close(0.1)
        here.manager = here.new_manager()
        await here.manager.start()
        await here.run(BOB, sender="")
        await here.settled()
        rcpts = [line for line in remote.commands if line.startswith("RCPT")]
        assert len(rcpts) == 2
        assert await here.bounces() == []


@on_loop
async def test_who_does_not_exist_is_put_on_the_senders_list() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 User unknown"})
        await here.remote("far.test", {"RCPT": "552 5.2.2 Mailbox full"})
        await here.run(BOB, CAROL)
        now = here.clock.now()
        ((name, entry),) = await here.database.read(suppression.listing, now)
        assert name == ALICE
        assert entry == Entry(here.alice, BOB, "user-unknown", "550 5.1.1 User unknown", now, now + 30 * DAYS)


@on_loop
async def test_nothing_is_listed_where_it_is_switched_off() -> None:
    async with site(queue={"suppress": False}) as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 User unknown"})
        await here.run(BOB)
        assert await here.database.read(suppression.listing, here.clock.now()) == []


@on_loop
async def test_mail_that_is_known_to_be_forged_comes_back_to_nobody() -> None:
    async with site() as here:
        await here.remote("there.test", {"RCPT": "550 5.1.1 User unknown"})
        forged = pack_mail(NO_MAIL_PARAMS, [UNAUTHENTIC])
        trace = await here.queue(BOB)
        await here.database.write(outbox.set_options, trace, forged)
        await here.settled()
        assert await here.waiting() == {}
        assert await here.bounces() == []
        await here.run(BOB)
        assert len(await here.bounces()) == 1


def test_the_mark_is_kept_beside_what_was_asked_for() -> None:
    asked = MailParams(requiretls=True)
    assert unpack_mail(pack_mail(asked, [UNAUTHENTIC])) == asked
    assert is_unauthentic(pack_mail(asked, [UNAUTHENTIC]))
    assert not is_unauthentic(pack_mail(asked))
    assert not is_unauthentic("")
    assert not is_unauthentic(pack_mail(MailParams(envid="unauthentic")))
    assert not is_unauthentic(pack_mail(NO_MAIL_PARAMS, [AUTHENTIC]))
    assert marks_of(pack_mail(asked, [AUTHENTIC, JUNK])) == {AUTHENTIC, JUNK}


@on_loop
async def test_the_last_attempt_is_one_even_where_nobody_answers() -> None:
    async with site(queue={"concurrency_per_destination": 1}) as here:
        here.zone["dead.test"] = {"A": ["127.0.0.77"]}
        for number in range(5):
            await here.queue(f"r{number}@dead.test")
        await here.pass_time(6 * 86_400)
        assert await here.waiting() == {}
        bounced = [text for text in await here.bounces() if b"Action: failed" in text]
        assert len(bounced) == 5
        assert all(b"No connection to dead.test" in text for text in bounced)
