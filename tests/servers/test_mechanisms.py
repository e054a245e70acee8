"""All mechanisms over the real protocols: SCRAM, CRAM-MD5, app passwords, second factor, tokens, certificates."""

import asyncio
import base64
import datetime
import hashlib
import imaplib
import json
import poplib
import smtplib
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

from posthouse.auth import passwords, totp
from posthouse.auth.login import salt_of
from posthouse.store import accounts, attempts, credentials
from posthouse.wire import sasl
from tests.support.house import PASSWORD, House, opened

ALICE = "alice@posthouse.test"
PROTOCOLS = ["smtp", "imap", "pop3"]


def run(folder: Path, test: Callable[[House], Awaitable[None]], **changes: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), opened(folder, **changes) as house:
            await test(house)

    asyncio.run(main())


def end_point(house: House) -> dict[str, bytes]:
    assert house.app.tls is not None
    der = ssl.PEM_cert_to_DER_cert(house.app.tls.certificate.read_text())
    return {"tls-server-end-point": hashlib.sha256(der).digest()}


def log_in(house: House, protocol: str, mechanism: str, context: ssl.SSLContext | None = None, **secrets: Any) -> bool:
    """Log in over TLS with our own client machines, driven by the standard library's clients."""
    name = secrets.pop("name", ALICE)
    client = sasl.client(mechanism, name, nonce="nonce-of-the-client", **secrets)
    assert client is not None
    context = context or house.context
    answered = False

    def answer(challenge: bytes | None) -> bytes:
        nonlocal answered
        if challenge is None or (not challenge and not answered and client.initial is not None):
            answered = True
            first, client.initial = client.initial, None
            return first or b""
        response = client.step(challenge)
        if response is None:
            raise ConnectionAbortedError
        return response

    try:
        if protocol == "smtp":
            with smtplib.SMTP_SSL("localhost", house.ports["submissions"], context=context) as smtp:
                smtp.ehlo()
                code, _ = smtp.auth(mechanism, lambda c=None: answer(c).decode(), initial_response_ok=False)
                return code == 235 and client.finished
        if protocol == "imap":
            with imaplib.IMAP4_SSL("localhost", house.ports["imaps"], ssl_context=context) as imap:
                return imap.authenticate(mechanism, answer)[0] == "OK" and client.finished
        pop3 = poplib.POP3_SSL("localhost", house.ports["pop3s"], context=context)
        try:
            line = pop3._shortcmd(f"AUTH {mechanism}")  # type: ignore[attr-defined]
            while line.startswith(b"+ ") or line == b"+":
                given = answer(base64.b64decode(line[2:]))
                line = pop3._shortcmd(base64.b64encode(given).decode())  # type: ignore[attr-defined]
            return bool(line.startswith(b"+OK")) and client.finished
        finally:
            pop3.close()
    except (smtplib.SMTPAuthenticationError, imaplib.IMAP4.error, poplib.error_proto, ConnectionAbortedError):
        return False


BINDING = {"auth": {"channel_binding": True}}
CRAM = {
    "listen": [
        {"service": one, "address": "127.0.0.1", "port": 0, "cram_md5": True}
        for one in ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
    ]
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scram(tmp_path: Path, protocol: str) -> None:
    async def test(house: House) -> None:
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
            bound = end_point(house) if mechanism.endswith("-PLUS") else {}
            assert await asyncio.to_thread(log_in, house, protocol, mechanism, password=PASSWORD, bindings=bound)
            assert not await asyncio.to_thread(log_in, house, protocol, mechanism, password="wrong", bindings=bound)
        false = {"tls-server-end-point": b"of somebody in the middle"}
        assert not await asyncio.to_thread(
            log_in, house, protocol, "SCRAM-SHA-256-PLUS", password=PASSWORD, bindings=false
        )
        assert not await asyncio.to_thread(
            log_in, house, protocol, "SCRAM-SHA-256", password=PASSWORD, name="nobody@posthouse.test"
        )

    run(tmp_path, test, **BINDING)


def test_nobody_learns_who_exists(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        async def first(name: str) -> str:
            bare = base64.b64encode(f"n,,n={name},r=x".encode()).decode()
            replies = await house.said("submission", "EHLO c.example", f"AUTH SCRAM-SHA-256 {bare}")
            return base64.b64decode(replies[-1][4:]).decode().partition(",s=")[2]

        assert await first("nobody") == await first("nobody")
        assert len(await first("nobody")) == len(await first("alice@posthouse.test"))
        assert await first("nobody") != await first("noone")

    run(tmp_path, test)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cram_md5_is_for_who_opted_in(tmp_path: Path, protocol: str) -> None:
    async def test(house: House) -> None:
        assert not await asyncio.to_thread(log_in, house, protocol, "CRAM-MD5", password=PASSWORD)
        alice = await house.database.read(credentials.find, ALICE)
        assert alice is not None
        await house.database.write(credentials.add, alice.account_id, "cram", "readable", 1)
        assert await asyncio.to_thread(log_in, house, protocol, "CRAM-MD5", password="readable")
        assert not await asyncio.to_thread(log_in, house, protocol, "PLAIN", password="readable")

    run(tmp_path, test, **CRAM)


async def record(house: House) -> list[tuple[str, str]]:
    """(mechanism, result) of the attempts on alice, the newest first."""
    await house.app.logins.write_down()
    alice = await house.database.read(credentials.find, ALICE)
    assert alice is not None
    rows = await house.database.read(attempts.of_account, alice.account_id)
    return [(row.mechanism, row.result) for row in rows]


def test_who_has_no_cram_md5_password_is_not_made_to_wait(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for _ in range(7):
            assert not await asyncio.to_thread(log_in, house, "smtp", "CRAM-MD5", password=PASSWORD)
        assert await asyncio.to_thread(log_in, house, "smtp", "PLAIN", password=PASSWORD)
        assert await record(house) == [
            ("PLAIN", "accepted"), *[("CRAM-MD5", "this account has no CRAM-MD5 password")] * 7
        ]  # fmt: skip

    run(tmp_path, test, **CRAM, limits={"trusted": []})


def test_cram_md5_is_offered_where_a_port_says_so(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        assert not any("CRAM-MD5" in one for one in await house.said("submission", "EHLO c.example"))

    run(tmp_path, test)


def test_the_record_says_why(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        word, old = passwords.new_app_password(), passwords.new_app_password()
        await add_app_password(house, word, "phone", scopes="imap")
        await add_app_password(house, old, "old", expires=1)
        await add_app_password(house, "far-password", "far", networks="192.0.2.0/24")
        tried = [
            ("PLAIN", word, "app password 'phone' is not for smtp"),
            ("PLAIN", old, "app password 'old' has expired"),
            ("PLAIN", "wrong", "wrong password"),
            ("SCRAM-SHA-256", word, "wrong password, or: app password 'phone' is not for smtp"),
        ]
        for mechanism, password, why in tried:
            assert not await asyncio.to_thread(log_in, house, "smtp", mechanism, password=password)
            assert (await record(house))[0] == (mechanism, why)

    run(tmp_path, test)


async def add(house: House, kind: str, secret: str, **fields: Any) -> None:
    alice = await house.database.read(credentials.find, ALICE)
    assert alice is not None
    await house.database.write(credentials.add, alice.account_id, kind, secret, 1, **fields)


async def add_app_password(house: House, password: str, label: str, **bounds: Any) -> None:
    alice = await house.database.read(credentials.find, ALICE)
    assert alice is not None
    made = passwords.make(password, salt=salt_of(alice))
    await add(house, "app", passwords.fast_hash(password), label=label, scram=made.scram, **bounds)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_app_passwords_have_bounds_and_the_second_factor_needs_them(tmp_path: Path, mechanism: str) -> None:
    async def test(house: House) -> None:
        async def works(password: str, protocol: str = "imap") -> bool:
            return await asyncio.to_thread(log_in, house, protocol, mechanism, password=password)

        words = {name: passwords.new_app_password() for name in ("any", "imap", "far", "old", "here")}
        now = house.app.clock.now()
        await add_app_password(house, words["any"], "any")
        await add_app_password(house, words["imap"], "imap", scopes="imap")
        await add_app_password(house, words["far"], "far", networks="192.0.2.0/24 2001:db8::/32")
        await add_app_password(house, words["here"], "here", networks="127.0.0.0/8")
        await add_app_password(house, words["old"], "old", expires=now - 1)
        assert await works(PASSWORD)
        for turn in range(2):
            assert await works(words["any"], "smtp")
            assert await works(words["any"], "pop3")
            assert await works(words["imap"], "imap")
            assert not await works(words["imap"], "smtp")
            assert not await works(words["imap"], "pop3")
            assert not await works(words["far"])
            assert await works(words["here"])
            assert not await works(words["old"])
            if turn == 0:
                await add(house, "totp", totp.new_secret())
                assert not await works(PASSWORD), "the second factor is on"
        if mechanism == "PLAIN":
            assert await works(words["any"].replace("-", " ").upper()), "however it is typed"

    run(tmp_path, test)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_our_own_tokens(tmp_path: Path, protocol: str, mechanism: str) -> None:
    async def test(house: House) -> None:
        token = passwords.new_token()
        assert not await asyncio.to_thread(log_in, house, protocol, mechanism, token=token)
        await add(house, "token", passwords.fast_hash(token), label="script")
        assert await asyncio.to_thread(log_in, house, protocol, mechanism, token=token)
        assert not await asyncio.to_thread(log_in, house, protocol, mechanism, token=token, name="bob@posthouse.test")
        await house.database.write(accounts.add_address, "info@posthouse.test", ALICE)
        assert await asyncio.to_thread(log_in, house, protocol, mechanism, token=token, name="info@posthouse.test")

    run(tmp_path, test)


def test_tokens_of_an_issuer(tmp_path: Path) -> None:
    key, other = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    jwks = tmp_path / "keys.json"
    jwks.write_text(json.dumps({"keys": [{**key.as_dict(private=False), "kid": "1", "use": "sig"}]}))
    good = {"iss": "https://login.example", "aud": "mail", "email": ALICE, "exp": int(time.time()) + 600}

    def token(claims: dict[str, Any], signer: ECKey = key, **header: Any) -> str:
        return jwt.encode({"alg": "ES256", "kid": "1", **header}, claims, signer)

    def shared_secret() -> str:
        """A token "signed" with the public key as a secret: the classic attack."""
        part = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in ({"alg": "HS256"}, good)]
        return b".".join([*part, b"AAAA"]).decode()

    async def test(house: House) -> None:
        async def works(text: str) -> bool:
            return await asyncio.to_thread(log_in, house, "imap", "OAUTHBEARER", token=text)

        assert await works(token(good))
        for change in (
            {"iss": "https://evil.example"}, {"aud": "other"}, {"exp": 1}, {"exp": None}, {"nbf": time.time() + 999},
            {"email": "nobody@posthouse.test"}, {"email": 7},
        ):  # fmt: skip
            assert not await works(token(good | change)), change
        assert not await works(token(good, other))
        assert not await works(shared_secret())
        assert not await works("a.b.c")

    oauth = {"issuer": "https://login.example", "audience": "mail", "jwks": str(jwks)}
    run(tmp_path, test, auth={"oauth": oauth}, limits={"trusted": ["127.0.0.0/8"], "errors": 50})


def client_ca(folder: Path) -> tuple[Path, ssl.SSLContext, str]:
    """A CA, a context with a certificate of it, and that certificate's fingerprint."""
    now = datetime.datetime.now(datetime.UTC)

    def build(name: str, key: Any, issuer: str, signer: Any, is_ca: bool) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_ca, None), True)
            .sign(signer, hashes.SHA256())
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = build("clients", ca_key, "clients", ca_key, True)
    certificate = build("printer 7", key, "clients", ca_key, False)
    pem = serialization.Encoding.PEM
    (folder / "clients.pem").write_bytes(ca.public_bytes(pem))
    (folder / "client.pem").write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context()
    context.load_cert_chain(folder / "client.pem")
    return folder / "clients.pem", context, certificate.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_certificate(tmp_path: Path, protocol: str) -> None:
    ca, context, fingerprint = client_ca(tmp_path)

    async def test(house: House) -> None:
        assert house.app.tls is not None
        context.load_verify_locations(house.app.tls.ca)

        def works(with_certificate: bool, **secrets: Any) -> bool:
            return log_in(house, protocol, "EXTERNAL", context if with_certificate else None, **secrets)

        assert not await asyncio.to_thread(works, True), "nobody's yet"
        await add(house, "certificate", fingerprint, label="printer")
        assert await asyncio.to_thread(works, True)
        assert await asyncio.to_thread(works, True, authzid=ALICE)
        assert not await asyncio.to_thread(works, True, authzid="bob@posthouse.test")
        assert not await asyncio.to_thread(works, False)

    listen = [
        {"service": name, "address": "127.0.0.1", "port": 0, "client_ca": str(ca)}
        for name in ("submissions", "imaps", "pop3s")
    ]
    run(tmp_path, test, listen=listen)


def test_every_attempt_is_recorded(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await add_app_password(house, "abcd-efgh-ijkl-mnop", "phone")
        for password in ("wrong", PASSWORD, "abcd-efgh-ijkl-mnop"):
            await asyncio.to_thread(log_in, house, "imap", "PLAIN", password=password)
        await asyncio.to_thread(log_in, house, "smtp", "SCRAM-SHA-256", password="wrong")
        await house.app.logins._recorder.flush()
        alice = await house.database.read(credentials.find, ALICE)
        assert alice is not None
        seen = await house.database.read(attempts.of_account, alice.account_id)
        assert [(one.service, one.mechanism, one.result, one.credential) for one in seen] == [
            ("smtp", "SCRAM-SHA-256", "wrong password", ""),
            ("imap", "PLAIN", "accepted", "phone"),
            ("imap", "PLAIN", "accepted", ""),
            ("imap", "PLAIN", "wrong password", ""),
        ]
        assert {one.ip for one in seen} == {"127.0.0.1"}
        assert all(one.used for one in alice.credentials)

    run(tmp_path, test)
