"""The keys that domains of ours sign with: made here, and looked for in the DNS as everybody else will look.

Making an RSA key takes a tenth of a second or more: on a worker thread. `look` never raises for what the DNS does.
Where keys are kept is `store/dkim_keys.py`, when they are made and used `servers/rotation.py`.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from posthouse.base.errors import Permanent, Temporary
from posthouse.net.dns import Resolver
from posthouse.senderauth import dkim_tags
from posthouse.senderauth.dkim_crypto import MAX_RECORDS, PrivateKey, record_of
from posthouse.senderauth.dkim_tags import Fault
from posthouse.store.dkim_keys import NewKey

# RFC 8301 section 3.2 wants 1024 to 4096 bits and advises 2048. The record of a longer one is larger than many a UDP
# answer may be.
RSA_BITS = 2048
_PREFIXES = {"rsa-sha256": "rsa", "ed25519-sha256": "ed"}


def make(algorithms: Iterable[str], now: int) -> list[NewKey]:
    """A new key for each algorithm. Selectors tell kind and time: "rsa-20261128-0931". `now` is in microseconds."""
    at = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y%m%d-%H%M")
    return [_made(algorithm, f"{_PREFIXES[algorithm]}-{at}") for algorithm in algorithms]


def _made(algorithm: str, selector: str) -> NewKey:
    key: PrivateKey
    key = generate_private_key(65537, RSA_BITS) if algorithm == "rsa-sha256" else Ed25519PrivateKey.generate()
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return NewKey(selector, algorithm, der, record_of(key))


def loaded(der: bytes) -> PrivateKey:
    """A key as `make` made it. Raises ValueError if it is none."""
    # It was checked when it was made, and whoever can change the database has the keys anyway.
    key = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError("neither RSA nor Ed25519")
    return key


class Look(NamedTuple):
    """What the DNS says of the record of a key."""

    present: bool | None  # None: it gave no answer
    trouble: str = ""  # a sentence; "" if all is well


async def look(resolvers: Sequence[Resolver], name: str, record: str) -> Look:
    """Whether every resolver knows the key record at `name`, and no other beside it."""
    looks = await asyncio.gather(*(_look(resolver, name, record) for resolver in resolvers))
    for wanted in (False, None):
        for one in looks:
            if one.present is wanted:
                return one
    return Look(True)


async def _look(resolver: Resolver, name: str, record: str) -> Look:
    try:
        texts = await resolver.txt(name)
    except Permanent:
        return Look(False, "the DNS has no such name")
    except (Temporary, TimeoutError, OSError) as error:
        return Look(None, f"the DNS gave no answer: {error}")
    if not texts:
        return Look(False, "the name has no TXT record")
    if len(texts) > MAX_RECORDS:
        return Look(False, f"the name has {len(texts)} TXT records")
    ours = dkim_tags.record(record.encode())
    found = [dkim_tags.record(text) for text in texts]
    keys = [one for one in found if not isinstance(one, Fault)]
    if isinstance(ours, Fault) or not keys:
        faults = [one.reason for one in found if isinstance(one, Fault)]
        return Look(False, f"the record cannot be used: {faults[0]}" if faults else "the record cannot be used")
    if len(keys) > 1:
        # RFC 6376 section 3.6.2.2: which of them a verifier takes is not said.
        return Look(False, "the name has more than one key record")
    if (keys[0].kind, keys[0].key) != (ours.kind, ours.key):
        return Look(False, "the record holds another key")
    return Look(True)
