"""TLS contexts: the server's, the clients', and a self-made CA for a server that has no certificate yet.

The self-made CA and certificate lie in a folder, keys readable by their owner only; the certificate is made
anew when it nears its end or the names change. Certificate files of the operator are read again when they
change (`ServerTls.context` looks at most every few seconds), so a renewal needs no restart; both a new file that
was taken up and a broken one, with which the old certificate stays in use, are reported.
"""

import datetime
import ipaddress
import os
import ssl
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthouse.base.errors import Permanent

CA_DAYS, CERTIFICATE_DAYS, RENEW_DAYS = 3650, 397, 30
LOOK_EVERY = 5.0  # seconds between two looks at the certificate's files


# modern: RFC 9325. legacy: what printers and sensors of the last decade can do; never for people.
Profile = Literal["modern", "legacy"]
_MODERN = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!MD5"
_LEGACY = "ALL:!aNULL:!eNULL:!EXPORT:@SECLEVEL=0"


class Pair(NamedTuple):
    """A certificate with its chain, and its key: PEM files."""

    certificate: Path
    key: Path


class ServerContext(ssl.SSLContext):
    """A context that knows what its certificate means for channel binding."""

    end_point: bytes = b""  # tls-server-end-point (RFC 5929 section 4)


class ServerTls:
    """The certificates of a server, kept fresh: one by default, others for clients that ask for their names (SNI)."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        ca: Path | None = None,
        report: Callable[[str], None] = lambda _text: None,
        *,
        taken: Callable[[str], None] = lambda _files: None,
        others: Mapping[str, Pair] = MappingProxyType({}),
        profile: Profile = "modern",
        client_ca: Path | None = None,
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.ca = ca  # of a self-made certificate: what clients have to trust
        self._others = others  # by host name; "*.example.org" is every name just below
        self._report = report  # told why new files cannot be used
        self._taken = taken  # told which files were taken up
        self._profile: Profile = profile
        self._client_ca = client_ca
        self._stamp = self._read_stamp()
        self._context = self._load()
        self._looked = time.monotonic()

    @classmethod
    def self_made(
        cls,
        folder: Path,
        hostname: str,
        report: Callable[[str], None] = lambda _text: None,
        *,
        taken: Callable[[str], None] = lambda _files: None,
        others: Mapping[str, Pair] = MappingProxyType({}),
    ) -> "ServerTls":
        """A certificate from our own CA for the host name, localhost, 127.0.0.1 and ::1."""
        ca, certificate, key = self_made(folder, [hostname, "localhost", "127.0.0.1", "::1"])
        return cls(certificate, key, ca, report, taken=taken, others=others)

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            stamp = self._read_stamp()
            if stamp != self._stamp:
                changed = [str(path) for path, at in stamp.items() if at != self._stamp[path]]
                self._stamp = stamp
                try:
                    self._context = self._load()
                except Permanent as error:
                    self._report(str(error))
                else:
                    self._taken(", ".join(changed))
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = self._one(Pair(self.certificate, self.key))
        by_name = {name.lower(): self._one(pair) for name, pair in self._others.items()}
        if by_name:

            def choose(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _default: ssl.SSLContext) -> None:
                wanted = (name or "").lower()
                found = by_name.get(wanted) or by_name.get("*." + wanted.partition(".")[2])
                if found is not None:
                    tls.context = found

            context.sni_callback = choose
        return context

    def _one(self, pair: Pair) -> ssl.SSLContext:
        return server_context(pair.certificate, pair.key, self._profile, self._client_ca)

    def _read_stamp(self) -> dict[Path, float]:
        """When each file was changed; 0 for one that is not there."""
        pairs = [Pair(self.certificate, self.key), *self._others.values()]
        also = () if self._client_ca is None else (self._client_ca,)
        return {path: _changed(path) for path in (*(path for pair in pairs for path in pair), *also)}


def _changed(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def server_context(
    certificate: Path, key: Path, profile: Profile = "modern", client_ca: Path | None = None
) -> ServerContext:
    """TLS 1.2 and 1.3 with forward secrecy, session tickets on (RFC 9325); or all that OpenSSL still knows.

    With `client_ca` a client may show a certificate from that CA; one from elsewhere fails the handshake.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    legacy = profile == "legacy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 is what the profile is for
        context.minimum_version = ssl.TLSVersion.TLSv1 if legacy else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_LEGACY if legacy else _MODERN)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key)
        context.end_point = _end_point(certificate)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise Permanent(
            f"the certificate {certificate} and key {key} cannot be used: {error}. "
            "They must be PEM files that belong together and be readable by the server."
        ) from error
    if client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise Permanent(f"the CA file {client_ca} cannot be used: {_why_no_ca(error)}") from error
    return context


def _end_point(certificate: Path) -> bytes:
    """The hash of the certificate, by the algorithm of its signature, SHA-256 for those that are too old."""
    own = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    algorithm = own.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return own.fingerprint(algorithm)


def common_name(der: bytes) -> str:
    """The name in a certificate, for the trace; "" if it has none."""
    if not der:
        return ""
    names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value)[:100] if names else ""


def client_context(*, verify: bool, ca: Path | None = None) -> ssl.SSLContext:
    """For connections we open. `verify=False` is opportunistic TLS: encrypted, whoever it is (RFC 7435)."""
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as error:
        raise Permanent(f"the CA file {ca} cannot be used: {_why_no_ca(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why_no_ca(error: OSError) -> str:
    return error.strerror if type(error) is not ssl.SSLError and error.strerror else "it holds no PEM certificate"


def self_made(folder: Path, names: Sequence[str]) -> tuple[Path, Path, Path]:
    """Paths of CA, certificate and key in `folder`, made if they are missing, old or for other names."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_path, ca_key_path = folder / "ca.pem", folder / "ca.key"
    path, key_path = folder / "server.pem", folder / "server.key"
    names = list(dict.fromkeys(names))
    now = datetime.datetime.now(datetime.UTC)
    try:
        ca = x509.load_pem_x509_certificate(ca_path.read_bytes())
        ca_key = serialization.load_pem_private_key(ca_key_path.read_bytes(), None)
        if ca.not_valid_after_utc < now + datetime.timedelta(days=CERTIFICATE_DAYS):
            raise ValueError("the CA nears its end")
        fresh_ca = False
    except (OSError, ValueError):
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _certificate("Posthouse self-made CA", [], ca_key, None, ca_key, CA_DAYS, now)
        _write(ca_key_path, _pem(ca_key), 0o600)
        _write(ca_path, ca.public_bytes(serialization.Encoding.PEM), 0o644)
        fresh_ca = True
    if not fresh_ca and _is_good(path, key_path, names, now):
        return ca_path, path, key_path
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    made = _certificate(names[0], names, key, ca, ca_key, CERTIFICATE_DAYS, now)
    _write(key_path, _pem(key), 0o600)
    _write(path, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return ca_path, path, key_path


def _is_good(path: Path, key_path: Path, names: Sequence[str], now: datetime.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        there = {str(name.value) for name in alternatives}
        return (
            key_path.is_file()
            and set(names) <= there
            and certificate.not_valid_after_utc > now + datetime.timedelta(days=RENEW_DAYS)
        )
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False


def _certificate(
    name: str,
    names: Sequence[str],
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
    now: datetime.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=issuer is None,
                crl_sign=issuer is None,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if issuer is not None:
        alternatives = x509.SubjectAlternativeName([_general_name(n) for n in names])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(alternatives, critical=False).add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a whole file or none, never readable by more than `mode` says."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
