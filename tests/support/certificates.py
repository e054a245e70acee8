"""Certificates for tests: a root of our own, and server contexts whose certificate it signed (or not)."""

import datetime
import ssl
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NOW = datetime.datetime.now(datetime.UTC)
_DAY = datetime.timedelta(days=1)
NOW = int(_NOW.timestamp() * 1_000_000)  # a moment when they are good, in microseconds


class Pair(NamedTuple):
    """A certificate and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def pem(self) -> bytes:
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return key + self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_der(self) -> bytes:
        """The public key, as SubjectPublicKeyInfo."""
        return self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def issue(
    name: str,
    issuer: Pair | None,
    *,
    expired: bool = False,
    names: Sequence[str] | None = None,
    authority: bool = False,
    path_length: int | None = None,
    permitted: Sequence[str] = (),
    excluded: Sequence[str] = (),
    for_clients: bool = False,
    strange: bool = False,
    signed_by: Pair | None = None,
) -> Pair:
    """A certificate: without issuer a root. `names` in place of `name`; () for the common name alone. `authority` may
    issue others, within `permitted` and `excluded`. `signed_by` another than it says. `strange`: it has a critical
    extension that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = (name,) if names is None else names
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = signed_by.key if signed_by else issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - 10 * _DAY)
        .not_valid_after(_NOW + (-2 if expired else 10) * _DAY)
        .add_extension(x509.BasicConstraints(ca=issuer is None or authority, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names and not (issuer is None or authority):
        alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(alternatives, critical=False)
    if permitted or excluded:
        constraints = x509.NameConstraints(
            [x509.DNSName(one) for one in permitted] or None, [x509.DNSName(one) for one in excluded] or None
        )
        builder = builder.add_extension(constraints, critical=True)
    if for_clients:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    if strange:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    if issuer is None or authority:
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        builder = builder.add_extension(
            x509.KeyUsage(
                **usage,
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    return Pair(key, builder.sign(signer, hashes.SHA256()))


@cache
def root() -> Pair:
    """The root that clients of the tests trust."""
    return issue("Posthouse test root", None)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="posthouse-test-certificates-")


@cache
def root_file() -> Path:
    """The path of the root's certificate, for clients that check."""
    path = Path(_folder().name, "root.pem")
    path.write_bytes(root().certificate.public_bytes(serialization.Encoding.PEM))
    return path


@cache
def server_context(name: str = "localhost", *, expired: bool = False) -> ssl.SSLContext:
    """A server context with a certificate for `name`, signed by the root."""
    path = Path(_folder().name, f"{name}-{expired}.pem")
    path.write_bytes(issue(name, root(), expired=expired).pem())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


def context_of(pair: Pair, *above: Pair) -> ssl.SSLContext:
    """A server context that shows this certificate and those above it."""
    pem = pair.pem() + b"".join(one.certificate.public_bytes(serialization.Encoding.PEM) for one in above)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile(dir=_folder().name, suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context
