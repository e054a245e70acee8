"""Bearer tokens of an OAuth issuer: whose are they? (RFC 6750, RFC 7519, RFC 7662)

A JWT is verified with the issuer's published keys (JWKS, from a file or by HTTPS, kept for an hour and fetched anew,
at most once a minute, for a key that is not known); issuer, audience, expiry and "not before" must fit. Any other
token is shown to the issuer's introspection endpoint. What cannot be verified, for whatever reason, is not good.
"""

import asyncio
import json
import urllib.parse
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

from posthouse.base.clock import Clock
from posthouse.base.log import Logger
from posthouse.base.settings import OAuth

KEYS_KEPT = 3600.0  # seconds
FETCH_AGAIN = 60.0
TIMEOUT = 10.0
MAX_ANSWER = 256 * 1024
NOT_GOOD = "the token is not good"
LEEWAY = 60  # seconds that clocks may differ
# No shared secrets: a key that verifies could make tokens as well.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class Verifier:
    """Knows the issuer, if one is configured."""

    def __init__(self, oauth: OAuth | None, clock: Clock, log: Logger) -> None:
        self._oauth = oauth
        self._clock = clock
        self._log = log
        self._keys: Any = None
        self._fetched = float("-inf")
        self._lock = asyncio.Lock()

    async def name_of(self, token: str) -> str | None:
        """The account's name that a token speaks for; None if it is not good."""
        name, why = await self.examine(token)
        return None if why else name

    async def examine(self, token: str) -> tuple[str, str]:
        """The account's name, and why the token is not good ("": it is). The name is there for a token that the
        issuer did sign and that is over or for others, too: the record of that account is to tell."""
        oauth, why = self._oauth, ""
        if oauth is None:
            return "", NOT_GOOD
        try:
            if token.count(".") == 2 and oauth.jwks:
                claims = await self._jwt(oauth, token)
                why = _wrong_with(claims, oauth, self._clock.now() // 1_000_000, whole=True)
            elif oauth.introspection:
                claims = await asyncio.to_thread(_introspect, oauth, token)
                why = _wrong_with(claims, oauth, self._clock.now() // 1_000_000, whole=False)
            else:
                return "", NOT_GOOD
        except Exception as error:
            self._log.warning("login.token", why=f"{type(error).__name__}: {str(error)[:200]}")
            return "", NOT_GOOD
        name = claims.get(oauth.claim)
        local_part, _, domain = name.rpartition("@") if isinstance(name, str) and len(name) <= 255 else ("", "", "")
        if not isinstance(name, str) or not (local_part.strip() and domain.strip()):
            return "", why or f"the token names no address ({oauth.claim})"  # a local part alone may be anybody's
        return name, why

    async def _jwt(self, oauth: OAuth, token: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            decoded = jwt.decode(token, await self._key_set(oauth, KEYS_KEPT), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            # The issuer may have a new key.
            decoded = jwt.decode(token, await self._key_set(oauth, FETCH_AGAIN), algorithms=ALGORITHMS)
        claims: dict[str, Any] = decoded.claims
        return claims

    async def _key_set(self, oauth: OAuth, age: float) -> Any:
        async with self._lock:
            now = self._clock.monotonic()
            if now - self._fetched > (age if self._keys is not None else FETCH_AGAIN):
                self._fetched = now
                self._keys = key_set(await asyncio.to_thread(_fetch, oauth.jwks))
            if self._keys is None:
                raise ValueError("there are no keys of the issuer yet")
            return self._keys


def key_set(text: bytes) -> Any:
    """The keys of an issuer (RFC 7517 section 5). Raises `ValueError`."""
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError('there is no list "keys" in it')
    try:
        return KeySet.import_key_set({"keys": document["keys"]})
    except (JoseError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from error


def _wrong_with(claims: dict[str, Any], oauth: OAuth, now: int, *, whole: bool) -> str:
    """Why a token that its issuer vouches for is not good (RFC 7519 section 4.1, RFC 7662 section 2.2); "" if it is.

    A JWT must have issuer, audience and an end (`whole`); what introspection says must fit where it is said.
    """
    audience = claims.get("aud", [])
    audiences = audience if isinstance(audience, list) else [audience]
    if (whole or "iss" in claims) and claims.get("iss") != oauth.issuer:
        return "the token is from another issuer"
    if (whole or "aud" in claims) and oauth.audience not in audiences:
        return "the token is for another audience"
    if (whole or "exp" in claims) and not _seconds(claims.get("exp")) + LEEWAY > now:
        return "the token has expired"
    if "nbf" in claims and not _seconds(claims["nbf"]) - LEEWAY <= now:
        return "the token is not valid yet"
    scope = claims.get("scope", "")
    scopes = scope if isinstance(scope, list) else str(scope).split()
    if not set(oauth.scope.split()) <= {one for one in scopes if isinstance(one, str)}:
        return "the token has not the scope that is wanted"
    if claims.get("email_verified", True) not in (True, "true"):
        return "the issuer has not verified the address"
    return ""


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _fetch(where: str | None) -> bytes:
    assert where is not None
    if not where.startswith(("https://", "http://")):
        return Path(where).read_bytes()
    with urllib.request.urlopen(where, timeout=TIMEOUT) as answer:  # noqa: S310 - https or http, as configured
        data: bytes = answer.read(MAX_ANSWER)
        return data


def _introspect(oauth: OAuth, token: str) -> dict[str, Any]:
    secret = oauth.client_secret_file.read_text("utf-8").strip() if oauth.client_secret_file else ""
    login = b64encode(f"{urllib.parse.quote(oauth.client_id)}:{urllib.parse.quote(secret)}".encode()).decode()
    assert oauth.introspection is not None
    request = urllib.request.Request(  # noqa: S310 - https or http, as configured
        oauth.introspection,
        urllib.parse.urlencode({"token": token, "token_type_hint": "access_token"}).encode(),
        {"Authorization": f"Basic {login}", "Accept": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        claims = json.loads(answer.read(MAX_ANSWER))
    if not isinstance(claims, dict) or claims.get("active") is not True:
        raise ValueError("the issuer says that the token is not active")
    return claims
