"""MTA-STS: the policy of a domain for mail to it, from the DNS, from HTTPS and from memory (RFC 8461).

`parse_record` and `parse_policy` are pure. `Policies` asks the TXT record, fetches a policy when its id is new, keeps
it in the database until it ends, and keeps the one before when a fetch fails. What an attacker can do is to hide a
policy that was never seen; one that was seen stays. A policy that cannot be had is none (section 5): nothing here
raises for what the network does.
"""

import asyncio
import re
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from posthouse.base.clock import Clock
from posthouse.base.errors import PosthouseError
from posthouse.base.settings_types import is_hostname
from posthouse.net.dns import NoSuchDomain, Resolver, Unavailable
from posthouse.net.http import HttpFailed, Response, fetch
from posthouse.net.tls import client_context
from posthouse.store import sts
from posthouse.store.database import Database
from posthouse.store.sts import StoredPolicy

SECOND = 1_000_000
DAY = 86_400 * SECOND
MOST_OCTETS = 64 * 1024  # of a policy (section 3.3)
MOST_LINES, MOST_PATTERNS = 1000, 200
MOST_AGE = 31_557_600  # seconds (section 3.2)
PATIENCE = 60.0  # seconds for a fetch (section 3.3)
FETCHES = 4  # at one time: half of the threads of net/http.py
AGAIN = 300.0  # seconds after a failed fetch, and that "this domain has no policy" is believed without the database
REMEMBERED = 10_000  # domains in memory
REFRESHES = 200  # in one round
IN_USE = 30 * DAY  # a policy that nobody needed for longer is left to end

Fetcher = Callable[[str], Awaitable[Response]]

_is_record = re.compile(rb"v=STSv1[ \t]*;").match
_is_id = re.compile(r"[A-Za-z0-9]{1,32}").fullmatch
_is_key = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}").fullmatch
_is_age = re.compile(r"[0-9]{1,10}").fullmatch


class PolicyInvalid(Exception):
    """A record or a policy that is not as RFC 8461 says."""


class FetchFailed(Exception):
    """There is no policy where the record says there is one; `result` is a result type of RFC 8460 section 4.3."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result


class Policy(NamedTuple):
    """What a domain says about the servers that take its mail."""

    mode: str  # enforce, testing or none
    mx: tuple[str, ...]  # host names; "*." on the left is one label
    max_age: int  # seconds


class Found(NamedTuple):
    """What is known of a domain's policy."""

    policy: StoredPolicy | None
    text: str  # for the trace
    result: str = ""  # why there is no newer one: a result type of RFC 8460 section 4.3


def parse_record(texts: Sequence[bytes]) -> str | None:
    """The id in the TXT records of _mta-sts.DOMAIN; None: there is no policy (RFC 8461 section 3.1).

    Raises `PolicyInvalid` for a record that is meant as one and is not.
    """
    records = [text for text in texts if _is_record(text)]
    if len(records) != 1:
        return None  # several are none, says the RFC
    try:
        fields = records[0].decode("ascii").split(";")[1:]
    except UnicodeDecodeError:
        raise PolicyInvalid("the TXT record is not ASCII") from None
    if not fields[-1].strip(" \t"):
        fields.pop()
    for field in fields:
        key, equals, value = field.strip(" \t").partition("=")
        if not equals or not _is_key(key):
            raise PolicyInvalid("the TXT record has a field that is not key=value")
        if key == "id":
            if not _is_id(value):
                raise PolicyInvalid("the id of the TXT record is not 1 to 32 letters and digits")
            return value
    raise PolicyInvalid("the TXT record has no id")


def parse_policy(body: bytes) -> Policy:
    """Read a policy (RFC 8461 section 3.2); raises `PolicyInvalid`. Fields that nobody knows are passed over."""
    if len(body) > MOST_OCTETS:
        raise PolicyInvalid(f"the policy is longer than {MOST_OCTETS} octets")
    try:
        lines = body.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise PolicyInvalid("the policy is not UTF-8") from None
    if len(lines) > MOST_LINES:
        raise PolicyInvalid(f"the policy has more than {MOST_LINES} lines")
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in lines:
        key, colon, value = line.rstrip(" \t\r").partition(":")
        if not key and not colon:
            continue
        if not colon or not _is_key(key):
            raise PolicyInvalid("the policy has a line that is not key: value")
        value = value.strip(" \t")
        if key == "mx":
            patterns.append(_pattern(value))
        else:
            fields.setdefault(key, value)  # all but the first are ignored (section 3.2)
    if fields.get("version") != "STSv1":
        raise PolicyInvalid("the version of the policy is not STSv1")
    mode, age = fields.get("mode", ""), fields.get("max_age", "")
    if mode not in ("enforce", "testing", "none"):
        raise PolicyInvalid("the mode of the policy is none of enforce, testing, none")
    if not _is_age(age):
        raise PolicyInvalid("the max_age of the policy is not a number of seconds")
    if not patterns and mode != "none":
        raise PolicyInvalid("the policy names no mx")
    if len(patterns) > MOST_PATTERNS:
        raise PolicyInvalid(f"the policy names more than {MOST_PATTERNS} mx")
    return Policy(mode, tuple(dict.fromkeys(patterns)), min(int(age), MOST_AGE))


def _pattern(value: str) -> str:
    name = value.lower().removesuffix(".")
    if not is_hostname(name.removeprefix("*.")):
        raise PolicyInvalid("an mx of the policy is no host name")
    return name


async def fetch_by_https(url: str) -> Response:
    """The usual fetcher: the public CAs, no redirects."""
    return await fetch(url, patience=PATIENCE, most=MOST_OCTETS)


def fetch_trusting(ca: Path | None) -> Fetcher:
    """The same with the CAs of a file in place of the public ones. Raises `Permanent` if it cannot be used."""
    if ca is None:
        return fetch_by_https
    context = client_context(verify=True, ca=ca)

    async def fetch_by(url: str) -> Response:
        return await fetch(url, context=context, patience=PATIENCE, most=MOST_OCTETS)

    return fetch_by


async def fetch_policy(domain: str, fetcher: Fetcher = fetch_by_https) -> Policy:
    """The policy that a domain publishes now (RFC 8461 section 3.3). Raises `FetchFailed`."""
    try:
        async with asyncio.timeout(PATIENCE + 5):
            response = await fetcher(f"https://mta-sts.{domain}/.well-known/mta-sts.txt")
    except HttpFailed as error:
        bad = _is_about_certificates(error)
        raise FetchFailed("sts-webpki-invalid" if bad else "sts-policy-fetch-error", str(error)) from error
    except TimeoutError as error:
        raise FetchFailed("sts-policy-fetch-error", f"mta-sts.{domain} takes too long") from error
    if response.status != 200:
        text = f"mta-sts.{domain} answers with status {response.status}"
        raise FetchFailed("sts-policy-fetch-error", text)
    if response.content_type != "text/plain":
        text = f"mta-sts.{domain} answers with {response.content_type[:100]}, not with text/plain"
        raise FetchFailed("sts-policy-invalid", text)
    try:
        return parse_policy(response.body)
    except PolicyInvalid as error:
        raise FetchFailed("sts-policy-invalid", str(error)) from error


def _is_about_certificates(error: BaseException | None) -> bool:
    for _ in range(5):
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        if error is None:
            return False
        reason = getattr(error, "reason", None)  # of a URLError
        error = reason if isinstance(reason, BaseException) else error.__cause__
    return False


class Policies:
    """The policies of other domains, kept in the database. Give it a `fetcher` to ask a server of your own."""

    def __init__(self, database: Database, resolver: Resolver, clock: Clock, fetcher: Fetcher = fetch_by_https) -> None:
        self._database = database
        self._resolver = resolver
        self._clock = clock
        self._fetcher = fetcher
        self._known: OrderedDict[str, tuple[float, StoredPolicy | None]] = OrderedDict()
        self._failed: OrderedDict[str, tuple[float, str, FetchFailed]] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[StoredPolicy]] = {}
        self._slots = asyncio.Semaphore(FETCHES)
        self._refreshing: asyncio.Task[None] | None = None

    async def of(self, domain: str) -> Found:
        """The policy that holds for mail to a domain (an A-label name) now."""
        domain = domain.lower().removesuffix(".")
        if not is_hostname(domain):
            return Found(None, f"{domain} can have no MTA-STS policy")
        stored = await self._stored(domain)
        try:
            wanted = parse_record(await self._resolver.txt(f"_mta-sts.{domain}"))
            result, why = "", "its TXT record is gone"
        except PolicyInvalid as error:
            wanted, result, why = None, "sts-policy-invalid", str(error)
        except NoSuchDomain:
            wanted, result, why = None, "", "its TXT record is gone"
        except Unavailable:
            wanted, result, why = None, "", "its TXT record could not be asked for"
        if wanted is not None and (stored is None or stored.id != wanted):
            stored, result, why = await self._renewed(domain, wanted, stored)
        if stored is None:
            return Found(None, f"no MTA-STS policy of {domain}" + (f": {why}" if result else ""), result)
        await self._use(stored)
        text = f"MTA-STS policy {stored.id} of {domain} ({stored.mode})"
        return Found(stored, text if stored.id == wanted else f"{text}, kept: {why}", result)

    async def _stored(self, domain: str) -> StoredPolicy | None:
        """What memory or the database holds, if its time is not over."""
        until, stored = self._known.get(domain, (0.0, None))
        if until > self._clock.monotonic() and (stored is None or stored.expires > self._clock.now()):
            self._known.move_to_end(domain)
            return stored
        stored = await self._database.read(sts.get, domain, self._clock.now())
        self._remember(domain, stored)
        return stored

    def _remember(self, domain: str, stored: StoredPolicy | None) -> None:
        self._known[domain] = (self._clock.monotonic() + AGAIN, stored)
        self._known.move_to_end(domain)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def _renewed(
        self, domain: str, wanted: str, stored: StoredPolicy | None
    ) -> tuple[StoredPolicy | None, str, str]:
        """The policy with another id; if it cannot be had the one before, and why."""
        elsewhere = await self._database.read(sts.get, domain, self._clock.now())
        if elsewhere is not None and elsewhere.id == wanted:  # another process was here
            self._remember(domain, elsewhere)
            return elsewhere, "", ""
        _, known = self._known.get(domain, (0.0, None))
        if known is not None and known.id == wanted:  # somebody else here fetched it while the database was read
            return known, "", ""
        until, failed_id, failure = self._failed.get(domain, (0.0, "", None))
        if failure is None or failed_id != wanted or until <= self._clock.monotonic():
            try:
                return await self._fetch(domain, wanted), "", ""
            except FetchFailed as error:
                failure = error
        return stored, failure.result, str(failure)

    async def _fetch(self, domain: str, policy_id: str, used: int | None = None) -> StoredPolicy:
        """Fetch and store; those who ask together share one fetch, and may give up alone."""
        task = self._fetching.get(domain)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch_alone(domain, policy_id, used))
            self._fetching[domain] = task
            task.add_done_callback(lambda done: self._fetched(domain, done))
        return await asyncio.shield(task)

    def _fetched(self, domain: str, task: "asyncio.Task[StoredPolicy]") -> None:
        del self._fetching[domain]
        if not task.cancelled():
            task.exception()  # seen, even if everyone who asked has gone

    async def _fetch_alone(self, domain: str, policy_id: str, used: int | None) -> StoredPolicy:
        try:
            policy = await self._in_turn(domain)
        except FetchFailed as error:
            self._failed[domain] = (self._clock.monotonic() + AGAIN, policy_id, error)
            self._failed.move_to_end(domain)
            while len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
            raise
        self._failed.pop(domain, None)
        now = self._clock.now()
        end = now + policy.max_age * SECOND
        stored = StoredPolicy(
            domain, policy_id, policy.mode, policy.mx, policy.max_age, now, end, now if used is None else used
        )
        try:
            await self._database.write(sts.put, stored)
        except PosthouseError:
            pass  # a full disk: it holds for this process, and the next one fetches it again
        self._remember(domain, stored)
        return stored

    async def _in_turn(self, domain: str) -> Policy:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._slots.acquire()
        except TimeoutError as error:
            raise FetchFailed("sts-policy-fetch-error", "too many policies are being fetched") from error
        try:
            return await fetch_policy(domain, self._fetcher)
        finally:
            self._slots.release()

    async def _use(self, stored: StoredPolicy) -> None:
        """Note, about once a week, that a policy is needed."""
        now = self._clock.now()
        if now - stored.used > 7 * DAY:
            self._remember(stored.domain, stored._replace(used=now))
            try:
                await self._database.write(sts.use, stored.domain, now)
            except PosthouseError:
                pass  # mail matters more

    # Once a day

    async def tidy(self) -> None:
        """Forget what has ended; begin to refresh in the background what is in use and nears its end, as an attacker
        who holds back a policy until then would get rid of it (RFC 8461 section 10.2)."""
        while await self._database.write(sts.expire, self._clock.now()):
            pass
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self.refresh())
            self._refreshing.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def refresh(self) -> None:
        """Fetch policies anew that have lived through half of their time, or end within two days."""
        now = self._clock.now()
        due = await self._database.read(sts.due, now, now + 2 * DAY, now - DAY // 4, now - IN_USE, REFRESHES)
        await asyncio.gather(*(_bounded(self._refresh_one(stored)) for stored in due))

    async def _refresh_one(self, stored: StoredPolicy) -> None:
        try:
            policy_id = parse_record(await self._resolver.txt(f"_mta-sts.{stored.domain}")) or stored.id
        except (PolicyInvalid, NoSuchDomain, Unavailable):
            policy_id = stored.id
        await self._fetch(stored.domain, policy_id, stored.used)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [*self._fetching.values(), *([self._refreshing] if self._refreshing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _bounded(work: Coroutine[Any, Any, None]) -> None:
    """One of many: its failure is not that of the others."""
    try:
        await work
    except (FetchFailed, PosthouseError):
        pass
