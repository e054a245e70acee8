"""DANE for SMTP: which TLSA records count, and whether a server's certificates fit them (RFC 6698, 7671, 7672). Pure.

DANE-EE(3) binds the server's own certificate or key: neither its names nor its dates matter (RFC 7672 section 3.1.1).
DANE-TA(2) binds a certificate above it: signatures, dates and names count (section 3.1.2). PKIX-TA(0) and PKIX-EE(1)
are of no use between mail servers (section 3.1.3). Records that nobody can use still say that TLS is there: it is then
required and nobody is authenticated (section 2.2).
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from posthouse.net.dns import Tlsa
from posthouse.queue.certificates import Anchor, Malformed, Trouble, flaw, paths, spki

DANE_TA, DANE_EE = 2, 3
CERTIFICATE, KEY = 0, 1
FULL, SHA256, SHA512 = 0, 1, 2
MOST_RECORDS = 32  # of a host that are looked at
_LENGTHS = {SHA256: 32, SHA512: 64}


class Match(NamedTuple):
    """Whether the certificates fit the records."""

    ok: bool
    text: str
    result: str = ""  # a result type of RFC 8460 section 4.3, if they do not


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that a mail server can use, without those that a stronger digest makes superfluous.

    Digest agility (RFC 7671 section 9): of records with the same usage and selector only those with the strongest
    digest count; the full value always does.
    """
    good = [record for record in sorted(set(records), reverse=True) if _is_usable(record)][:MOST_RECORDS]
    strongest: dict[tuple[int, int], int] = {}
    for record in good:
        kind = (record.usage, record.selector)
        strongest[kind] = max(strongest.get(kind, FULL), record.matching)
    return tuple(r for r in good if r.matching in (FULL, strongest[r.usage, r.selector]))


def _is_usable(record: Tlsa) -> bool:
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (CERTIFICATE, KEY):
        return False
    if record.matching == FULL:
        return record.data[:1] == b"\x30"  # a SEQUENCE, as a certificate and a key are
    return len(record.data) == _LENGTHS.get(record.matching, -1)


def fits(record: Tlsa, der: bytes) -> bool:
    """Is this the certificate that a record speaks of? Raises `Malformed`."""
    selected = der if record.selector == CERTIFICATE else spki(der)
    if record.matching == FULL:
        return selected == record.data
    digest = hashlib.sha256 if record.matching == SHA256 else hashlib.sha512
    return digest(selected).digest() == record.data


def check(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: int) -> Match:
    """Do a server's certificates (DER, its own first) fit one of the usable records?

    `names` are what a certificate under a DANE-TA(2) record may be for (RFC 7672 section 3.2.2), `now` is in
    microseconds. Without records everything fits: TLS alone is required.
    """
    if not records:
        return Match(True, "TLS without authentication: no TLSA record is usable")
    if not chain:
        return Match(False, "the server showed no certificate", "validation-failure")
    for record in records:
        if record.usage == DANE_EE and _fits(record, chain[0]):
            return Match(True, f"DANE-EE matched {record}")
    troubles: list[Trouble] = []
    try:
        for path in paths(chain, _anchors(records, chain)):
            trouble = flaw(path, names, now)
            if trouble is None:
                return Match(True, f"DANE-TA matched {path.anchor.label}")
            troubles.append(trouble)
    except Malformed as error:
        troubles.append(Trouble("certificate-not-trusted", str(error)))
    if troubles:
        return Match(False, f"DANE: {troubles[0].text}", troubles[0].result)
    kinds = ", ".join(dict.fromkeys(str(record) for record in records))
    return Match(False, f"DANE: no TLSA record ({kinds}) fits the certificates of the server", "validation-failure")


def _fits(record: Tlsa, der: bytes) -> bool:
    try:
        return fits(record, der)
    except Malformed:
        return False


def _anchors(records: Sequence[Tlsa], chain: Sequence[bytes]) -> list[Anchor]:
    """What the DANE-TA(2) records name: certificates above the server's own, and what stands in the records in full."""
    anchors: dict[tuple[bytes, bytes], Anchor] = {}
    for record in records:
        if record.usage != DANE_TA:
            continue
        found = [Anchor(der=der, label=str(record)) for der in chain[1:] if _fits(record, der)]
        if record.matching == FULL:
            # The server need not send what the DNS holds (RFC 7671 section 5.2.2).
            in_full = Anchor(der=record.data) if record.selector == CERTIFICATE else Anchor(key=record.data)
            found.append(in_full._replace(label=str(record)))
        for anchor in found:
            anchors.setdefault((anchor.der, anchor.key), anchor)
    return list(anchors.values())
