"""What signing and verifying cost, in CPU-ms a message; keys come from a table, without a question to the DNS.

python -m bench.dkim

Each figure is the best of several runs, so that other work on the machine disturbs little.
"""

import asyncio
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from posthouse.senderauth import dkim
from posthouse.senderauth.dkim import PrivateKey, Signer

HEADER = (
    b"Received: from mx.example.net (mx.example.net [192.0.2.1])\r\n\tby mx.example.org with ESMTPS id abc;\r\n"
    b"\tMon, 01 Jan 2024 00:00:00 +0000\r\n"
    * 4
    + b"From: a@example.org\r\nTo: b@example.net\r\nSubject: hello\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
)
LINE = b"The quick brown fox jumps over the lazy dog; it  does so twice a day.\r\n"
NOW = 1_800_000_000


def message(size: int) -> bytes:
    return HEADER + (LINE * (size // len(LINE) + 1))[: size - len(HEADER) - 2] + b"\r\n"


def cost(work: Callable[[], object], times: int) -> float:
    """CPU-ms of one time."""
    best = 1e9
    for _ in range(5):
        start = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - start)
    return best / times * 1000


def main() -> None:
    loop = asyncio.new_event_loop()
    keys: dict[str, PrivateKey] = {
        "RSA-2048": rsa.generate_private_key(65537, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    for size, times in ((4096, 500), (10 << 20, 1)):
        raw = message(size)
        for name, key in keys.items():
            signers, record = [Signer("example.org", "key", key)], dkim.record_of(key).encode()

            async def txt(_: str, record: bytes = record) -> list[bytes]:
                return [record]

            def sign(raw: bytes = raw, signers: list[Signer] = signers) -> bytes:
                return dkim.sign(raw, signers, NOW)

            def verify(signed: bytes = sign(), txt: dkim.Lookup = txt) -> None:
                (result,) = loop.run_until_complete(dkim.verify(signed, txt, NOW))
                assert result.word == "pass"

            print(f"{size:>9} octets, {name}: sign {cost(sign, times):.3f}, verify {cost(verify, times):.3f} CPU-ms")
    loop.close()


if __name__ == "__main__":
    main()
