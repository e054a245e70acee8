"""TLS: the certificate we make ourselves, and that contexts take and refuse what they should."""

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from posthouse.base.errors import Permanent
from posthouse.net import tls

NAMES = ["mail.posthouse.test", "localhost", "127.0.0.1", "::1"]
Files = tuple[Path, Path, Path]  # CA, certificate, key


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends in memory, until both are done."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ends[0], ends[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return tls.self_made(tmp_path_factory.mktemp("tls") / "new" / "tls", NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_ca_is_content(files: Files, name: str) -> None:
    ca, certificate, key = files
    client, _ = handshake(tls.server_context(certificate, key), tls.client_context(verify=True, ca=ca), name)
    assert client.version() == "TLSv1.3"


def test_a_client_that_does_not_is_not(files: Files) -> None:
    ca, certificate, key = files
    server = tls.server_context(certificate, key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(verify=True), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(verify=True, ca=ca), "other.example")
    client, _ = handshake(server, tls.client_context(verify=False), "other.example")
    assert client.cipher() is not None


def test_tls_12_works_and_weak_ciphers_do_not(files: Files) -> None:
    ca, certificate, key = files
    server, client = tls.server_context(certificate, key), tls.client_context(verify=True, ca=ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    done, _ = handshake(server, client, "localhost")
    assert done.version() == "TLSv1.2"
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2
    client.set_ciphers("AES128-SHA")
    with pytest.raises(ssl.SSLError):
        handshake(server, client, "localhost")


def test_sessions_are_resumed(files: Files) -> None:
    ca, certificate, key = files
    server, client = tls.server_context(certificate, key), tls.client_context(verify=True, ca=ca)
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the ticket comes after the handshake
    first, _ = handshake(server, client, "localhost")
    again, _ = handshake(server, client, "localhost", first.session)
    assert again.session_reused


def test_private_keys_are_private(files: Files) -> None:
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in files[0].parent.iterdir()}
    assert modes == {".key": 0o600, ".pem": 0o644}


def test_it_is_kept_until_the_names_change(tmp_path: Path) -> None:
    def made(*names: str) -> tuple[bytes, bytes]:
        ca, certificate, _ = tls.self_made(tmp_path, names)
        return certificate.read_bytes(), ca.read_bytes()

    first, ca = made("a.test", "b.test")
    assert made("b.test", "a.test") == (first, ca), "the order of names is no reason"
    other, same_ca = made("a.test", "c.test")
    assert other != first
    assert same_ca == ca, "clients that trust the CA go on"
    (tmp_path / "ca.key").write_text("damaged")
    assert made("a.test", "c.test")[1] != ca


def test_it_is_renewed_before_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, certificate, _ = tls.self_made(tmp_path, ["a.test"])
    first = certificate.read_bytes()
    monkeypatch.setattr(tls, "RENEW_DAYS", tls.CERTIFICATE_DAYS + 1)
    tls.self_made(tmp_path, ["a.test"])
    assert certificate.read_bytes() != first


def test_the_certificate_says_what_it_is_for(files: Files) -> None:
    ca, leaf = (x509.load_pem_x509_certificate(path.read_bytes()) for path in files[:2])
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    leaf.verify_directly_issued_by(ca)
    assert leaf.not_valid_after_utc < datetime.now(UTC) + timedelta(days=398), "more is refused by some clients"


def test_files_that_cannot_be_used(files: Files, tmp_path: Path) -> None:
    other_key = tls.self_made(tmp_path, ["other.test"])[2]
    with pytest.raises(Permanent, match="belong together"):
        tls.server_context(files[1], other_key)
    with pytest.raises(Permanent, match="cannot be used"):
        tls.server_context(tmp_path / "none.pem", other_key)


def test_new_files_are_taken_and_broken_ones_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.0)
    told: list[str] = []
    ca, certificate, key = tls.self_made(tmp_path, ["old.test"])
    server, client = tls.ServerTls(certificate, key, ca, told.append), tls.client_context(verify=True, ca=ca)
    handshake(server.context(), client, "old.test")
    tls.self_made(tmp_path, ["new.test"])
    os.utime(certificate, (1, 1))  # the clock of the file system may be coarser than this test is quick
    handshake(server.context(), client, "new.test")
    certificate.write_text("damaged")
    handshake(server.context(), client, "new.test")
    assert len(told) == 1
