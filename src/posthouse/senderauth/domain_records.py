"""What a domain of ours should have in the DNS, as text for a zone file, and what it has.

The mail of a domain comes here by its MX record; SPF, DKIM and DMARC make others believe that mail in its name is from
it; MTA-STS and TLS reports protect the way to us. Values are advice for a domain whose mail all goes by this server: a
record that is there and says something else may be right, and is shown as it is. Nothing raises for what the DNS does.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from posthouse.base.errors import Permanent, Temporary
from posthouse.base.settings import Settings
from posthouse.net.dns import Resolver
from posthouse.senderauth import own_keys
from posthouse.senderauth.own_keys import Look
from posthouse.store.dkim_keys import DkimKey

TTL = 3600
STRING = 255  # octets of one string of a TXT record (RFC 1035 section 3.3)
MOST_SHOWN = 300  # characters of a record that is there
Purpose = Literal["MX", "SPF", "SPF of the server", "DKIM", "DMARC", "MTA-STS", "TLSRPT"]


class DomainRecord(NamedTuple):
    """A record that a domain should have."""

    purpose: Purpose
    name: str
    kind: str  # "MX" or "TXT"
    value: str
    why: str  # a sentence

    @property
    def strings(self) -> tuple[str, ...]:
        """The strings of a TXT record: readers join them (RFC 7208 section 3.3, RFC 6376 section 3.6.2.2)."""
        return tuple(self.value[at : at + STRING] for at in range(0, len(self.value), STRING))

    @property
    def line(self) -> str:
        """As it stands in a zone file."""
        if self.kind != "TXT":
            return f"{self.name}. {TTL} IN {self.kind} {self.value}"
        quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in self.strings]
        return f"{self.name}. {TTL} IN TXT " + " ".join(f'"{text}"' for text in quoted)


def policy(hostname: str) -> str:
    """The text of an MTA-STS policy (RFC 8461 section 3.2), to be served at
    https://mta-sts.DOMAIN/.well-known/mta-sts.txt."""
    return f"version: STSv1\r\nmode: testing\r\nmx: {hostname}\r\nmax_age: 604800\r\n"


class Sending(NamedTuple):
    """Where our mail comes from."""

    sources: tuple[tuple[str, str], ...] = ()  # addresses of pools, each with its name in EHLO
    smarthost: str = ""  # all mail leaves by it
    forwards: str = ""  # the domain in the sender of forwarded mail (SRS), if it is not the host name

    @classmethod
    def of(cls, settings: Settings) -> "Sending":
        sources = tuple((one.address, one.helo.lower()) for pool in settings.pool for one in pool.sources)
        smart = settings.relay.smarthost
        return cls(sources, smart.host if smart else "", settings.relay.srs_domain.lower())


NOTHING_SAID = Sending()


def wanted(
    domain: str, hostname: str, keys: Iterable[DkimKey], reports: Sequence[str] = (), sending: Sending = NOTHING_SAID
) -> list[DomainRecord]:
    """All of them. `keys` are the domain's; those that are retiring are wanted no more. `reports` are the addresses at
    which reports of others are taken in; without any, postmaster of the domain gets them."""
    own = [address for address in reports if address.rpartition("@")[2].lower() == domain]
    reporter = next(iter([*own, *reports]), f"postmaster@{domain}")
    elsewhere = reporter.rpartition("@")[2].lower()
    # Else they only lie in a mailbox, where nobody reads XML.
    read = "" if reports else f'. They go into `posthouse reports` once [reports] has addresses = ["{reporter}"]'
    id_ = hashlib.sha256(policy(hostname).encode()).hexdigest()[:16]
    sources = [address for address, _ in sending.sources]
    why = f"only servers of its MX records{' and the addresses of [[pool]]' if sources else ''} send its mail"
    records = [
        DomainRecord("MX", domain, "MX", f"10 {hostname}.", "mail for the domain comes to this server"),
        _spf("SPF", domain, "mx", sources, sending.smarthost, why),
        *_of_the_server(domain, hostname.lower(), sending),
    ]
    records += [
        DomainRecord("DKIM", key.name, "TXT", key.record, f"the key of its signatures by {key.algorithm}")
        for key in keys
        if key.state != "retiring"
    ]
    if elsewhere != domain:
        name = f"{domain}._report._dmarc.{elsewhere}"
        why = f"{elsewhere} takes reports about {domain}"  # RFC 9990 section 4
        records.append(DomainRecord("DMARC", name, "TXT", "v=DMARC1", why))
    return [
        *records,
        DomainRecord(
            "DMARC",
            f"_dmarc.{domain}",
            "TXT",
            f"v=DMARC1; p=none; rua=mailto:{reporter}",
            "what others do with mail that only claims to be from it: "
            f"once reports are clean, p=quarantine or p=reject{read}",
        ),
        DomainRecord(
            "MTA-STS",
            f"_mta-sts.{domain}",
            "TXT",
            f"v=STSv1; id={id_}",
            f"others send to it by TLS alone; only with the policy at https://mta-sts.{domain}/.well-known/mta-sts.txt",
        ),
        DomainRecord(
            "TLSRPT",
            f"_smtp._tls.{domain}",
            "TXT",
            f"v=TLSRPTv1; rua=mailto:{reporter}",
            f"who gets reports when TLS fails{read}",
        ),
    ]


def _spf(purpose: Purpose, name: str, term: str, addresses: Iterable[str], smarthost: str, why: str) -> DomainRecord:
    terms = [term, *(f"{'ip6' if ':' in address else 'ip4'}:{address}" for address in dict.fromkeys(addresses))]
    end = "-all"
    if smarthost:  # whose addresses only its operator knows: nothing is to be refused until they are in here
        why, end = (
            f"mail leaves by {smarthost}: put in what its operator names (include:...), then end with -all",
            "~all",
        )
    return DomainRecord(purpose, name, "TXT", " ".join(["v=spf1", *filter(None, terms), end]), why)


def _of_the_server(domain: str, hostname: str, sending: Sending) -> list[DomainRecord]:
    """SPF of the names that the server gives itself, if they are below the domain: bounces and reports are judged by
    EHLO (RFC 7208 section 2.4), and forwarded mail by the domain of its rewritten sender (SRS)."""
    everything = [address for address, _ in sending.sources]
    names = {helo: ("", [one for one, name in sending.sources if name == helo]) for _, helo in sending.sources}
    names |= {sending.forwards or hostname: ("mx", everything), hostname: ("a", everything)}
    why = "bounces, reports and forwarded mail come from this name"
    return [
        _spf("SPF of the server", name, term, addresses, sending.smarthost, why)
        for name, (term, addresses) in names.items()
        if name.endswith(f".{domain}")
    ]


async def compare(resolver: Resolver, records: Sequence[DomainRecord]) -> list[Look]:
    """What the DNS has of each: a record for the purpose, with its text in `trouble` if it is another one."""
    return list(await asyncio.gather(*(_compare(resolver, record) for record in records)))


_BEGINNINGS: dict[str, str] = {
    "SPF": "v=spf1",
    "SPF of the server": "v=spf1",
    "DMARC": "v=dmarc1",
    "MTA-STS": "v=stsv1",
    "TLSRPT": "v=tlsrptv1",
}


async def _compare(resolver: Resolver, record: DomainRecord) -> Look:
    if record.purpose == "DKIM":
        return await own_keys.look([resolver], record.name, record.value)
    try:
        if record.kind == "MX":
            found = [f"{preference} {host or '.'}" for preference, host in await resolver.mx(record.name)]
            hosts = [text.split()[1] for text in found]
            present = record.value.split()[1].rstrip(".") in hosts
            if not present:
                return Look(False, f"the DNS has {', '.join(found)[:MOST_SHOWN]}" if found else "there is none")
            return Look(True, "" if len(hosts) == 1 else f"the DNS has {', '.join(found)[:MOST_SHOWN]}")
        texts = [text.decode("utf-8", "replace") for text in await resolver.txt(record.name)]
    except Permanent:
        return Look(False, "there is none")
    except (Temporary, TimeoutError, OSError) as error:
        return Look(None, f"the DNS gave no answer: {error}")
    beginning = _BEGINNINGS[record.purpose]
    ours = [text for text in texts if text.lower().startswith(beginning)]
    if len(ours) > 1:
        return Look(False, f"there are {len(ours)}, which is as good as none")
    if not ours:
        return Look(False, "there is none")
    same = " ".join(ours[0].split()) == record.value
    return Look(True, "" if same else f"it says {ours[0][:MOST_SHOWN]}")
