"""The self-made CA and the contexts: names, file modes, renewal, a certificate that changes under way."""

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from posthouse.base.errors import Permanent
from posthouse.net import tls


def test_the_certificate_names_all_and_keys_are_private(tmp_path: Path) -> None:
    ca, certificate, key = tls.self_made(tmp_path, ["mail.example.org", "localhost", "127.0.0.1", "::1"])
    names = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(n.value) for n in names.value] == ["mail.example.org", "localhost", "127.0.0.1", "::1"]
    for path in (key, tmp_path / "ca.key"):
        assert os.stat(path).st_mode & 0o777 == 0o600
    before = certificate.read_bytes()
    assert tls.self_made(tmp_path, ["mail.example.org", "localhost"])[1].read_bytes() == before, "still good"
    tls.self_made(tmp_path, ["other.example.org"])
    assert certificate.read_bytes() != before
    assert ca.read_bytes() == (tmp_path / "ca.pem").read_bytes()


def test_old_protocols_are_not_spoken(tmp_path: Path) -> None:
    server = tls.ServerTls.self_made(tmp_path, "mail.example.org")
    assert server.context().minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.client_context(verify=True).verify_mode is ssl.CERT_REQUIRED
    assert tls.client_context(verify=False).verify_mode is ssl.CERT_NONE


def test_a_new_certificate_is_taken_up_and_a_broken_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    taken: list[str] = []
    _, certificate, key = tls.self_made(tmp_path, ["mail.example.org"])
    server = tls.ServerTls(certificate, key, report=said.append, taken=taken.append)
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.0)
    first = server.context()
    assert server.context() is first
    tls.self_made(tmp_path, ["new.example.org"])
    os.utime(certificate, (1, 1))
    second = server.context()
    assert second is not first
    assert str(certificate) in taken[0]
    certificate.write_text("broken")
    os.utime(certificate, (2, 2))
    assert server.context() is second
    assert (len(said), len(taken)) == (1, 1)
    certificate.unlink()
    assert server.context() is second
    assert len(said) == 2
    with pytest.raises(Permanent, match="PEM"):
        tls.server_context(certificate, key)


def test_a_broken_certificate_by_name_is_told_beside_a_self_made_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    _, certificate, key = tls.self_made(tmp_path / "named", ["other.example.org"])
    others = {"other.example.org": tls.Pair(certificate, key)}
    server = tls.ServerTls.self_made(tmp_path / "own", "mail.example.org", said.append, others=others)
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.0)
    first = server.context()
    certificate.write_text("broken")
    os.utime(certificate, (1, 1))
    assert server.context() is first
    assert len(said) == 1
    assert str(certificate) in said[0]


def test_a_ca_of_clients_that_is_none_is_named(tmp_path: Path) -> None:
    _, certificate, key = tls.self_made(tmp_path, ["mail.here.test"])
    with pytest.raises(Permanent, match=r"CA file .*server\.key cannot be used: it holds no PEM certificate"):
        tls.server_context(certificate, key, client_ca=key)


def test_a_new_ca_of_clients_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, certificate, key = tls.self_made(tmp_path / "server", ["mail.here.test"])
    other, _, _ = tls.self_made(tmp_path / "other", ["other.test"])
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(ca.read_bytes())
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.0)
    server = tls.ServerTls(certificate, key, client_ca=trusted)
    before = server.context().get_ca_certs(binary_form=True)
    trusted.write_bytes(other.read_bytes())
    os.utime(trusted, (1, 1))
    after = server.context().get_ca_certs(binary_form=True)
    assert len(before) == len(after) == 1
    assert before != after
