"""SASL mechanisms as small machines (RFC 4422), for SMTP, IMAP and POP3 alike: responses in, steps out.

`server(name, ...)` begins an exchange; `step(data)` takes the initial response (None if there was none) and each
answer to a Challenge. `client(name, ...)` is the other side, `choose(...)` picks the best mechanism that both know.
The engines of the protocols do the base64 and the "*" that cancels; whether a password is right, a token valid or
a certificate known is for `auth`. No clock and no randomness here: nonces are handed in, and a mechanism that
needs one and got none is the one thing that raises: nothing does for what a peer sent.
"""

from posthouse.wire.sasl.client import ClientMechanism, choose, client
from posthouse.wire.sasl.scram import ScramKeys, scram_keys
from posthouse.wire.sasl.server import BEARER, MECHANISMS, NEEDS_TLS, PLAINTEXT, server, usable
from posthouse.wire.sasl.steps import (
    Bearer,
    Certificate,
    Challenge,
    Credentials,
    Failure,
    Mechanism,
    Proved,
    Step,
    WantSecret,
)

__all__ = [
    "BEARER",
    "MECHANISMS",
    "NEEDS_TLS",
    "PLAINTEXT",
    "Bearer",
    "Certificate",
    "Challenge",
    "ClientMechanism",
    "Credentials",
    "Failure",
    "Mechanism",
    "Proved",
    "ScramKeys",
    "Step",
    "WantSecret",
    "choose",
    "client",
    "scram_keys",
    "server",
    "usable",
]
