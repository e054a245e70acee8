"""What the certificate of another server says: its key, its names, its dates, who issued it. Pure.

Everything here reads what strangers sent. `spki` cuts the key out of the DER without decoding more than it must, so
that DANE works with certificates that a library refuses; the rest is for paths to a trust anchor (RFC 5280 section 6,
as far as a mail server needs it). What makes no sense is `Malformed`.
"""

import datetime
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from ssl import get_default_verify_paths
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

_E = TypeVar("_E", bound=x509.ExtensionType)

MOST_CERTIFICATES = 10  # of a chain that are looked at
_MOST_CHECKS = 50  # signatures that are checked for one chain
_MOST_NAMES = 1000

# What the library raises for certificates that it does not like; all are ours to catch, none is a bug.
_BROKEN = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

# Extensions that are looked at here, or that cannot make a certificate less good for us. A critical one that is not
# among them forbids its use (RFC 5280 section 4.2).
_KNOWN = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
    x509.CertificatePolicies,
    x509.PolicyConstraints,
    x509.InhibitAnyPolicy,
)


_SERVER = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


class Malformed(Exception):
    """A certificate that cannot be read."""


class Trouble(NamedTuple):
    """Why a certificate is not accepted."""

    result: str  # a result type of RFC 8460 section 4.3
    text: str


def parse(der: bytes) -> x509.Certificate:
    """Read a certificate; raises `Malformed`."""
    try:
        return x509.load_der_x509_certificate(der)
    except _BROKEN as error:
        raise Malformed(f"the certificate cannot be read: {error}") from error


def spki(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, as it stands in it (RFC 5280 section 4.1). Raises `Malformed`."""
    start, end, _ = _element(der, 0, len(der))
    start, end, _ = _element(der, start, end)  # TBSCertificate
    at = start
    _, after, tag = _element(der, at, end)
    if tag == 0xA0:  # version, which version 1 has not
        at = after
    for _ in range(5):  # serial number, signature, issuer, validity, subject
        _, at, _ = _element(der, at, end)
    _, after, tag = _element(der, at, end)
    if tag != 0x30:
        raise Malformed("the certificate has no public key where one must be")
    return der[at:after]


def _element(der: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The DER element at `at`: start and end of its content, tag."""
    if at + 2 > end:
        raise Malformed("the certificate ends too early")
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or start + octets > end:
            raise Malformed("the certificate has a length that makes no sense")
        length = int.from_bytes(der[start : start + octets], "big")
        start += octets
    if start + length > end:
        raise Malformed("the certificate ends too early")
    return start, start + length, tag


# Names


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names it is for; the common name only if it has none (RFC 6125 section 6.4.4)."""
    try:
        try:
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = alternatives.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            names = []
        if not names:
            common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            names = [str(one.value) for one in common[-1:]]
    except _BROKEN as error:
        raise Malformed(f"the names of the certificate cannot be read: {error}") from error
    return tuple(name.lower().removesuffix(".") for name in names[:_MOST_NAMES])


def covers(pattern: str, name: str) -> bool:
    """Does a DNS name of a certificate, or a pattern of MTA-STS, fit a host? "*." is exactly one label, on the left
    (RFC 7672 section 3.2.3, RFC 8461 section 4.1)."""
    if pattern.startswith("*."):
        first, dot, rest = name.partition(".")
        return bool(first and dot) and rest == pattern[2:]
    return bool(name) and pattern == name


def is_for(certificate: x509.Certificate, wanted: Iterable[str]) -> bool:
    """Whether it has one of the names."""
    patterns = names_of(certificate)
    return any(covers(pattern, name) for name in wanted for pattern in patterns)


def shown(certificate: x509.Certificate) -> str:
    """Its names for people, few of them."""
    names = names_of(certificate)
    few = ", ".join(name[:100] for name in names[:3]) or "nobody"
    return f"{few} and {len(names) - 3} more" if len(names) > 3 else few


# Dates


def moment(now: int) -> datetime.datetime:
    """A time in microseconds since 1970 as the library wants it."""
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=now)


def out_of_date(certificate: x509.Certificate, now: int) -> Trouble | None:
    """Why it is not good at `now` (microseconds)."""
    at = moment(now)
    try:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _BROKEN as error:
        raise Malformed(f"the dates of the certificate cannot be read: {error}") from error
    if at > end:
        return Trouble("certificate-expired", f"the certificate of {_subject(certificate)} ended on {end:%Y-%m-%d}")
    if at < begin:
        text = f"the certificate of {_subject(certificate)} begins on {begin:%Y-%m-%d}"
        return Trouble("certificate-not-trusted", text)
    return None


def _subject(certificate: x509.Certificate) -> str:
    try:
        return certificate.subject.rfc4514_string()[:100] or "nobody"
    except _BROKEN:
        return "nobody"


# Paths


class Anchor(NamedTuple):
    """What a path must lead to: a certificate of the chain or of a record (by its DER), or a bare key."""

    der: bytes = b""
    key: bytes = b""  # SubjectPublicKeyInfo
    label: str = ""  # for the trace: "2 1 1"


class Trail(NamedTuple):
    """A path from a server's certificate up to an anchor."""

    certificates: tuple[x509.Certificate, ...]  # the server's first; the anchor last, if it is a certificate
    anchor: Anchor


def paths(chain: Sequence[bytes], anchors: Sequence[Anchor]) -> Iterator[Trail]:
    """Every path by signatures from the first certificate to one of the anchors, the shortest ways of search first.

    Signatures only: `flaw` says what else is wrong with a path. The search is bounded in depth and in the number
    of signatures. Raises `Malformed` if the first certificate cannot be read.
    """
    leaf = parse(chain[0])
    by_der = {anchor.der: anchor for anchor in anchors if anchor.der}
    keys = [anchor for anchor in anchors if anchor.key]
    pool: dict[bytes, x509.Certificate] = {}
    for der in [*chain[1:MOST_CERTIFICATES], *by_der]:
        try:
            pool.setdefault(der, parse(der))
        except Malformed:
            continue  # one that nobody needs; if it is needed there is no path
    checks = 0
    waiting: list[tuple[tuple[x509.Certificate, ...], frozenset[bytes]]] = [((leaf,), frozenset((chain[0],)))]
    while waiting:
        path, used = waiting.pop(0)
        for anchor in keys:
            checks += 1
            if checks > _MOST_CHECKS:
                return
            if _signed_by_key(path[-1], anchor.key):
                yield Trail(path, anchor)
        for der, issuer in pool.items():
            if der in used or not _names_issuer(path[-1], issuer):
                continue
            checks += 1
            if checks > _MOST_CHECKS:
                return
            if not _issued(path[-1], issuer):
                continue
            longer = (*path, issuer)
            if der in by_der:
                yield Trail(longer, by_der[der])
            if len(longer) < MOST_CERTIFICATES:
                waiting.append((longer, used | {der}))


def _names_issuer(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        return certificate.issuer == issuer.subject
    except _BROKEN:
        return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_BROKEN, InvalidSignature):
        return False
    return True


def _signed_by_key(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether a bare public key made the signature (RFC 7671 section 5.2.2: "2 1 0" without the certificate)."""
    try:
        public = serialization.load_der_public_key(key)
        signature, signed = certificate.signature, certificate.tbs_certificate_bytes
        parameters, digest = certificate.signature_algorithm_parameters, certificate.signature_hash_algorithm
        if isinstance(public, rsa.RSAPublicKey):
            if digest is None or not isinstance(parameters, padding.PKCS1v15 | padding.PSS):
                return False
            public.verify(signature, signed, parameters, digest)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            if not isinstance(parameters, ec.ECDSA):
                return False
            public.verify(signature, signed, parameters)
        elif isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            public.verify(signature, signed)
        else:
            return False
    except (*_BROKEN, InvalidSignature):
        return False
    return True


def flaw(path: Trail, names: Sequence[str], now: int) -> Trouble | None:
    """What is wrong with a path whose signatures are right: dates, names, what its certificates may be used for."""
    leaf, *issuers = path.certificates
    try:
        for certificate in path.certificates:
            if trouble := out_of_date(certificate, now):
                return trouble
            if trouble := _unfit(certificate):
                return trouble
        below = 0  # certificates between the server's and this one that count for its path length
        for issuer in issuers:
            if trouble := _no_authority(issuer, below):
                return trouble
            below += issuer.issuer != issuer.subject
        if not is_for(leaf, names):
            text = f"the certificate is for {shown(leaf)}, wanted is {' or '.join(names)}"
            return Trouble("certificate-host-mismatch", text)
        for issuer in issuers:
            if trouble := _out_of_bounds(issuer, names_of(leaf)):
                return trouble
        usage = _extension(leaf, x509.ExtendedKeyUsage)
        if usage is not None and not _SERVER & set(usage):
            return Trouble("certificate-not-trusted", "the certificate is not meant for servers")
    except Malformed as error:
        return Trouble("certificate-not-trusted", str(error))
    except _BROKEN as error:
        return Trouble("certificate-not-trusted", f"a certificate of the chain cannot be read: {error}")
    return None


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _unfit(certificate: x509.Certificate) -> Trouble | None:
    """Critical extensions that nobody here understands; signatures that can be forged."""
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, _KNOWN):
            text = f"{_subject(certificate)} has a critical extension that is not known: {extension.oid.dotted_string}"
            return Trouble("certificate-not-trusted", text)
    own = certificate.issuer == certificate.subject  # nobody relies on the signature of an anchor on itself
    if not own and isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        text = f"the certificate of {_subject(certificate)} is signed with {certificate.signature_hash_algorithm.name}"
        return Trouble("certificate-not-trusted", text)
    return None


def _no_authority(issuer: x509.Certificate, below: int) -> Trouble | None:
    constraints = _extension(issuer, x509.BasicConstraints)
    usage = _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        return Trouble("certificate-not-trusted", f"{_subject(issuer)} may not issue certificates")
    if constraints.path_length is not None and below > constraints.path_length:
        return Trouble("certificate-not-trusted", f"{_subject(issuer)} may not issue for issuers so far below it")
    return None


def _out_of_bounds(issuer: x509.Certificate, names: Sequence[str]) -> Trouble | None:
    """Name constraints (RFC 5280 section 4.2.1.10), for DNS names: those that we rely on."""
    constraints = _extension(issuer, x509.NameConstraints)
    if constraints is None:
        return None
    permitted = [s.value.lower() for s in constraints.permitted_subtrees or () if isinstance(s, x509.DNSName)]
    excluded = [s.value.lower() for s in constraints.excluded_subtrees or () if isinstance(s, x509.DNSName)]
    for name in names:
        plain = name.removeprefix("*.")
        if (permitted and not any(_below(plain, tree) for tree in permitted)) or any(
            _below(plain, tree) for tree in excluded
        ):
            return Trouble("certificate-not-trusted", f"{_subject(issuer)} may not issue certificates for {name}")
    return None


def _below(name: str, tree: str) -> bool:
    tree = tree.removeprefix(".")
    return not tree or name == tree or name.endswith("." + tree)


# The public CAs


def public_roots(ca: Path | None = None) -> Store | None:
    """The roots of the file `ca`, or those of the system; None if there are none. Blocks while it reads files."""
    certificates = []
    for file in [ca] if ca is not None else _system_files():
        try:
            for block in file.read_bytes().split(b"-----BEGIN CERTIFICATE-----")[1:]:
                pem = b"-----BEGIN CERTIFICATE-----" + block.partition(b"-----END CERTIFICATE-----")[0]
                with warnings.catch_warnings():
                    # Some old roots have serial numbers that are not allowed any more.
                    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                    certificates.append(x509.load_pem_x509_certificate(pem + b"-----END CERTIFICATE-----\n"))
        except (OSError, *_BROKEN):
            continue
    return Store(certificates) if certificates else None


def _system_files() -> list[Path]:
    where = get_default_verify_paths()
    if where.cafile:
        return [Path(where.cafile)]
    return sorted(Path(where.capath).glob("*.[0-9]"))[:2000] if where.capath else []


def untrusted(chain: Sequence[bytes], host: str, roots: Store | None, now: int) -> Trouble | None:
    """Why a chain does not lead to a public root, or is not for the host."""
    if not chain:
        return Trouble("validation-failure", "the server showed no certificate")
    try:
        leaf = parse(chain[0])
        if trouble := out_of_date(leaf, now):
            return trouble
        if not is_for(leaf, (host,)):
            return Trouble("certificate-host-mismatch", f"the certificate is for {shown(leaf)}, wanted is {host}")
        if roots is None:
            return Trouble("certificate-not-trusted", "there are no trusted roots on this machine")
        between = [parse(der) for der in chain[1:MOST_CERTIFICATES]]
        verifier = PolicyBuilder().store(roots).time(moment(now)).build_server_verifier(x509.DNSName(host))
        verifier.verify(leaf, between)
    except VerificationError as error:
        return Trouble("certificate-not-trusted", f"the certificate does not lead to a trusted root: {error}")
    except Malformed as error:
        return Trouble("certificate-not-trusted", str(error))
    except _BROKEN as error:
        return Trouble("certificate-not-trusted", f"the certificate cannot be checked: {error}")
    return None
