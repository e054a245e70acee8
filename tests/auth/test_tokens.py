"""Tokens of an OAuth issuer: keys by HTTP that change, introspection, and an issuer that is in trouble."""

import asyncio
import base64
import contextlib
import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from posthouse.auth import tokens
from posthouse.auth.tokens import Verifier
from posthouse.base.log import get_logger
from posthouse.base.settings import OAuth
from tests.support.clock import START, FakeClock

ALICE = "alice@posthouse.test"


class Issuer(ThreadingHTTPServer):
    """An issuer on loopback: it publishes `keys` and knows `active` tokens."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: dict[str, Any] = {"keys": []}
        self.active: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked.append("keys")
        self._answer(self.server.keys)

    def do_POST(self) -> None:
        self.server.asked.append(str(self.headers["Authorization"]))
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer(self.server.active.get(form["token"][0], {"active": False}))

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(500 if self.server.broken else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def issuer() -> Iterator[Issuer]:
    with Issuer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def published(key: ECKey, kid: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid}


def token(key: ECKey, kid: str) -> str:
    claims = {"iss": "https://login.test", "aud": "mail", "email": ALICE, "exp": START // 1_000_000 + 90_000}
    return jwt.encode({"alg": "ES256", "kid": kid}, claims, key)


def test_a_new_key_is_fetched_but_not_for_every_token() -> None:
    old, new = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    with issuer() as server:
        server.keys = {"keys": [published(old, "1")]}
        clock = FakeClock()
        verifier = Verifier(
            OAuth(issuer="https://login.test", audience="mail", jwks=f"{server.url}/keys"), clock, get_logger()
        )

        async def main() -> None:
            assert await verifier.name_of(token(old, "1")) == ALICE
            server.keys = {"keys": [published(new, "2")]}
            assert await verifier.name_of(token(new, "2")) is None, "a minute must pass between two questions"
            assert server.asked == ["keys"]
            clock.move(tokens.FETCH_AGAIN + 1)
            assert await verifier.name_of(token(new, "2")) == ALICE
            assert await verifier.name_of(token(new, "2")) == ALICE
            assert server.asked == ["keys"] * 2
            assert await verifier.name_of(token(old, "1")) is None, "the old key is gone"
            server.broken = True
            clock.move(tokens.KEYS_KEPT + 1)
            assert await verifier.name_of(token(new, "2")) is None

        asyncio.run(main())


def test_introspection(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush & hush\n")
    with issuer() as server:
        server.active = {
            "good": {"active": True, "email": ALICE},
            "odd": {"active": "yes", "email": ALICE},
            "nameless": {"active": True},
        }
        oauth = OAuth(
            issuer="https://login.test",
            audience="mail",
            introspection=f"{server.url}/introspect",
            client_id="mail",
            client_secret_file=secret,
        )
        verifier = Verifier(oauth, FakeClock(), get_logger())

        async def main() -> None:
            answers = {one: await verifier.name_of(one) for one in ("good", "bad", "odd", "nameless")}
            assert answers == {"good": ALICE, "bad": None, "odd": None, "nameless": None}
            assert base64.b64decode(server.asked[0].removeprefix("Basic ")) == b"mail:hush%20%26%20hush"
            server.broken = True
            assert await verifier.name_of("good") is None

        asyncio.run(main())


def test_without_an_issuer_no_token_is_good() -> None:
    assert asyncio.run(Verifier(None, FakeClock(), get_logger()).name_of("x")) is None


NOW = START // 1_000_000
GOOD: dict[str, Any] = {
    "iss": "https://login.test",
    "aud": ["mail"],
    "exp": NOW + 600,
    "email": ALICE,
    "scope": "a mail",
}
CHANGES: list[dict[str, Any]] = [
    {"iss": "https://other.test"},
    {"aud": "another-service"},
    {"exp": 1},
    {"exp": math.nan},
    {"exp": True},
    {"nbf": NOW + 900},
    {"nbf": "soon"},
    {"scope": "calendar"},
    {"email_verified": False},
    {"email": "alice"},
    {"email": "alice@"},
    {"email": "@posthouse.test"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_what_is_said_of_a_token_must_fit(change: dict[str, Any]) -> None:
    key = ECKey.generate_key("P-256")
    with issuer() as server:
        server.keys = {"keys": [published(key, "1")]}
        server.active = {"good": {"active": True, **GOOD}, "bad": {"active": True, **GOOD, **change}}
        oauth = OAuth(
            issuer="https://login.test",
            audience="mail",
            scope="mail",
            jwks=f"{server.url}/keys",
            introspection=f"{server.url}/introspect",
        )
        verifier = Verifier(oauth, FakeClock(), get_logger())

        async def main() -> None:
            signed = [jwt.encode({"alg": "ES256", "kid": "1"}, GOOD | more, key) for more in ({}, change)]
            assert await verifier.name_of("good") == ALICE
            assert await verifier.name_of(signed[0]) == ALICE
            assert await verifier.name_of("bad") is None
            assert await verifier.name_of(signed[1]) is None

        asyncio.run(main())


def test_keys_that_cannot_be_fetched_at_the_start_are_asked_for_once_a_minute() -> None:
    key = ECKey.generate_key("P-256")
    with issuer() as server:
        server.keys = {"keys": [published(key, "1")]}
        server.broken = True
        clock = FakeClock()
        oauth = OAuth(issuer="https://login.test", audience="mail", jwks=f"{server.url}/keys")
        verifier = Verifier(oauth, clock, get_logger())

        async def main() -> None:
            for _ in range(5):
                assert await verifier.name_of(token(key, "1")) is None
            assert server.asked == ["keys"]
            server.broken = False
            clock.move(tokens.FETCH_AGAIN + 1)
            assert await verifier.name_of(token(key, "1")) == ALICE

        asyncio.run(main())
